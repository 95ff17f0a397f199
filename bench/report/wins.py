"""Tables of win rates: ties counted half, and ties counted as losses."""

from __future__ import annotations

from bench.records import ArmRow, ComparisonRow, Results
from bench.report import hints
from bench.report.tables import Cell, Table, compared_at, has_settings, label_headers, labels_of, place, rows_of
from bench.report.words import (
    MISSING,
    kind,
    mark,
    metric_title,
    percent,
)


def win_table(results: Results, *, detail: bool = True) -> Table:
    """Win rates against the baseline, with wins, ties and losses and the adjusted p-value of the delta."""
    arms = [arm for arm in rows_of(results.arms, detail=detail) if not arm.is_baseline]
    names = [name for name in results.metrics if kind(results, name) != "set"]
    comparisons, several = compared_at(results.comparisons), has_settings(results)
    rows = [
        [*labels_of(results, arm, several=several),
         *(_win(arm, comparisons.get((place(arm), name))) for name in names)] for arm in arms
    ]  # fmt: skip
    notes = ["Share of pairs won, ties counted half, with its 95 % interval; then wins/ties/losses."]
    headers = [*label_headers(results), *(metric_title(results, name) for name in names)]
    body = rows if names else []
    meaning = [*hints.of_labels(label_headers(results)), *(hints.of_wins(metric_title(results, n)) for n in names)]
    title = f"Win rate against {results.suite.baseline}"
    return Table(title, headers, len(label_headers(results)), body, notes, hints=meaning)


def strict_table(results: Results, *, detail: bool = True) -> Table:
    """Win rates with a tie as a loss, as the paper's release counts; only where the suite reproduces the paper."""
    arms = [arm for arm in rows_of(results.arms, detail=detail) if not arm.is_baseline]
    rows, several = compared_at(results.comparisons), has_settings(results)
    known = {row.metric for row in rows.values() if row.win_strict is not None}
    of_paper = bool(results.suite.reproduces)
    shown = [name for name in results.metrics if name in known and of_paper]
    body = [
        [*labels_of(results, arm, several=several),
         *(_strict(arm, rows.get((place(arm), name))) for name in shown)] for arm in arms
    ]  # fmt: skip
    notes = ["Share of pairs won with its 95 % interval, a tie counted as a loss: as the paper's released code counts. "
             "Two equal methods are below 50 % by half of their ties."]  # fmt: skip
    headers = [*label_headers(results), *(metric_title(results, name) for name in shown)]
    title = "Win rate as the paper's release counts it"
    return Table(title, headers, len(label_headers(results)), body if shown else [], notes, folded=True)


def _strict(arm: ArmRow, row: ComparisonRow | None) -> Cell:
    if row is None or not row.complete or not arm.complete or row.win_strict is None:
        return Cell(MISSING)
    return Cell(percent(row.win_strict, row.win_strict_low, row.win_strict_high) + mark(row))


def _win(arm: ArmRow, row: ComparisonRow | None) -> Cell:
    if row is None or not row.complete or not arm.complete or row.win_rate is None:
        return Cell(MISSING)
    text = percent(row.win_rate, row.win_low, row.win_high) + mark(row)
    return Cell(text, f"{row.win}/{row.tie}/{row.loss}")
