"""What GenEval's metadata must look like, so that a file of one's own is refused when read and not when scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.errors import UserError

GENEVAL = ("tag", "include", "exclude", "prompt")
"""Keys of a line of GenEval's public file."""


def check_clauses(metadata: Mapping[str, Any] | None) -> None:
    """UserError for clauses that the rules of `bench.metrics.geneval_rules` cannot judge; other keys are let be."""
    if metadata is None or "include" not in metadata:
        return
    if not isinstance(metadata.get("tag"), str):
        raise UserError("GenEval's metadata needs a 'tag', the name of its task")
    seen = 0
    for key in ("include", "exclude"):
        clauses = metadata.get(key, [])
        if not isinstance(clauses, list):
            raise UserError(f"{key!r} should be a list of objects with class and count")
        for clause in clauses:
            _check(clause, key, before=seen)
            seen += key == "include"


def _check(clause: Any, key: str, *, before: int) -> None:
    """`before` is how many clauses of `include` stand before this one, which a position may name."""
    good = isinstance(clause, dict) and isinstance(clause.get("class"), str) and _whole(clause.get("count"), 1)
    if not good:
        raise UserError(f"a clause of {key!r} should have a class (text) and a count (from 1)")
    if not isinstance(clause.get("color", ""), str):
        raise UserError(f"the 'color' of a clause of {key!r} should be text")
    if "position" not in clause:
        return
    at = clause["position"]
    if (
        not isinstance(at, list)
        or len(at) != 2
        or not isinstance(at[0], str)
        or not _whole(at[1], 0)
        or at[1] >= before
    ):
        raise UserError(
            f"the 'position' of a clause of {key!r} should be a relation and the place of an earlier clause, "
            'such as ["left of", 0]'
        )


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
