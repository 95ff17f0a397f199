"""What holds for all tests: their kinds, that a failure's text can be sent, no imports of tests, no private patches."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import execnet
import pytest
from covering import FULL, chosen
from markers import INTEGRATION

KINDS = {"unit", "integration"}
TESTS = Path(__file__).parent


def test_every_test_is_of_exactly_one_kind(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        kinds = [mark.name for mark in item.iter_markers() if mark.name in KINDS]
        assert len(kinds) == 1, f"{item.nodeid}: {kinds}; tests/markers.py alone says the kind"


@pytest.mark.parametrize("name", INTEGRATION)
def test_what_is_named_as_integration_is_there(name: str) -> None:
    """A test that was renamed would otherwise become unit."""
    file, _, test = name.partition("::")
    (path,) = TESTS.rglob(file)
    assert f"def {test}" in path.read_text()


@pytest.mark.skipif(FULL, reason="all combinations were asked for")
def test_two_factors_as_indices_meet_each_value_of_a_third() -> None:
    """As in a Latin square: 17 samplers and 4 families meet each of 4 settings."""
    met = {(sampler, chosen("abcd", family, sampler)[0]) for sampler in range(17) for family in range(4)}
    met |= {(-family, chosen("abcd", family, sampler)[0]) for sampler in range(17) for family in range(1, 4)}
    assert len(met) == 4 * (17 + 3)


def test_half_of_a_surrogate_pair_in_a_failure_can_be_sent(pytestconfig: pytest.Config) -> None:
    """Between the processes of pytest-xdist; without the hook, the whole run ended with an internal error."""
    said = "assert 'a' == '\ud800'"
    with pytest.raises(execnet.DumpError):
        execnet.dumps(said)
    report = pytest.TestReport("t.py::t", ("t.py", 1, "t"), {}, "failed", said, "call", sections=[("stdout", said)])
    data = pytestconfig.hook.pytest_report_to_serializable(config=pytestconfig, report=report)
    sent = execnet.loads(execnet.dumps(data))
    assert sent["longrepr"] == sent["sections"][0][1] == "assert 'a' == '\\ud800'"


def test_no_two_modules_of_tests_share_a_name() -> None:
    """They are imported by it alone, so one of the two would be taken for the other."""
    names = [path.name for path in TESTS.rglob("*.py") if path.name not in {"conftest.py", "__init__.py"}]
    assert sorted(names) == sorted(set(names))


# What a stranger can carry on -----------------------------------------------------------------------------------------

FILES = [path for path in sorted(TESTS.rglob("*.py")) if path.parent.name != "reference"]
"""Without the programs that run others' code as it was released, by whatever names it has."""
IN_A_PROGRAM = re.compile(r"\b(?!self\b|cls\b)\w+\._[a-z]\w* = ")
A_PATCH = re.compile(r"\b(set|del)(attr|item)\(|\._[a-z]\w* = ")
"""Files without such text have no patch: most need no parsing."""
PATCHES = {"setattr", "setitem", "delattr", "delitem"}


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def patched(call: ast.Call) -> list[str]:
    """What a call of `setattr`, of the language or of pytest's `monkeypatch`, replaces."""
    word = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if word not in PATCHES:
        return []
    owners = [one.attr for one in call.args[:1] if isinstance(one, ast.Attribute)]
    return owners + [one.value for one in call.args[:2] if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def replaced(node: ast.AST) -> list[str]:
    """Names that a node puts something else in the place of."""
    if isinstance(node, ast.Call):
        return [part for name in patched(node) for part in name.split(".")]
    targets = node.targets if isinstance(node, ast.Assign) else []
    given = [one for one in targets if isinstance(one, ast.Attribute)]
    return [one.attr for one in given if not (isinstance(one.value, ast.Name) and one.value.id in ("self", "cls"))]


def test_no_test_file_imports_another() -> None:
    """A test file that moves or is split would take others with it; what two share is in a module that is no test."""
    imports = re.compile(r"\b(?:from|import) (?:\w+\.)*test_\w+")
    found = {path.relative_to(TESTS).as_posix(): imports.findall(path.read_text()) for path in FILES}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_no_private_name_is_patched() -> None:
    """A private name may change with no test in the way; a test uses a public one, or a real case."""
    found: dict[str, list[str]] = {}
    for path in FILES:
        if not A_PATCH.search(text := path.read_text()):
            continue
        names = [name for node in ast.walk(ast.parse(text)) for name in replaced(node) if private(name)]
        if path != Path(__file__):
            names += IN_A_PROGRAM.findall(text)  # programs that tests start are texts
        found[path.relative_to(TESTS).as_posix()] = names
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        'monkeypatch.setattr(registry, "_plugins", {})',
        'monkeypatch.setattr("bench.registry._plugins", {})',
        'monkeypatch.setitem(registry._sources, "a", "b")',
        "Loop._step = slower",
    ],
)
def test_a_patch_of_a_private_name_is_seen(source: str) -> None:
    found = [name for node in ast.walk(ast.parse(source)) for name in replaced(node) if private(name)]
    assert len(found) == 1
