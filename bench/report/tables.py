"""The report's tables, for every form of it to lay out: quality and GenEval's tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.metrics import direction
from bench.records import ArmRow, ComparisonRow, EqualComputeRow, Mean, Results
from bench.report import hints
from bench.report.parts import AnyDelta, AnyLabelled, Compared, Counted, Labelled
from bench.report.strongest import headline_metric
from bench.report.words import (
    MISSING,
    OPTIMISED,
    OPTIMISED_NOTE,
    POOLED,
    SIBLING_NOTE,
    distinct,
    effect,
    higher_is_better,
    interval,
    kind,
    lacking,
    mark,
    mark_of,
    metric_title,
    mixed,
    number,
    p_value,
    percent,
    places,
    pooled,
    prompts_name,
    setting,
    setting_key,
)

EQUAL_CALLS = (
    "Last column: the plain arm of this run (standard noise, or the best of several) whose denoiser calls are "
    "nearest, and the paired deltas to it with 95 % intervals, not adjusted for their number. A call without "
    "guidance, or with a gradient, counts as one. † and ‡ go for either of the two."
)
MIXED_NOTE = "its categories have scores of different kinds, shares and a cosine, so read the table of its categories."
GLYPHS = {"better": " ▲", "worse": " ▼"}
Place = tuple[str, str, int, float, str, str]
"""What makes an arm: model, sampler, steps, guidance, prompt set, method."""


@dataclass(frozen=True)
class Cell:
    """One cell: a value, a smaller second line, and how both are to be read."""

    text: str
    sub: str = ""
    tone: str = ""
    strong: bool = False
    p: str = ""
    """The p-value of the test whose interval is in `sub`."""
    hint: str = ""
    """What the number means, in one plain sentence."""


@dataclass(frozen=True)
class Table:
    """A table that every form of the report lays out: `labels` columns of words first, then numbers."""

    title: str
    headers: list[str]
    labels: int
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    folded: bool = False
    """Detail that a page folds away and a short form leaves out."""
    hints: list[str] = field(default_factory=list)
    """What each column means, in one plain sentence; empty where its name says it."""
    last: int = 0
    """Columns at the end that stand after all others, whatever is added."""


def metric_table(results: Results, *, detail: bool = True, equal: bool = True, metrics: int | None = None) -> Table:
    """The paper's layout: model, prompt set and method in rows, metrics in columns.

    `equal` adds what plain sampling gives for as many denoiser calls, where the results have it; `metrics` keeps the
    first so many, the headline's before all others.
    """
    arms, names = rows_of(results.arms, detail=detail), list(results.metrics)
    if metrics is not None:
        names = sorted(names, key=lambda name: name != headline_metric(results))[:metrics]
    comparisons, several = compared_at(results.comparisons), has_settings(results)
    best, digits = _best(results, arms, comparisons), {name: places(results, name) for name in names}
    plain = {place(row): row for row in results.equal_compute if equal}
    rows = []
    for arm in arms:
        cells: list[Cell] = [
            _mean(results, arm, name, comparisons.get((place(arm), name)), best=best, digits=digits[name])
            for name in names
        ]
        if plain:
            cells.append(_plain(results, arm, plain.get(place(arm)), digits=digits))
        rows.append([*labels_of(results, arm, several=several), *cells])
    notes = [
        f"Mean with its 95 % interval for {results.suite.baseline}; for the others the mean, then the paired delta "
        f"against {results.suite.baseline} with its 95 % interval and the Holm-adjusted p. ▲ clearly better, ▼ clearly "
        "worse.",
        "Bold: the best complete method in its column, only where it is clearly better than the baseline; "
        "methods are not tested against each other.",
    ]
    kinds = {kind(results, name) for name in names}
    if "pair" in kinds:
        notes.append(f"Win rate: how far the image is preferred over {results.suite.baseline}'s of the same prompt and "
                     "seed, with its 95 % interval.")  # fmt: skip
    if "set" in kinds:
        of = ", ".join(metric_title(results, name) for name in names if kind(results, name) == "set")
        notes.append(f"One value for all images of a row together, which depends on their number: {of}.")
    if any(row.marked for row in results.comparisons):
        notes.append(OPTIMISED_NOTE)
    if any(row.sibling for row in results.comparisons):
        notes.append(SIBLING_NOTE)
    by_task = distinct(row.metric for row in results.tasks)
    notes += [
        f"{metric_title(results, name)} here is the share over all images, of which its paired deltas are; its "
        "overall, the mean over tasks, is in the table of tasks."
        for name in names if name in by_task
    ]  # fmt: skip
    notes += [f"{metric_title(results, name)} here is a mixed mean: {MIXED_NOTE}" for name in names if mixed(name)]
    if plain:
        notes.append(EQUAL_CALLS)
    headers = [*label_headers(results), *(metric_header(results, name) for name in names)]
    meaning = [*hints.of_labels(label_headers(results)), *(hints.of_metric(results, name) for name in names)]
    return Table(
        "Quality",
        [*headers, *(["against plain sampling at equal calls"] if plain else [])],
        len(label_headers(results)),
        rows,
        notes,
        hints=[*meaning, *([hints.EQUAL] if plain else [])],
        last=int(bool(plain)),
    )


def _plain(results: Results, arm: ArmRow, row: EqualComputeRow | None, *, digits: dict[str, int]) -> Cell:
    """The arm's deltas to the plain arm with as many denoiser calls, or what to add to the suite for one."""
    if arm.is_baseline or row is None:
        return Cell(MISSING)
    found = row.reference
    if found is None:
        add = f"add {row.add_steps} to steps" if row.add_steps else "add a best_of_n"
        return Cell(f"none near {number(row.calls, 0)} calls", add)
    at = f" at {found.steps} steps" if found.steps != arm.steps else ""
    text = f"{found.method}{at}, {number(found.calls, 0)} calls"
    if not at and found.method == results.suite.baseline:
        return Cell(text, "the deltas beside")
    if not arm.complete:
        return Cell(text)
    said = [
        f"{metric_title(results, name)}{mark(one)} {number(one.delta, digits[name], sign=True)} "
        f"{interval(one.low, one.high, digits[name], sign=True)}".rstrip()
        for name, one in row.metrics.items()
    ]
    return Cell(text, "; ".join(said), "prose")


def place(row: Labelled) -> Place:
    """What makes a row's arm."""
    return (*setting_key(row), row.prompts, row.method)


def compared_at(rows: Iterable[AnyDelta]) -> dict[tuple[Place, str], AnyDelta]:
    """Comparisons by place and metric."""
    return {(place(row), row.metric): row for row in rows}


def rows_of(rows: Sequence[AnyLabelled], *, detail: bool) -> list[AnyLabelled]:
    """Rows of every set with the pooled ones last; only the pooled ones without `detail` or with a single set."""
    if not detail or not several_sets(rows):
        return pooled(rows)
    groups: dict[tuple[str, str, int, float], dict[str, list[AnyLabelled]]] = {}
    for row in rows:
        groups.setdefault(setting_key(row), {}).setdefault(row.prompts, []).append(row)
    return [row for sets in groups.values() for name in sorted(sets, key=POOLED.__eq__) for row in sets[name]]


def several_sets(rows: Iterable[Labelled]) -> bool:
    """Whether rows are of more than one prompt set."""
    return len({row.prompts for row in rows} - {POOLED}) > 1


def has_settings(of: Compared) -> bool:
    """Whether rows must say their sampler, steps and guidance."""
    return len({setting(row) for row in of.arms}) > 1


def label_headers(of: Compared) -> list[str]:
    """Headers of the columns that say whose numbers a row has."""
    return ["model", *(["setting"] if has_settings(of) else []), "prompts", "method"]


def labels_of(of: Compared, arm: Counted, *, marks: str = "", several: bool | None = None) -> list[Cell]:
    """The cells under `label_headers`; an incomplete arm says so. `several` is what `has_settings` said, if known."""
    state = "" if arm.complete else f"incomplete: {lacking(arm)}"
    extra = [Cell(setting(arm))] if (has_settings(of) if several is None else several) else []
    method = Cell(arm.method + marks, state, "incomplete" if state else "")
    return [Cell(arm.model), *extra, Cell(prompts_name(arm.prompts)), method]


def metric_header(of: Compared, name: str) -> str:
    """A metric's name with its unit and an arrow where lower is better."""
    unit = "win rate" if kind(of, name) == "pair" else of.metrics[name].unit
    if mixed(name):
        unit = "mixed mean; see its categories"
    arrow = "" if higher_is_better(of, name) else " ↓"
    return f"{metric_title(of, name)}{f' ({unit})' if unit else ''}{arrow}"


def _best(
    results: Results, arms: Sequence[ArmRow], comparisons: dict[tuple[Place, str], ComparisonRow]
) -> set[tuple[Place, str]]:
    """Places in bold: of the complete, unmarked arms of a setting and set the best one, if it is clearly better."""
    found = set()
    for name in results.metrics:
        sign = direction.sign(higher_is_better(results, name))
        groups: dict[tuple[object, ...], list[tuple[float, tuple[Place, str]]]] = {}
        for arm in arms:
            key, value = (place(arm), name), arm.metrics.get(name)
            row = comparisons.get(key)
            ranked = arm.complete and name not in arm.optimises and not (row and row.marked)
            if ranked and value is not None and value.mean is not None:
                groups.setdefault((setting_key(arm), arm.prompts), []).append((sign * value.mean, key))
        for group in groups.values():
            top = max(group, key=lambda pair: pair[0])[1]
            if top in comparisons and effect(results, comparisons[top]) == "better":
                found.add(top)
    return found


def _mean(
    results: Results, arm: ArmRow, name: str, row: ComparisonRow | None, *, best: set[tuple[Place, str]], digits: int
) -> Cell:
    value = arm.metrics.get(name)
    marks = mark_of(arm, name) or mark(row)
    if value is None:
        return Cell(MISSING + marks)
    if value.refused:
        return Cell(MISSING, value.refused)
    strong = (place(arm), name) in best
    if kind(results, name) == "pair":
        return _preferred(results, arm, row, value, marks=marks, strong=strong)
    text = number(value.mean, digits) + marks
    said = hints.of_mean(results, arm.method, name, value.mean, digits)
    if arm.is_baseline:
        return Cell(text, interval(value.low, value.high, digits), hint=said)
    # An incomplete arm's delta would be over other pairs than its neighbours': its mean is shown, nothing is ranked.
    if row is None or not row.complete or not arm.complete or row.delta is None:
        return Cell(text, hint=said)
    tone = "" if marks == OPTIMISED else effect(results, row)
    delta = f"{number(row.delta, digits, sign=True)} {interval(row.low, row.high, digits, sign=True)}"
    title = metric_title(results, name)
    said = hints.of_delta(arm.method, row.baseline, title, row, row.delta, row.p_holm, digits)
    return Cell(text, delta.strip() + GLYPHS.get(tone, ""), tone, strong, p_value(row.p_holm), said)


def _preferred(
    results: Results, arm: ArmRow, row: ComparisonRow | None, value: Mean, *, marks: str, strong: bool
) -> Cell:
    """A metric of pairs: its win rate in the place of a mean, which for the baseline would be one against itself."""
    if arm.is_baseline:
        return Cell(MISSING)
    if row is None or not row.complete or not arm.complete or row.win_rate is None:
        return Cell(preferred(value.mean) + marks)
    tone = "" if marks == OPTIMISED else effect(results, row)
    spread = percent(row.win_rate, row.win_low, row.win_high).removeprefix(percent(row.win_rate))
    said = hints.of_rate(arm.method, row.baseline, metric_title(results, row.metric), row.win_rate)
    text = percent(row.win_rate) + marks
    return Cell(text, spread.strip() + GLYPHS.get(tone, ""), tone, strong, p_value(row.p_holm), said)


def preferred(mean: float | None) -> str:
    """The win rate that a mean of 2p - 1 stands for."""
    return percent(None if mean is None else (mean + 1) / 2)
