"""Rows of two compared runs."""

from __future__ import annotations

from typing import Any

from bench.records.two_runs import TwoRuns

METRIC = "shapes-preference"


def rows(found: TwoRuns, name: str, **where: Any) -> list[Any]:
    return [row for row in getattr(found, name) if all(getattr(row, key) == value for key, value in where.items())]


def one(found: TwoRuns, name: str, **where: Any) -> Any:
    (row,) = rows(found, name, **where)
    return row
