"""One panel drawn by matplotlib, for the page and for files: win rates, quality and cost, curves, stages, memory.

Lengths are points. Every panel has fixed margins, so nothing is laid out twice and the same panel is the same picture
everywhere. Shape and label repeat what colour says. Matplotlib takes about a second to load: only functions import it.
"""

from __future__ import annotations

import importlib.util
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.report.panels import (
    Bar,
    CostPanel,
    Line,
    MemoryPanel,
    Panel,
    StagePanel,
    StepPanel,
    WinPanel,
    side_by_side,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 320.0
WIDE = 900.0
"""Of a panel that stands alone on a broad page."""
ROW, STAGE_ROW = 36.0, 48.0
SIDE = 12.0
"""Left and right of what has no axis with numbers."""

# Okabe and Ito's colours, the grey of the baseline first; shapes repeat what colours say.
COLOURS = ("#6b7280", "#e69f00", "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#d8c600")
MARKERS = ("o", "s", "^", "D", "X", "v", "P")
STAGE_COLOURS = ("#9aa3ad", "#d55e01", "#56b4ea", "#f0e442", "#009e74")
"""As far as they are colours of methods too, one unit of blue apart: the page tells them apart by their value."""
INK, SOFT, LINE, PAPER = "#1b1f24", "#57606a", "#d5dae0", "#fffffe"

_STYLE = {
    # Names are shown as they are: no mathematics between dollars, and no LaTeX.
    "text.parse_math": False,
    "text.usetex": False,
    "svg.hashsalt": "noisebench",
    "font.family": "DejaVu Sans",
    "font.size": 11.0,
    "text.color": INK,
    "axes.unicode_minus": True,
}


class Frame(NamedTuple):
    """A panel's height, and the margins around its axes."""

    height: float
    left: float
    right: float
    top: float
    bottom: float


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


@contextmanager
def styled(*, outlines: bool) -> Iterator[None]:
    """All drawing happens within this; `outlines` makes an SVG's texts shapes, for machines without the font."""
    import matplotlib

    with matplotlib.rc_context(_STYLE | {"svg.fonttype": "path" if outlines else "none"}), warnings.catch_warnings():
        # A method's name may hold characters that the font lacks; they are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def frame(panel: Panel) -> Frame:
    """How high a panel is, and where its axes stand in it."""
    if isinstance(panel, WinPanel):
        return Frame(54 + ROW * len(panel.bars), SIDE, SIDE, 30, 24)
    if isinstance(panel, StagePanel):
        return Frame(36 + STAGE_ROW * len(panel.splits), SIDE, SIDE, 30, 6)
    if isinstance(panel, MemoryPanel):
        return Frame(36 + ROW * len(panel.peaks), SIDE, SIDE, 30, 6)
    return Frame(250, 56, 14, 46, 44)


def draw(figure: Figure, panel: Panel, *, left: float, top: float, width: float) -> None:
    """Draw a panel into a figure, `left` and `top` points from the figure's upper left corner."""
    whole, high = (72 * size for size in figure.get_size_inches())
    at = frame(panel)
    place = (
        (left + at.left) / whole,
        1 - (top + at.height - at.bottom) / high,
        (width - at.left - at.right) / whole,
        (at.height - at.top - at.bottom) / high,
    )
    axes = figure.add_axes(place)
    axes.patch.set_visible(False)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelsize=10.5, labelcolor=SOFT)
    title = short(panel.title or _UNTITLED.get(type(panel), ""), round(width / 7.6))
    figure.text((left + SIDE) / whole, 1 - (top + 16) / high, title, size=13, weight="bold")
    _DRAWN[type(panel)](axes, panel)
    axes.set_axisbelow(True)
    for artist in axes.findobj(include_self=False):
        artist.set_clip_on(False)


def _win(axes: Axes, panel: WinPanel) -> None:
    # The same reach to both sides, so that a win and a loss of one size look the same.
    reach = max([0.06, *(abs(edge - 0.5) for bar in panel.bars for edge in (bar.low, bar.high, bar.rate))]) * 1.05
    reach = 100 * min(0.5, reach)
    axes.set_xlim(50 - reach, 50 + reach)
    axes.set_ylim(ROW * len(panel.bars), 0)
    marks = ticks(50 - reach, 50 + reach)
    axes.set_xticks(marks, [f"{mark:.4g} %" for mark in marks])
    axes.set_yticks([])
    axes.grid(axis="x", color=LINE, linewidth=0.7)
    axes.axvline(50, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    for place, bar in enumerate(panel.bars):
        _bar(axes, bar, ROW * place)


def _bar(axes: Axes, bar: Bar, top: float) -> None:
    tint, share = colour(bar.index), 100 * bar.rate
    axes.barh(
        top + 25, share - 50, left=50, height=10, linewidth=1.4, edgecolor=tint, color="none" if bar.marked else tint,
        linestyle=(0, (3, 2)) if bar.marked else "-",
    )  # fmt: skip
    _label(axes, top + 14, short(bar.method + bar.mark), f"{share:.1f} %")
    low, high = 100 * bar.low, 100 * bar.high
    axes.plot([low, high], [top + 25] * 2, color=INK, linewidth=1.5, marker="|", markersize=8, markeredgewidth=1.5)


def _cost(axes: Axes, panel: CostPanel) -> None:
    costs = [point.cost for point in panel.points]
    _heights(axes, [0.0, *(edge for point in panel.points for edge in (point.low, point.high))], sign=True)
    # The axis starts at zero unless that would squeeze all methods into a corner: cost is read as a ratio.
    start = 0.0 if min(costs) < 0.8 * max(costs) else min(costs) - 0.1 * (max(costs) - min(costs) or max(costs) or 1.0)
    end = max(costs) + 0.12 * (max(costs) - start or 1.0)
    axes.set_xlim(start, end)
    marks = ticks(start, end, 4)
    axes.set_xticks(marks, [f"{mark:,.6g}" for mark in marks])
    axes.axhline(0, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    gap = 7 * (end - start) / _span(axes)
    for across, point in zip(side_by_side(costs, gap=gap), panel.points, strict=True):
        axes.plot([across] * 2, [point.low, point.high], color=INK, linewidth=1.5)
        axes.plot([across], [point.delta], **mark_of(point.index, hollow=point.marked))
    _axis_names(axes, "paired delta", panel.axis)


def _steps(axes: Axes, panel: StepPanel) -> None:
    edges = [edge for line in panel.lines for _, *found in line.points for edge in found]
    _heights(axes, [0.0, *edges] if panel.delta else edges, sign=panel.delta)
    steps = sorted({step for line in panel.lines for step, *_ in line.points})
    span = steps[-1] - steps[0] or 1.0
    axes.set_xlim(steps[0] - 0.07 * span, steps[-1] + 0.07 * span)
    width, shown = _span(axes), list[float]()
    for step in steps:
        if not shown or (step - shown[-1]) * width / (1.14 * span) > 22:
            shown.append(step)
    axes.set_xticks(shown, [f"{step:g}" for step in shown])
    if panel.delta:
        axes.axhline(0, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    for place, line in enumerate(panel.lines):
        # Deltas stand a little apart, so that their whiskers do not hide one another.
        shift = 3 * 1.14 * span / width * (place - (len(panel.lines) - 1) / 2) if panel.delta else 0.0
        _curve(axes, line, shift)
    _axis_names(axes, panel.axis, "steps")


def _curve(axes: Axes, line: Line, shift: float) -> None:
    tint = colour(line.index)
    across = [step + shift for step, *_ in line.points]
    for x, (_, _, low, high) in zip(across, line.points, strict=True):
        axes.plot([x, x], [low, high], color=tint, linewidth=1.1)
    look = mark_of(line.index, hollow=line.marked) | {"linestyle": "-", "linewidth": 1.8, "color": tint}
    axes.plot(across, [value for _, value, *_ in line.points], **look)


def _stages(axes: Axes, panel: StagePanel) -> None:
    axes.set_xlim(0, max(split.total for split in panel.splits))
    axes.set_ylim(STAGE_ROW * len(panel.splits), 0)
    axes.set_xticks([])
    axes.set_yticks([])
    for place, split in enumerate(panel.splits):
        top, left = STAGE_ROW * place, 0.0
        _label(axes, top + 12, short(split.method), f"{split.total:,.4g} ms")
        for tint, time in zip(STAGE_COLOURS, split.stages, strict=True):
            axes.barh(top + 24, time, left=left, height=12, color=tint, edgecolor=PAPER, linewidth=0.6)
            left += time
        # Judging among candidates is said only where there was any.
        shown = split.stages if split.stages[-1] else split.stages[:-1]
        said = " + ".join(f"{time:,.3g}" for time in shown)
        axes.text(0, top + 42, said, transform=axes.get_yaxis_transform(), size=10.5, color=SOFT)


def _memory(axes: Axes, panel: MemoryPanel) -> None:
    axes.set_xlim(0, max(peak for _, peak in panel.peaks))
    axes.set_ylim(ROW * len(panel.peaks), 0)
    axes.set_xticks([])
    axes.set_yticks([])
    for place, (method, peak) in enumerate(panel.peaks):
        _label(axes, ROW * place + 12, short(method), f"{peak:,.0f} MiB")
        axes.barh(ROW * place + 22, peak, height=8, color=SOFT)


_DRAWN: dict[type, Any] = {
    WinPanel: _win, CostPanel: _cost, StepPanel: _steps, StagePanel: _stages, MemoryPanel: _memory,
}  # fmt: skip
_UNTITLED = {StagePanel: "Time of an image", MemoryPanel: "Peak memory"}


def _label(axes: Axes, y: float, name: str, value: str) -> None:
    """A method's name over its bar, and the number at the other end."""
    where = axes.get_yaxis_transform()
    axes.text(0, y, name, transform=where)
    axes.text(1, y, value, transform=where, ha="right")


def _heights(axes: Axes, edges: list[float], *, sign: bool) -> None:
    """The upright axis, with horizontal grid lines at round numbers."""
    low, high = min(edges), max(edges)
    pad = (high - low or abs(high) or 1.0) * 0.08
    axes.set_ylim(low - pad, high + pad)
    marks = ticks(low - pad, high + pad)
    axes.set_yticks(marks, ["0" if mark == 0 else f"{mark:+.4g}" if sign else f"{mark:.4g}" for mark in marks])
    axes.grid(axis="y", color=LINE, linewidth=0.7)


def _axis_names(axes: Axes, up: str, across: str) -> None:
    """What is upwards, above the axis, where it is read without turning the head; and what is across, below."""
    look: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "size": 10.5, "color": SOFT}
    axes.annotate(short(up, 50), (0, 1), (SIDE - 56, 8), **look)
    axes.annotate(short(across, 50), (1, 0), (0, -34), ha="right", **look)


def _span(axes: Axes) -> float:
    """Points from the left to the right end of the axes."""
    return float(axes.get_position().width * axes.get_figure().get_size_inches()[0] * 72)  # type: ignore[union-attr]


def mark_of(index: int, *, hollow: bool = False) -> dict[str, Any]:
    """A method's colour and shape, as matplotlib's keywords."""
    tint = colour(index)
    return {"marker": MARKERS[index % len(MARKERS)], "markersize": 8, "linestyle": "none", "markeredgecolor": tint,
            "markeredgewidth": 1.6, "markerfacecolor": PAPER if hollow else tint}  # fmt: skip


def colour(index: int) -> str:
    """The baseline is grey, the others take turns."""
    return COLOURS[0] if index == 0 else COLOURS[1 + (index - 1) % (len(COLOURS) - 1)]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) within [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, math.floor(high / step + 1e-9) + 1)]


def short(text: str, longest: int = 34) -> str:
    """A name as one short line without characters that an SVG may not hold."""
    line = re.sub(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]+", " ", text).strip()
    return line if len(line) <= longest else line[: longest - 1] + "…"
