"""Tables that take the results apart: cost stage by stage, seeds one by one, prompt categories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from bench.analysis.paired import SHORTEST_MS
from bench.records import ArmRow, CategoryRow, Cost, Ratio, Results, SeedRow
from bench.records.comparison_rows import PartRow
from bench.report import hints
from bench.report.costed import STAGES, own_peak, stage_ratios, stage_times
from bench.report.tables import (
    Cell,
    Place,
    Table,
    has_settings,
    label_headers,
    labels_of,
    metric_header,
    place,
    preferred,
)
from bench.report.words import (
    MISSING,
    distinct,
    interval,
    kind,
    mark_of,
    metric_title,
    mixed,
    number,
    percent,
    places,
    pooled,
    prompts_name,
    setting,
)
from bench.sampling.measure import PROCESS
from bench.stats import FEWEST_BATCHES

COUNTED = {"backwards": "of them gradients", "networks": "extra networks", "rewards": "images scored"}
"""Columns that stand there where a method has any."""
LONG = 60  # rows; a longer breakdown is folded away

AnyPart = TypeVar("AnyPart", SeedRow, CategoryRow)


class Line(NamedTuple, Generic[AnyPart]):
    """What a line of a table is of, by the first of its rows, and a cell a metric."""

    first: AnyPart
    cells: list[Cell]


# Cost ----------------------------------------------------------------------------------------------------------------


def cost_table(results: Results) -> Table:
    """What an image costs, stage by stage; a method's cost is a result."""
    arms = pooled(results.arms)
    costs = [arm.cost for arm in arms]
    stages = [stage for stage in STAGES if stage != "select" or any(cost.select_ms for cost in costs)]
    counted = [name for name in COUNTED if any(_counted(cost)[name] for cost in costs)]
    headers = ["calls: noise", "sampling", "total", *(COUNTED[name] for name in counted),
               *(f"{stage} ms" for stage in stages), "total ms", "peak memory", "timed", "from cache"]  # fmt: skip
    several = has_settings(results)
    rows = [[*labels_of(results, arm, several=several), *_cost(arm, stages, counted)] for arm in arms]
    kinds = distinct(arm.cost.peak_kind for arm in arms)
    notes = [
        "Per image. Calls are denoiser calls; timed is the number of images that the times are means of; from cache is "
        f"the number taken over from earlier runs. × is against {results.suite.baseline}. {_peak_note(kinds, costs)}"
    ]
    if any(_has_ratios(arm) for arm in arms):
        notes.append(
            "× with an interval: the ratio of the two means over images that this run made on the same hardware, with "
            f"its 95 % interval over batches, of {FEWEST_BATCHES} or more; no ratio of stages under {SHORTEST_MS:g} ms."
        )
    names = [*label_headers(results), *headers]
    return Table("Cost", names, len(label_headers(results)), rows, notes, hints=hints.of_labels(names))


def _peak_note(kinds: Sequence[str | None], costs: Sequence[Cost]) -> str:
    """What peak memory is of; a process's is said once, beside no method."""
    apart = sorted({cost.memory_batch for cost in costs if cost.memory_bytes is not None and cost.memory_batch})
    if apart:
        images = " or ".join(f"{n} image{'s' * (n > 1)}" for n in apart)
        return (
            "Peak memory: of the noise stage or of sampling, whichever needs more, above the loaded model, for a batch "
            f"of {images} in a process of its own; one batch, so × has no interval."
        )
    of_process = [cost.peak_bytes for cost in costs if cost.peak_kind == PROCESS and cost.peak_bytes]
    if not of_process:
        return f"Peak memory: {', '.join(name for name in kinds if name) or MISSING}."
    return (
        f"On a CPU memory is measured of the whole process, {max(of_process) / 2**20:,.0f} MiB at its peak: whatever "
        "ran before a method is in it, so no method's is shown."
    )


def _has_ratios(arm: ArmRow) -> bool:
    """Whether any cost of an arm could be divided by the baseline's."""
    ratios = arm.cost.ratios
    rest = (
        ratios.total_ms,
        ratios.calls_noise,
        ratios.calls_sampling,
        ratios.calls_total,
        ratios.peak_bytes,
        ratios.memory_bytes,
    )
    return any(ratio is not None for ratio in (*stage_ratios(arm).values(), *rest))


def _counted(cost: Cost) -> dict[str, float | None]:
    """The columns of COUNTED."""
    return dict(zip(COUNTED, (cost.backwards, cost.networks, cost.rewards), strict=True))


def _cost(arm: ArmRow, stages: Sequence[str], counted: Sequence[str]) -> list[Cell]:
    cost, ratios = arm.cost, arm.cost.ratios

    def times(ratio: Ratio | None) -> str:
        if arm.is_baseline or ratio is None:
            return ""
        said, bounds = number(ratio.ratio, 2), interval(ratio.low, ratio.high, 2)
        # A count that every pair agrees on has no interval worth a line.
        return f"× {said} {'' if bounds == f'[{said}, {said}]' else bounds}".rstrip()

    return [
        *(Cell(_count(calls)) for calls in (cost.calls_noise, cost.calls_sampling)),
        Cell(_count(cost.calls_total), times(ratios.calls_total)),
        *(Cell(_count(_counted(cost)[name])) for name in counted),
        *(Cell(number(stage_times(cost)[stage], 1), times(stage_ratios(arm)[stage])) for stage in stages),
        Cell(number(cost.total_ms, 1), times(ratios.total_ms)),
        _peak(cost, times),
        *(Cell(_count(n)) for n in (cost.n_timed, cost.from_cache)),
    ]


def _peak(cost: Cost, times: Callable[[Ratio | None], str]) -> Cell:
    """The memory measured apart where it was; else the peak of its batches, unless that is the whole process's."""
    if cost.memory_bytes is not None:
        return Cell(f"{cost.memory_bytes / 2**20:,.1f} MiB", times(cost.ratios.memory_bytes))
    peak = own_peak(cost)
    return Cell(MISSING if peak is None else f"{peak / 2**20:,.0f} MiB", times(cost.ratios.peak_bytes))


def _count(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


# Seeds and categories ------------------------------------------------------------------------------------------------


def seed_table(results: Results) -> Table:
    """Every seed alone, on all prompts: whether an effect hangs on the seeds (the paper's table 14)."""
    lines, names = _lines(results, results.seeds, lambda row: (*row.setting, row.method, row.seed))
    extra = ["setting"] if has_settings(results) else []
    laid = [
        [Cell(row.model), *([Cell(setting(row))] if extra else []), Cell(row.method), Cell(str(row.seed)), *cells]
        for row, cells in lines
    ]
    notes = [
        "All prompt sets pooled. Mean; then the paired delta against "
        f"{results.suite.baseline} on the same seed with its 95 % interval. No correction for looking at many seeds: "
        "read the spread, not single rows."
    ]
    headers = ["model", *extra, "method", "seed", *(metric_header(results, name) for name in names)]
    meaning = _hints(results, headers, names)
    return Table("Seeds", headers, 3 + len(extra), laid, notes, folded=len(laid) > LONG, hints=meaning)


def category_table(results: Results) -> Table:
    """Prompt sets by their own categories."""
    lines, names = _lines(
        results, results.categories, lambda row: (*row.setting, row.prompts, row.category, row.method)
    )
    extra = ["setting"] if has_settings(results) else []
    laid = [
        [Cell(row.model), *([Cell(setting(row))] if extra else []), Cell(prompts_name(row.prompts)),
         Cell(row.category or "no category"), Cell(row.method, f"n {row.n}" if row.n else ""), *cells]
        for row, cells in lines
    ]  # fmt: skip
    notes = [
        f"Mean; then the paired delta against {results.suite.baseline} with its 95 % interval. No correction for "
        "looking at many categories: where one matters, test it in a run of its own."
    ]
    headers = ["model", *extra, "prompts", "category", "method", *(metric_header(results, name) for name in names)]
    return Table("Categories", headers, 4 + len(extra), laid, notes, True, _hints(results, headers, names))


def _hints(results: Results, headers: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Of columns of words, then one a metric."""
    words = headers[: len(headers) - len(metrics)]
    return [*hints.of_labels(list(words)), *(hints.of_metric(results, name) for name in metrics)]


def mixed_table(results: Results) -> Table:
    """Categories of a metric whose mean over categories is no quantity of its own, side by side; before all means."""
    given = [row for row in results.categories if mixed(row.metric)]
    metric = given[0].metric if given else ""
    names = distinct(row.category for row in given)
    arms = {place(arm): arm for arm in results.arms}
    groups: dict[Place, dict[str, CategoryRow]] = {}
    for row in given:
        groups.setdefault(place(row), {})[row.category] = row
    digits, several = places(results, metric), has_settings(results)
    laid = [
        [*labels_of(results, arms[key], several=several),
         *(_part(group.get(name), digits, mark=mark_of(arms[key], metric), pair=False, whole=arms[key].complete)
           for name in names)]
        for key, group in groups.items()
    ]  # fmt: skip
    notes = [
        f"Mean; then the paired delta against {results.suite.baseline} with its 95 % interval, not corrected for their "
        "number. Categories have scores of different kinds, shares and a cosine (non_spatial): compare within one."
    ]
    headers = [*label_headers(results), *(name.replace("_", " ") for name in names)]
    return Table(f"{metric_title(results, metric)} by category", headers, len(label_headers(results)), laid, notes)


def _lines(
    results: Results, given: Sequence[AnyPart], of: Callable[[AnyPart], tuple[object, ...]]
) -> tuple[list[Line[AnyPart]], list[str]]:
    """Lines of a table, one for all rows of which `of` says the same, and their metrics; a row a metric."""
    groups: dict[tuple[object, ...], dict[str, AnyPart]] = {}
    for row in given:
        groups.setdefault(of(row), {})[row.metric] = row
    found = {row.metric for row in given}
    names = [name for name in results.metrics if name in found]
    digits = {name: places(results, name) for name in names}
    marking = {(arm.model, arm.method): arm for arm in results.arms}
    # An incomplete arm's delta would be over other pairs than its neighbours'.
    lacking = {place(arm) for arm in results.arms if not arm.complete}
    lines = []
    for group in groups.values():
        first = next(iter(group.values()))
        cells = [
            _part(
                group.get(name),
                digits[name],
                mark=mark_of(marking.get((first.model, first.method)), name),
                pair=kind(results, name) == "pair",
                whole=place(first) not in lacking,
            )
            for name in names
        ]
        lines.append(Line(first, cells))
    return lines, names


def _part(row: PartRow | None, digits: int, *, mark: str, whole: bool, pair: bool) -> Cell:
    if row is None:
        return Cell(MISSING)
    known = whole and row.delta is not None
    if pair:
        rate = percent(row.win_rate, row.win_low, row.win_high) if known else MISSING
        return Cell((rate if known or whole else preferred(row.mean)) + mark)
    text = number(row.mean, digits) + mark
    if not known:
        return Cell(text)
    bounds = interval(row.low, row.high, digits, sign=True)
    return Cell(text, f"{number(row.delta, digits, sign=True)} {bounds}".rstrip())
