"""The one table of the first screen: every method on all prompt sets together, its quality and what it costs."""

from __future__ import annotations

from bench.records import ArmRow, Ratio, Results
from bench.report import hints
from bench.report.tables import Cell, Table, metric_table, rows_of
from bench.report.words import MISSING, interval, number

COSTS = ("denoiser calls", "ms an image")


def summary_table(results: Results, *, metrics: int | None = None, equal: bool = True) -> Table:
    """Quality and cost of every arm on all sets; `metrics` and `equal` as for `metric_table`."""
    whole = metric_table(results, detail=False, equal=equal, metrics=metrics)
    arms = rows_of(results.arms, detail=False)
    # What plain sampling gives for as many calls stands last, after the calls.
    end = len(whole.headers) - whole.last
    rows = [
        [*row[:end], *_cost(arm), *row[end:]]
        for row, arm in zip(whole.rows, arms, strict=True)
    ]  # fmt: skip
    notes = list(whole.notes)
    if any(arm.cost.ratios.total_ms or arm.cost.ratios.calls_total for arm in arms):
        notes.append(f"× how many times {results.suite.baseline}'s, with the 95 % interval of times over batches.")
    return Table(
        "All prompt sets together",
        [*whole.headers[:end], *COSTS, *whole.headers[end:]],
        whole.labels,
        rows,
        notes,
        hints=[*whole.hints[:end], *hints.of_labels(list(COSTS)), *whole.hints[end:]],
    )


def _cost(arm: ArmRow) -> list[Cell]:
    cost = arm.cost
    calls = MISSING if cost.calls_total is None else f"{cost.calls_total:,.4g}"
    return [
        Cell(calls, _times(arm, cost.ratios.calls_total)),
        Cell(number(cost.total_ms, 1), _times(arm, cost.ratios.total_ms)),
    ]


def _times(arm: ArmRow, ratio: Ratio | None) -> str:
    if arm.is_baseline or ratio is None:
        return ""
    said, bounds = number(ratio.ratio, 2), interval(ratio.low, ratio.high, 2)
    return f"× {said} {'' if bounds == f'[{said}, {said}]' else bounds}".rstrip()
