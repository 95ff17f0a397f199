"""What the figures show, as numbers: win rates, quality against cost, curves over steps, the split of time and memory.

`drawing` draws a panel; `figures` puts it into the page and `plots` into files, so both show the same.
Panels of the same numbers are equal and have one hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from bench.records import ComparisonRow, Results
from bench.report.costed import own_peak, stage_times
from bench.report.parts import Labelled
from bench.report.words import (
    all_known,
    distinct,
    higher_is_better,
    mark,
    pooled,
    prompts_name,
    setting_key,
)

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Bar:
    """One method's win rate (a share) with its interval; `index` is its colour and shape, 0 for the baseline."""

    method: str
    index: int
    rate: float
    low: float
    high: float
    marked: bool = False
    mark: str = ""
    """What stands behind the method's name."""


@dataclass(frozen=True)
class Point:
    """One method's cost and paired delta with its interval; the baseline has neither delta nor interval."""

    method: str
    index: int
    cost: float
    delta: float
    low: float
    high: float
    marked: bool = False


@dataclass(frozen=True)
class Line:
    """One method over the number of steps: (steps, value, low, high) a point."""

    method: str
    index: int
    points: tuple[tuple[float, float, float, float], ...]
    marked: bool = False


@dataclass(frozen=True)
class Split:
    """One method's milliseconds an image by STAGES, and its peak memory in MiB where that is known."""

    method: str
    index: int
    stages: tuple[float, ...]
    peak: float | None

    @property
    def total(self) -> float:
        """Milliseconds an image."""
        return sum(self.stages)


@dataclass(frozen=True)
class WinPanel:
    """Win rates of all methods on one metric in one setting."""

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class CostPanel:
    """Quality on one metric against what an image costs, in one setting; `axis` says what cost is."""

    title: str
    axis: str
    points: tuple[Point, ...]
    metric: str
    head: tuple[object, ...]
    """Setting and prompts."""


@dataclass(frozen=True)
class StepPanel:
    """One metric over the number of steps: the paired delta, or the mean."""

    title: str
    axis: str
    lines: tuple[Line, ...]
    delta: bool


@dataclass(frozen=True)
class StagePanel:
    """The time of all methods in one setting, stage by stage."""

    title: str
    splits: tuple[Split, ...]


@dataclass(frozen=True)
class MemoryPanel:
    """Peak memory in MiB of the methods for which it is known, in one setting."""

    title: str
    peaks: tuple[tuple[str, float], ...]


Panel: TypeAlias = WinPanel | CostPanel | StepPanel | StagePanel | MemoryPanel


def methods(results: Results) -> dict[str, int]:
    """Every method with its colour's index, the baseline first as 0."""
    baseline = results.suite.baseline
    others = [name for name in distinct(arm.method for arm in results.arms) if name != baseline]
    return {name: index for index, name in enumerate([baseline, *others])}


def win_panels(results: Results) -> list[WinPanel]:
    """Win rates (the paper's figure 3)."""
    index = methods(results)
    panels = []
    for title, rows in _compared(results):
        bars = [
            Bar(row.method, index.get(row.method, 1), *known, row.marked, mark(row))
            for row in rows
            if (known := all_known(row.win_rate, row.win_low, row.win_high))
        ]
        if bars:
            panels.append(WinPanel(title, tuple(bars)))
    return panels


def cost_panels(results: Results) -> list[CostPanel]:
    """Quality against the time of an image (the paper's figure 5); against calls where times are missing."""
    arms = {(setting_key(arm), arm.prompts, arm.method): arm for arm in results.arms}
    index, panels, baseline = methods(results), [], results.suite.baseline
    for title, rows in _compared(results):
        head = (setting_key(rows[0]), rows[0].prompts)
        mine = {name: arms[*head, name].cost for name in index if (*head, name) in arms}
        compared = [(row, known) for row in rows if (known := all_known(row.delta, row.low, row.high))]
        used = [baseline, *(row.method for row, _ in compared)]
        # Calls where times are missing: with images from the cache nothing was timed, but calls are known.
        timed = all(name in mine and mine[name].total_ms is not None for name in used)
        costs = {name: cost.total_ms if timed else cost.calls_total for name, cost in mine.items()}
        cost = {name: value for name in used if (value := costs.get(name)) is not None}
        points = [Point(baseline, 0, cost[baseline], 0.0, 0.0, 0.0)] if baseline in cost else []
        points += [
            Point(row.method, index.get(row.method, 1), cost[row.method], *known, marked=row.marked)
            for row, known in compared
            if row.method in cost
        ]
        if len(points) > 1:
            axis = "ms per image" if timed else "denoiser calls per image"
            panels.append(CostPanel(title, axis, tuple(points), rows[0].metric, head))
    return panels


def step_panels(results: Results) -> list[StepPanel]:
    """Every metric's paired delta and mean over the number of steps, where a run has several (the paper's figure 4)."""
    arms = [arm for arm in pooled(results.arms) if arm.complete]
    rows = [row for row in pooled(results.comparisons) if row.complete]
    lines = distinct(_track(arm) for arm in arms)
    varied = [track for track in lines if len({arm.steps for arm in arms if _track(arm) == track}) > 1]
    panels = []
    for name, metric in results.metrics.items():
        for track in varied:
            first = next(arm for arm in arms if _track(arm) == track)
            title = ", ".join([metric.title, *_what_differs(arms, first, steps=False)])
            unit = f" ({metric.unit})" if metric.unit else ""
            arrow = "" if higher_is_better(results, name) else ", lower is better"
            deltas = [row for row in rows if _track(row) == track and row.metric == name]
            means = [(arm, arm.metrics.get(name)) for arm in arms if _track(arm) == track]
            marked = {row.method for row in deltas if row.marked}
            of_deltas = [_Spot(row.method, row.steps, row.delta, row.low, row.high) for row in deltas]
            of_means = [_Spot(arm.method, arm.steps, one.mean, one.low, one.high) for arm, one in means if one]
            panels += [
                StepPanel(title, axis + arrow, tuple(drawn), paired)
                for axis, drawn, paired in (
                    (f"paired delta{unit}", _curves(results, of_deltas, marked), True),
                    (f"mean{unit}", _curves(results, of_means, marked), False),
                )
                if drawn
            ]
    return panels


def stage_panels(results: Results) -> list[StagePanel]:
    """The time of an image by its stages, and peak memory (the paper's figure 16)."""
    arms, index = pooled(results.arms), methods(results)
    heads = distinct((setting_key(arm), arm.prompts) for arm in arms)
    panels = []
    for head in heads:
        mine = [arm for arm in arms if (setting_key(arm), arm.prompts) == head]
        splits = []
        for arm in mine:
            times = tuple(time or 0.0 for time in stage_times(arm.cost).values())
            peak = arm.cost.memory_bytes or own_peak(arm.cost)
            if sum(times) > 0:
                splits.append(Split(arm.method, index[arm.method], times, peak / MEBIBYTE if peak else None))
        if splits:
            panels.append(StagePanel(", ".join(_what_differs(arms, mine[0])), tuple(splits)))
    return panels


def memory_panels(stages: Sequence[StagePanel]) -> list[MemoryPanel]:
    """Peak memory, of the same settings as these."""
    panels = []
    for panel in stages:
        peaks = tuple((split.method, split.peak) for split in panel.splits if split.peak is not None)
        where = f", {panel.title}" if panel.title else ""
        panels += [MemoryPanel(f"Peak memory{where}", peaks)] if peaks else []
    return panels


def side_by_side(places: list[float], *, gap: float) -> list[float]:
    """Spread places that would hide one another around their common middle."""
    moved, cluster = list(places), list[int]()
    for index in [*sorted(range(len(places)), key=lambda index: places[index]), None]:
        if index is not None and (not cluster or places[index] - places[cluster[-1]] < gap):
            cluster.append(index)
            continue
        middle = sum(places[member] for member in cluster) / max(len(cluster), 1)
        for rank, member in enumerate(cluster):
            moved[member] = middle + (rank - (len(cluster) - 1) / 2) * gap if len(cluster) > 1 else places[member]
        cluster = [] if index is None else [index]
    return moved


def _compared(results: Results) -> list[tuple[str, list[ComparisonRow]]]:
    """(title, complete comparisons) of every setting and metric on pooled prompts."""
    rows = [row for row in pooled(results.comparisons) if row.complete]
    heads = distinct((setting_key(row), row.prompts) for row in rows)
    panels = []
    for name, metric in results.metrics.items():
        for head in heads:
            mine = [row for row in rows if (setting_key(row), row.prompts) == head and row.metric == name]
            if mine:
                panels.append((", ".join([metric.title, *_what_differs(rows, mine[0])]), mine))
    return panels


def _what_differs(rows: Sequence[Labelled], row: Labelled, *, steps: bool = True) -> list[str]:
    """The parts of a row's setting that are not the same in all rows: a panel's title has no room for the others."""
    said = (row.model, row.sampler, f"{row.steps} steps", f"g {row.guidance}", prompts_name(row.prompts))
    values = zip(*((*setting_key(other), other.prompts) for other in rows), strict=True)
    return [
        words
        for place, (words, others) in enumerate(zip(said, values, strict=True))
        if (steps or place != 2) and len(set(others)) > 1
    ]


def _track(row: Labelled) -> tuple[object, ...]:
    """What is kept fixed along a curve over steps."""
    return row.model, row.sampler, row.guidance, row.prompts


class _Spot(NamedTuple):
    """A method's value at one number of steps, with its interval where it has one."""

    method: str
    steps: int
    value: float | None
    low: float | None
    high: float | None


def _curves(results: Results, spots: Sequence[_Spot], marked: set[str]) -> list[Line]:
    lines = []
    for method, index in methods(results).items():
        points = []
        for spot in sorted((spot for spot in spots if spot.method == method), key=lambda spot: spot.steps):
            if (value := spot.value) is not None:
                low, high = (value if end is None else end for end in (spot.low, spot.high))
                points.append((float(spot.steps), value, low, high))
        if points:
            lines.append(Line(method, index, tuple(points), method in marked))
    return lines
