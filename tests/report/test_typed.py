"""What a report reads of results are attributes of records: no name of results.json stands in it as a string."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bench import records, report

FOLDER = Path(report.__file__).parent
FILES = [file for file in sorted(FOLDER.glob("*.py")) if not file.name.startswith("comparison")]
NAMES = {
    name for one in map(records.__dict__.get, records.__all__) if isinstance(one, type) for name in one.model_fields
}


def reads(tree: ast.AST) -> list[str]:
    """Names of results.json by which something is read from a dictionary: `row["delta"]`, `row.get("delta")`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            key: ast.AST | None = node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "registry":
                continue
            key = node.args[0] if node.args else None
        else:
            continue
        if isinstance(key, ast.Constant) and key.value in NAMES:
            found.append(f"line {node.lineno}: {key.value}")
    return found


def test_the_search_finds_what_it_is_for() -> None:
    assert {"delta", "metrics", "suite", "total_ms", "win_rate", "overall_low", "provenance"} <= NAMES
    assert reads(ast.parse('row["delta"] + arm.get("cost", {})["total_ms"] + found["other"]')) == [
        "line 1: delta", "line 1: total_ms", "line 1: cost",
    ]  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_name_of_results_is_read_as_a_string(file: Path) -> None:
    assert reads(ast.parse(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_record_is_made_a_dictionary_again(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert "document" not in {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
