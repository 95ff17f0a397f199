"""Rows of results by method, for tests of runs."""

from __future__ import annotations

from typing import Any


def arm(results: dict[str, Any], method: str, prompts: str = "*") -> dict[str, Any]:
    (row,) = [a for a in results["arms"] if a["method"] == method and a["prompts"] == prompts]
    return row
