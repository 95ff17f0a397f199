"""The report's tables, for every form of it to lay out: quality and GenEval's tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bench import direction
from bench.report.words import (
    MISSING,
    OPTIMISED,
    POOLED,
    SIBLING_NOTE,
    Results,
    Row,
    baseline_name,
    categories,
    distinct,
    effect,
    finite,
    higher_is_better,
    interval,
    kind,
    lacking,
    mark,
    mark_of,
    metric_title,
    mixed,
    number,
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
    "guidance, or with a gradient, counts as one. † either of the two optimises the metric, "
    "‡ or a sibling of it."
)
MIXED_NOTE = "its categories have scores of different kinds, shares and a cosine, so read the table of its categories."
GLYPHS = {"better": " ▲", "worse": " ▼"}


@dataclass(frozen=True)
class Cell:
    """One cell: a value, a smaller second line, and how both are to be read."""

    text: str
    sub: str = ""
    tone: str = ""
    strong: bool = False


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


def metric_table(results: Results, *, detail: bool = True, equal: bool = True) -> Table:
    """The paper's layout: model, prompt set and method in rows, metrics in columns.

    `equal` adds what plain sampling gives for as many denoiser calls, where the results have it.
    """
    arms, names = rows_of(results, "arms", detail=detail), list(results.get("metrics") or {})
    comparisons, several = compared_at(results), has_settings(results)
    best, digits = _best(results, arms, comparisons), {name: places(results, name) for name in names}
    plain = {place(row): row for row in (results.get("equal_compute") or []) if equal}
    rows = []
    for arm in arms:
        cells: list[Cell] = [
            _mean(results, arm, name, comparisons.get((*place(arm), name)), best=best, digits=digits[name])
            for name in names
        ]
        if plain:
            cells.append(_plain(results, arm, plain.get(place(arm)), digits=digits))
        rows.append([*labels_of(results, arm, several=several), *cells])
    notes = [
        f"Mean with its 95 % interval for {baseline_name(results)}; for the others the mean, then the paired delta "
        f"against {baseline_name(results)} with its 95 % interval. ▲ clearly better, ▼ clearly worse.",
        "Bold: the best complete method in its column, only where it is clearly better than the baseline; "
        "methods are not tested against each other.",
    ]
    kinds = {kind(results, name) for name in names}
    if "pair" in kinds:
        notes.append(f"Win rate: how far the image is preferred over {baseline_name(results)}'s of the same prompt and "
                     "seed, with its 95 % interval.")  # fmt: skip
    if "set" in kinds:
        of = ", ".join(metric_title(results, name) for name in names if kind(results, name) == "set")
        notes.append(f"One value for all images of a row together, which depends on their number: {of}.")
    if any(row.get("marked") for row in results.get("comparisons") or []):
        notes.append("† The method optimises this metric: not ranked, not counted as evidence.")
    if any(row.get("sibling") for row in results.get("comparisons") or []):
        notes.append(SIBLING_NOTE)
    by_task = distinct(row.get("metric") for row in results.get("tasks") or [])
    notes += [
        f"{metric_title(results, name)} here is the share over all images, of which its paired deltas are; its "
        "overall, the mean over tasks, is in the table of tasks."
        for name in names if name in by_task
    ]  # fmt: skip
    notes += [f"{metric_title(results, name)} here is a mixed mean: {MIXED_NOTE}" for name in names if mixed(name)]
    if plain:
        notes.append(EQUAL_CALLS)
    headers = [*label_headers(results), *(metric_header(results, name) for name in names)]
    return Table("Quality", [*headers, *(["against plain sampling at equal calls"] if plain else [])],
                 len(label_headers(results)), rows, notes)  # fmt: skip


def _plain(results: Results, arm: Row, row: Row | None, *, digits: dict[str, int]) -> Cell:
    """The arm's deltas to the plain arm with as many denoiser calls, or what to add to the suite for one."""
    if arm.get("is_baseline") or not row:
        return Cell(MISSING)
    found = row.get("reference")
    if not found:
        add = f"add {row['add_steps']} to steps" if row.get("add_steps") else "add a best_of_n"
        return Cell(f"none near {number(row['calls'], 0)} calls", add)
    at = f" at {found['steps']} steps" if found["steps"] != arm.get("steps") else ""
    text = f"{found['method']}{at}, {number(found['calls'], 0)} calls"
    if not at and found["method"] == baseline_name(results):
        return Cell(text, "the deltas beside")
    if not arm.get("complete"):
        return Cell(text)
    said = [
        f"{metric_title(results, name)}{mark(one)} {number(one['delta'], digits[name], sign=True)} "
        f"{interval(one['low'], one['high'], digits[name], sign=True)}".rstrip()
        for name, one in row["metrics"].items()
    ]
    return Cell(text, "; ".join(said))


def task_table(results: Results) -> Table:
    """GenEval: the share of images that pass, task by task, and the mean over the tasks."""
    given = rows_of(results, "tasks", detail=True)
    seen = distinct(name for row in given for name in row.get("tasks") or {})
    order = categories(distinct(str(row.get("metric")) for row in given))
    tasks = [name for name in order if name in seen] + [name for name in seen if name not in order]
    arms, several = {place(arm): arm for arm in results.get("arms") or []}, has_settings(results)
    rows = []
    for row in given:
        scores = [(row.get("tasks") or {}).get(name) or {} for name in tasks]
        overall = Cell(number(row.get("overall"), 3), interval(row.get("overall_low"), row.get("overall_high"), 3))
        marks = mark_of(arms.get(place(row), {}), str(row.get("metric")))
        cells = [Cell(number(score.get("mean"), 2), f"n {score['n']}" if score.get("n") else "") for score in scores]
        labels = labels_of(results, {**arms.get(place(row), {}), **row}, marks=marks, several=several)
        rows.append([*labels, overall, _over_images(results, arms.get(place(row), {}), str(row.get("metric"))), *cells])
    notes = [
        "Overall is GenEval's own, the mean over the task means, with its 95 % interval. All images is the share over "
        "images, whatever their task: the number that the other tables have, with its paired delta."
    ]
    headers = [*label_headers(results), "overall", "all images", *(name.replace("_", " ") for name in tasks)]
    return Table("GenEval tasks", headers, len(label_headers(results)), rows, notes)


def _over_images(results: Results, arm: Row, metric: str) -> Cell:
    """The mean over images, as the quality table has it."""
    value = (arm.get("metrics") or {}).get(metric) or {}
    return Cell(number(value.get("mean"), places(results, metric)))


def place(row: Row) -> tuple[Any, ...]:
    """What makes an arm: its setting, its prompt set, its method."""
    return (*setting_key(row), row.get("prompts"), row.get("method"))


def compared_at(results: Results) -> dict[tuple[Any, ...], Row]:
    """Comparisons by place and metric."""
    return {(*place(row), row["metric"]): row for row in results.get("comparisons") or []}


def rows_of(results: Results, key: str, *, detail: bool) -> list[Row]:
    """Rows of every set with the pooled ones last; only the pooled ones without `detail` or with a single set."""
    rows = results.get(key) or []
    if not detail or len({row["prompts"] for row in rows} - {POOLED}) < 2:
        return pooled(rows)
    groups: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(setting_key(row), {}).setdefault(str(row["prompts"]), []).append(row)
    return [row for sets in groups.values() for name in sorted(sets, key=POOLED.__eq__) for row in sets[name]]


def has_settings(results: Results) -> bool:
    """Whether rows must say their sampler, steps and guidance."""
    return len({setting(row) for row in results.get("arms") or []}) > 1


def label_headers(results: Results) -> list[str]:
    """Headers of the columns that say whose numbers a row has."""
    return ["model", *(["setting"] if has_settings(results) else []), "prompts", "method"]


def labels_of(results: Results, row: Row, *, marks: str = "", several: bool | None = None) -> list[Cell]:
    """The cells under `label_headers`; an incomplete arm says so. `several` is what `has_settings` said, if known."""
    state = "" if row.get("complete", True) else f"incomplete: {lacking(row)}"
    extra = [Cell(setting(row))] if (has_settings(results) if several is None else several) else []
    method = Cell(row["method"] + marks, state, "incomplete" if state else "")
    return [Cell(row["model"]), *extra, Cell(prompts_name(row["prompts"])), method]


def metric_header(results: Results, name: str) -> str:
    """A metric's name with its unit and an arrow where lower is better."""
    unit = "win rate" if kind(results, name) == "pair" else results["metrics"][name].get("unit")
    if mixed(name):
        unit = "mixed mean; see its categories"
    arrow = "" if higher_is_better(results, name) else " ↓"
    return f"{metric_title(results, name)}{f' ({unit})' if unit else ''}{arrow}"


def _best(results: Results, arms: list[Row], comparisons: dict[tuple[Any, ...], Row]) -> set[tuple[Any, ...]]:
    """Places in bold: of the complete, unmarked arms of a setting and set the best one, if it is clearly better."""
    found = set()
    for name in results.get("metrics") or {}:
        sign = direction.sign(higher_is_better(results, name))
        groups: dict[tuple[Any, ...], list[tuple[float, tuple[Any, ...]]]] = {}
        for arm in arms:
            key, mean = (*place(arm), name), finite(((arm.get("metrics") or {}).get(name) or {}).get("mean"))
            ranked = arm.get("complete") and name not in (arm.get("optimises") or [])
            if ranked and mean is not None and not comparisons.get(key, {}).get("marked"):
                groups.setdefault(key[:-2], []).append((sign * mean, key))
        for group in groups.values():
            top = max(group, key=lambda pair: pair[0])[1]
            if top in comparisons and effect(results, comparisons[top]) == "better":
                found.add(top)
    return found


def _mean(results: Results, arm: Row, name: str, row: Row | None, *, best: set[tuple[Any, ...]], digits: int) -> Cell:
    value = (arm.get("metrics") or {}).get(name) or {}
    marks = mark_of(arm, name) or mark(row)
    text = number(value.get("mean"), digits) + marks
    if value.get("refused"):
        return Cell(MISSING, value["refused"])
    if kind(results, name) == "pair":
        return _preferred(results, arm, row, value, marks=marks, strong=(*place(arm), name) in best)
    if arm.get("is_baseline"):
        return Cell(text, interval(value.get("low"), value.get("high"), digits))
    # An incomplete arm's delta would be over other pairs than its neighbours': its mean is shown, nothing is ranked.
    if not row or not row.get("complete") or not arm.get("complete") or finite(row.get("delta")) is None:
        return Cell(text)
    tone = "" if marks == OPTIMISED else effect(results, row)
    delta = f"{number(row['delta'], digits, sign=True)} {interval(row['low'], row['high'], digits, sign=True)}"
    return Cell(text, delta.strip() + GLYPHS.get(tone, ""), tone, strong=(*place(arm), name) in best)


def _preferred(results: Results, arm: Row, row: Row | None, value: Row, *, marks: str, strong: bool) -> Cell:
    """A metric of pairs: its win rate in the place of a mean, which for the baseline would be one against itself."""
    if arm.get("is_baseline"):
        return Cell(MISSING)
    if not row or not row.get("complete") or not arm.get("complete") or finite(row.get("win_rate")) is None:
        return Cell(preferred(value.get("mean")) + marks)
    tone = "" if marks == OPTIMISED else effect(results, row)
    spread = percent(row["win_rate"], row.get("win_low"), row.get("win_high")).removeprefix(percent(row["win_rate"]))
    return Cell(percent(row["win_rate"]) + marks, spread.strip() + GLYPHS.get(tone, ""), tone, strong=strong)


def preferred(mean: Any) -> str:
    """The win rate that a mean of 2p - 1 stands for."""
    known = finite(mean)
    return percent(None if known is None else (known + 1) / 2)
