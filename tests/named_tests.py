"""Pages whose table rows name tests: that each row names some, and that all of them are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`( \(all\))?")


def table_rows(text: str) -> list[str]:
    """The rows of all tables of a text, without the first table's head."""
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


def functions(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def check_row(row: str, *, columns: int) -> None:
    """A row of so many columns names tests in its last one, and they exist."""
    cells = row.strip("|").split("|")
    assert len(cells) == columns
    named = NAMED.findall(cells[-1])
    assert named
    for file, function, whole in named:
        found = functions(ROOT / file)
        assert function in found if function else whole
        assert any(name.startswith("test_") for name in found)


def unnamed(page: str, folder: Path) -> set[str]:
    """Files of tests in a folder that a page does not name."""
    ours = {file.relative_to(ROOT).as_posix() for file in folder.glob("test_*.py")}
    return {file for file in ours if f"`{file}" not in page}
