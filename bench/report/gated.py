"""What a gate said of the run, with its colours: green passed, yellow inconclusive, red failed, grey not comparable."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bench.errors import UserError
from bench.gate.forms import said_of
from bench.gate.kept import FILE, results_digest, verdicts_in
from bench.gate.verdicts import ORDER, Outcome, Verdict

COLOURS: dict[Outcome, str] = {"failed": "red", "not comparable": "grey", "inconclusive": "yellow", "passed": "green"}
"""Classes of the page's style."""
SHOWN = 12
"""Verdicts of one outcome that stand open; more are folded, and so are those that passed."""


class Line(NamedTuple):
    """One verdict: its colour and outcome in words, the rule, and the finding."""

    colour: str
    outcome: str
    rule: str
    sentence: str


class Group(NamedTuple):
    """All verdicts of one outcome."""

    colour: str
    outcome: Outcome
    lines: list[Line]
    folded: bool


class Gated(NamedTuple):
    """The page's section: the whole outcome, verdicts with the worst first, and what else must be known."""

    colour: str
    outcome: str
    against: str
    groups: list[Group]
    notes: list[str]


def gated(folder: Path) -> Gated | None:
    """The section on the verdicts in a run's folder; None where the run was not gated.

    Verdicts on other results than those that lie beside them are not shown, and that is said.
    """
    try:
        found = verdicts_in(folder)
    except UserError:
        return _without(f"{FILE} is not one that this version reads, so no verdict is shown; gate the run again.")
    if found is None:
        return None
    if found.results_sha256 != results_digest(folder):
        return _without("The results are not those that were gated, so no verdict is shown; gate the run again.")
    groups = [(outcome, [v for v in found.verdicts if v.outcome == outcome]) for outcome in ORDER]
    against = "the suite's own rules" if any(v.check == "rule" for v in found.verdicts) else ""
    against += " and " * bool(against and found.baseline) + (f"the baseline {found.baseline}" if found.baseline else "")
    return Gated(
        COLOURS[found.outcome],
        found.outcome,
        against or "no rule",
        [Group(COLOURS[name], name, list(map(_line, rows)), _folded(name, rows)) for name, rows in groups if rows],
        found.notes,
    )


def _without(note: str) -> Gated:
    return Gated(COLOURS["not comparable"], "no verdict", "", [], [note])


def _line(verdict: Verdict) -> Line:
    return Line(COLOURS[verdict.outcome], said_of(verdict), verdict.rule, verdict.sentence)


def _folded(outcome: Outcome, rows: list[Verdict]) -> bool:
    return outcome == "passed" or len(rows) > SHOWN
