"""What `bench.analysis.power` finds, in plain lines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.analysis.power import Components, Goal


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The answer as plain lines: what is asked, a table for each method and metric, and what to keep in mind."""
    goal: Goal = found["goal"]
    shared = f" shared by {goal.comparisons} comparisons" if goal.comparisons > 1 else ""
    yield (
        f"{found['folder']}: to find a true delta of {goal.delta:g} with {100 * goal.power:g} % power at a two-sided "
        f"level of {goal.alpha:g}{shared}"
    )
    if not found["finished"]:
        yield "note: the run is not finished; this rests on what it has so far"
    for row in found["rows"]:
        yield ""
        yield from _table(row, found)
    yield ""
    yield (
        "In brackets, the 95 % interval from this run's number of prompts. Hours are of this run's own ms an image, "
        "the baseline's images included, scoring not."
    )
    if found["others"]:
        yield f"Other metrics of this run (--metric): {', '.join(found['others'])}"


def _table(row: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    part: Components = row["components"]
    marked = " (it optimises this metric: no evidence)" if row["marked"] else ""
    marked = " (chosen or tuned by a sibling of it: no independent evidence)" if row["sibling"] else marked
    unit = found["units"][row["metric"]]
    yield (
        f"{row['method']} against {found['baseline']} on {row['metric']}{f' ({unit})' if unit else ''}{marked}, "
        f"{row['model']} ({row['sampler']}, {row['steps']} steps, g {row['guidance']:g})"
    )
    spread = f"  a pair's delta has the standard deviation {math.sqrt(part.at(1)):.4g}"
    if part.split:
        share = 100 * part.between / part.at(1) if part.at(1) else 0.0
        yield f"{spread}: {share:.0f} % of its variance between prompts, {100 - share:.0f} % between seeds of a prompt"
    else:
        yield (
            f"{spread}; with one seed a prompt it is not known how much of it more seeds would average out: "
            "run two seeds to know"
        )
    now = f"{row['n']} pairs on {row['n_prompts']} prompts"
    yield f"  this run ({now}) {_finds(row['detectable'])}"
    yield f"  {'seeds a prompt':>14}  {'prompts':>24}  {'pairs':>12}  {'hours':>10}"
    for plan in row["plans"]:
        prompts = f"{plan['prompts']:,} [{plan['low']:,}, {plan['high']:,}]"
        yield f"  {plan['seeds']:>14}  {prompts:>24}  {plan['pairs']:>12,}  {_hours(plan['hours']):>10}"


def _finds(detectable: float) -> str:
    if detectable == 0:
        return "gives no smallest delta that it finds: all differences are exactly 0"
    if math.isinf(detectable):
        return "finds no delta within the metric's range with that power: too few prompts"
    return f"finds a delta of {detectable:.4g} with that power"


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
