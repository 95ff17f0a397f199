"""Every test is of one kind, what is named as integration is there, and a failure's text is never a second failure."""

from __future__ import annotations

from pathlib import Path

import execnet
import pytest
from conftest import INTEGRATION
from covering import FULL, chosen

KINDS = {"unit", "integration"}
TESTS = Path(__file__).parent


def test_every_test_is_of_exactly_one_kind(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        kinds = [mark.name for mark in item.iter_markers() if mark.name in KINDS]
        assert len(kinds) == 1, f"{item.nodeid}: {kinds}; tests/conftest.py alone says the kind"


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
