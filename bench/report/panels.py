"""What the figures show, as numbers: win rates, quality against cost, curves over steps, the split of time and memory.

`figures` draws these as SVG inside the page, `plots` as PNG and SVG files, so both show the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.measure import PROCESS
from bench.report.words import (
    Results,
    Row,
    baseline_name,
    distinct,
    finite,
    higher_is_better,
    mark,
    pooled,
    prompts_name,
    setting_key,
)

STAGES = ("encode", "noise", "sampling", "decode", "select")
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
    bars: list[Bar]


@dataclass(frozen=True)
class CostPanel:
    """Quality on one metric against what an image costs, in one setting; `axis` says what cost is."""

    title: str
    axis: str
    points: list[Point]


@dataclass(frozen=True)
class StepPanel:
    """One metric over the number of steps: the paired delta, or the mean."""

    title: str
    axis: str
    lines: list[Line]
    delta: bool


@dataclass(frozen=True)
class StagePanel:
    """Time and memory of all methods in one setting."""

    title: str
    splits: list[Split]


def methods(results: Results) -> dict[str, int]:
    """Every method with its colour's index, the baseline first as 0."""
    names = distinct(arm["method"] for arm in results.get("arms") or [])
    others = [name for name in names if name != baseline_name(results)]
    return {name: index for index, name in enumerate([baseline_name(results), *others])}


def win_panels(results: Results) -> list[WinPanel]:
    """Win rates (the paper's figure 3)."""
    index = methods(results)
    panels = []
    for title, _, rows in _compared(results):
        bars = [
            Bar(row["method"], index.get(row["method"], 1), *known, bool(row.get("marked")), mark(row))
            for row in rows
            if (known := _known(row, "win_rate", "win_low", "win_high"))
        ]
        if bars:
            panels.append(WinPanel(title, bars))
    return panels


def cost_panels(results: Results) -> list[CostPanel]:
    """Quality against the time of an image (the paper's figure 5); against calls where times are missing."""
    arms = {(setting_key(arm), arm["prompts"], arm["method"]): arm for arm in results.get("arms") or []}
    index, panels = methods(results), []
    for title, _, rows in _compared(results):
        head = (setting_key(rows[0]), rows[0]["prompts"])
        mine = {name: arms.get((*head, name), {}).get("cost") or {} for name in index}
        compared = [(row, known) for row in rows if (known := _known(row, "delta", "low", "high"))]
        used = [baseline_name(results), *(row["method"] for row, _ in compared)]
        # Calls where times are missing: with images from the cache nothing was timed, but calls are known.
        timed = all(finite(mine.get(name, {}).get("total_ms")) is not None for name in used)
        column, axis = ("total_ms", "ms per image") if timed else ("calls_total", "denoiser calls per image")
        cost = {name: value for name in used if (value := finite(mine.get(name, {}).get(column))) is not None}
        points = [Point(name, 0, cost[name], 0.0, 0.0, 0.0) for name in used[:1] if name in cost]
        points += [
            Point(row["method"], index.get(row["method"], 1), cost[row["method"]], *known,
                  marked=bool(row.get("marked")))
            for row, known in compared if row["method"] in cost
        ]  # fmt: skip
        if len(points) > 1:
            panels.append(CostPanel(title, axis, points))
    return panels


def step_panels(results: Results) -> list[StepPanel]:
    """Every metric's paired delta and mean over the number of steps, where a run has several (the paper's figure 4)."""
    arms = [arm for arm in pooled(results.get("arms") or []) if arm.get("complete")]
    rows = [row for row in pooled(results.get("comparisons") or []) if row.get("complete")]
    lines = distinct(_track(arm) for arm in arms)
    varied = [track for track in lines if len({arm["steps"] for arm in arms if _track(arm) == track}) > 1]
    panels = []
    for name, metric in (results.get("metrics") or {}).items():
        for track in varied:
            first = next(arm for arm in arms if _track(arm) == track)
            title = ", ".join([str(metric.get("title") or name), *_what_differs(arms, first, steps=False)])
            unit = f" ({metric['unit']})" if metric.get("unit") else ""
            arrow = "" if higher_is_better(results, name) else ", lower is better"
            deltas = [row for row in rows if _track(row) == track and row["metric"] == name]
            means = [arm | ((arm.get("metrics") or {}).get(name) or {}) for arm in arms if _track(arm) == track]
            marked = {row["method"] for row in deltas if row.get("marked")}
            panels += [
                StepPanel(title, axis + arrow, drawn, paired)
                for axis, drawn, paired in (
                    (f"paired delta{unit}", _lines(results, deltas, "delta", marked), True),
                    (f"mean{unit}", _lines(results, means, "mean", marked), False),
                )
                if drawn
            ]
    return panels


def stage_panels(results: Results) -> list[StagePanel]:
    """The time of an image by its stages, and peak memory (the paper's figure 16)."""
    arms, index = pooled(results.get("arms") or []), methods(results)
    heads = distinct((setting_key(arm), arm["prompts"]) for arm in arms)
    panels = []
    for head in heads:
        mine = [arm for arm in arms if (setting_key(arm), arm["prompts"]) == head]
        splits = []
        for arm in mine:
            cost = arm.get("cost") or {}
            known = [finite(cost.get(f"{stage}_ms")) for stage in STAGES]
            times = tuple(0.0 if value is None else value for value in known)
            own = None if cost.get("peak_kind") == PROCESS else finite(cost.get("peak_bytes"))
            peak = finite(cost.get("memory_bytes")) or own
            if sum(times) > 0:
                splits.append(Split(arm["method"], index[arm["method"]], times, peak / MEBIBYTE if peak else None))
        if splits:
            panels.append(StagePanel(", ".join(_what_differs(arms, mine[0])), splits))
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


def _compared(results: Results) -> list[tuple[str, str, list[Row]]]:
    """(title, metric, complete comparisons) of every setting and metric on pooled prompts."""
    rows = [row for row in pooled(results.get("comparisons") or []) if row.get("complete")]
    heads = distinct((setting_key(row), row["prompts"]) for row in rows)
    panels = []
    for name, metric in (results.get("metrics") or {}).items():
        for head in heads:
            mine = [row for row in rows if (setting_key(row), row["prompts"]) == head and row["metric"] == name]
            if mine:
                title = ", ".join([str(metric.get("title") or name), *_what_differs(rows, mine[0])])
                panels.append((title, name, mine))
    return panels


def _what_differs(rows: list[Row], row: Row, *, steps: bool = True) -> list[str]:
    """The parts of a row's setting that are not the same in all rows: a panel's title has no room for the others."""
    said = {
        "model": str(row.get("model")),
        "sampler": str(row.get("sampler")),
        "steps": f"{row.get('steps')} steps",
        "guidance": f"g {row.get('guidance')}",
        "prompts": prompts_name(str(row.get("prompts"))),
    }
    return [
        words
        for column, words in said.items()
        if (steps or column != "steps") and len({other.get(column) for other in rows}) > 1
    ]


def _track(row: Row) -> tuple[Any, ...]:
    """What is held fixed along a curve over steps."""
    return row.get("model"), row.get("sampler"), row.get("guidance"), row.get("prompts")


def _lines(results: Results, rows: list[Row], column: str, marked: set[str]) -> list[Line]:
    lines = []
    for method, index in methods(results).items():
        points = []
        for row in sorted((row for row in rows if row["method"] == method), key=lambda row: row["steps"]):
            if (value := finite(row.get(column))) is not None:
                low, high = (value if finite(row.get(end)) is None else float(row[end]) for end in ("low", "high"))
                points.append((float(row["steps"]), value, low, high))
        if points:
            lines.append(Line(method, index, tuple(points), method in marked))
    return lines


def _known(row: Row, *names: str) -> tuple[float, float, float] | None:
    """Three numbers of a row, or None where one was not measured."""
    first, second, third = (finite(row.get(name)) for name in names)
    return None if first is None or second is None or third is None else (first, second, third)
