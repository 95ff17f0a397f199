"""The one line that a file gets which is no YAML of a suite, or no text file at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from facts import missing
from stand_ins import (
    LINES,
    lacks,
    refused,
)
from stand_ins import plugins as plugins

from bench import suite
from bench.errors import UserError

pytestmark = pytest.mark.usefixtures("plugins")


MAPPING = "expected a mapping of keys to values"
PLAIN = "text, numbers, lists and mappings"


@pytest.mark.parametrize(
    ("text", "at", "facts"),
    [
        ("", 1, [MAPPING, "got nothing"]),
        ("# only this\n", 1, [MAPPING, "got nothing"]),
        ("- sdxl\n", 1, [MAPPING, "got ['sdxl']"]),
        ("\nsdxl\n", 2, [MAPPING, "got 'sdxl'"]),
        ("name: s\nmodels: [sdxl\nsteps: 3\n", 3, ["not valid YAML", "expected ',' or ']'", "got ':'"]),
        ("name: s\n\tmodels: 1\n", 2, ["not valid YAML", "'\\t'", "cannot start"]),
        ("name: s\n---\nname: t\n", 2, ["not valid YAML", "single document", "another document"]),
        ("name: s\ntitle: a\x07b\n", 2, ["not valid YAML", "'\\x07'", "not allowed"]),
        ("a: &x [1]\nb: *x\n", 2, ["alias '*x'", "write the value out"]),
        ("a: &x [*x]\n", 1, ["alias '*x'", "write the value out"]),
        ("a:\n  " + "[" * 5000, 2, ["nested", "20 levels"]),
        (
            "title: s\nname: !!python/object/apply:os.system [ls]\n",
            2,
            ["tag '!!python/object/apply:os.system'", "not allowed", PLAIN],
        ),
        ("name: !mine s\n", 1, ["tag '!mine'", "not allowed", PLAIN]),
        ("a: !!set {x}\n", 1, ["tag '!!set'", "not allowed", PLAIN]),
        ("a: !!int many\n", 1, ["'many'", "not int"]),
        ("a: .nan\n", 1, ["'.nan'", "not a finite number"]),
        ("a: 99999999999999999999\n", 1, ["'99999999999999999999'", "too large"]),
        ("? [a]\n: 1\n", 1, ["key should be text", "got a list or a mapping"]),
        ('a: "\\UFFFFFFFF"\n', 1, ["not valid YAML", "escape", "no character"]),
    ],
)
def test_yaml_that_is_no_suite(text: str, at: int, facts: list[str]) -> None:
    assert lacks(refused(text), at, *facts) == []


def test_aliases_cannot_make_a_small_file_large() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    assert lacks(refused(bomb), 2, "alias '*a0'", "write the value out") == []


def test_a_duplicate_key_names_both_lines() -> None:
    assert lacks(refused(LINES + "steps: 20\n"), 14, "duplicate key 'steps'", "line 4") == []


def test_load_refuses_what_is_no_text_file(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_bytes(b"name: main\ntitle: caf\xe9\n")
    (tmp_path / "No Name.yaml").write_text(LINES)
    for name, (place, *facts) in {
        "mian.yaml": ("/mian.yaml: ", "no such file", "did you mean 'main.yaml'?"),
        "": (": ", "directory", "expected a YAML file"),
        "main.yaml": ("/main.yaml:2: ", "not UTF-8", "0xe9"),
        "No Name.yaml": ("/No Name.yaml:1: ", "'name'", "'^[a-z0-9_-]+$'", "got 'No Name'"),
    }.items():
        with pytest.raises(UserError) as caught:
            suite.load(tmp_path / name)
        said = str(caught.value)
        assert said.startswith(f"{tmp_path}{place}")
        assert missing(said, *facts) == []


def test_load_refuses_a_path_that_no_file_can_have() -> None:
    with pytest.raises(UserError) as caught:
        suite.load(Path("a\0b"))
    assert missing(str(caught.value), "'a\\x00b'", "cannot be read", "null byte") == []
