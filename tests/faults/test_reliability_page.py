"""docs/reliability.md names tests for each fault, and the tests are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.partition("## Faults")[2].splitlines() if line.startswith("| ")][1:]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`( \(all\))?")


def functions(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_fault_has_tests_that_exist(row: str) -> None:
    cells = row.strip("|").split("|")
    assert len(cells) == 5
    named = NAMED.findall(cells[4])
    assert named
    for file, function, whole in named:
        found = functions(ROOT / file)
        assert function in found if function else whole
        assert any(name.startswith("test_") for name in found)


def test_every_file_of_fault_tests_is_on_the_page() -> None:
    ours = {file.relative_to(ROOT).as_posix() for file in Path(__file__).parent.glob("test_*.py")} - {
        "tests/faults/test_reliability_page.py", "tests/faults/test_advice.py"
    }  # fmt: skip
    assert {file for file in ours if f"`{file}" not in PAGE} == set()
