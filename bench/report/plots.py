"""The report's figures as PNG and SVG files, drawn by matplotlib; colours and shapes are those of the page.

Matplotlib is an optional extra and takes about a second to load, so it is loaded when figures are written.
"""

from __future__ import annotations

import importlib.util
import io
import math
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.records import Results
from bench.report.costed import STAGES
from bench.report.panels import (
    CostPanel,
    StagePanel,
    StepPanel,
    WinPanel,
    cost_panels,
    methods,
    side_by_side,
    stage_panels,
    step_panels,
    win_panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISSING_LIBRARY = "no figures as PNG and SVG, for matplotlib is not installed; pip install matplotlib"
PANELS = 12
COLUMNS = 3
DPI = 160

# Okabe and Ito's colours, the grey of the baseline first; shapes repeat what colours say. As in the page's stylesheet.
COLOURS = ("#6b7280", "#e69f00", "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#d8c600")
MARKERS = ("o", "s", "^", "D", "X", "v", "P")
STAGE_COLOURS = ("#9aa3ad", "#d55e00", "#56b4e9", "#f0e442", "#009e73")
_INK, _SOFT, _LINE = "#1b1f24", "#57606a", "#d5dae0"
_STYLE = {
    # Names are shown as they are: no mathematics between dollars, and no LaTeX.
    "text.parse_math": False,
    "text.usetex": False,
    "svg.hashsalt": "noisebench",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.color": _INK,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def write(results: Results, folder: Path) -> list[Path]:
    """Write every figure that the results can fill into `folder`, as PNG and SVG; older ones without data go.

    The bytes follow from the results and the versions of matplotlib and its libraries alone.
    """
    import matplotlib

    from bench.store import write_atomically

    index, written = methods(results), []
    stages = stage_panels(results)
    figures: dict[str, list[Any]] = {
        "win_rates": win_panels(results),
        "quality_cost": cost_panels(results),
        "step_curves": step_panels(results),
        "stage_split": [*stages, *(_Memory(panel) for panel in stages if any(split.peak for split in panel.splits))],
    }
    for name, panels in figures.items():
        paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
        if not panels:
            for path in paths:
                path.unlink(missing_ok=True)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
            # A method's name may hold characters that the font lacks; they are drawn as boxes.
            warnings.filterwarnings("ignore", message="Glyph")
            figure = _figure(panels[:PANELS], index)
            for path in paths:
                write_atomically(path, _bytes(figure, path.suffix[1:]))
                written.append(path)
    return written


class _Memory:
    """A stage panel seen for its memory."""

    def __init__(self, panel: StagePanel):
        self.panel = panel


def _figure(panels: list[Any], index: dict[str, int]) -> Figure:
    # The object interface: pyplot would keep global state and look for a window.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Delta and mean of a metric stand side by side; four panels make a square.
    columns = min(2 if isinstance(panels[0], StepPanel) or len(panels) == 4 else COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    height = max(_height(panel) for panel in panels)
    legend = not isinstance(panels[0], WinPanel)
    size = (3.9 * columns, height * rows + (0.5 if legend else 0.1))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw(axes, panel)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    if legend:
        _legend(figure, panels, index)
    # Lay out once, not again for every file.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _height(panel: Any) -> float:
    if isinstance(panel, WinPanel):
        return 0.75 + 0.32 * len(panel.bars)
    if isinstance(panel, StagePanel):
        return 0.75 + 0.34 * len(panel.splits)
    if isinstance(panel, _Memory):
        return 0.75 + 0.34 * len(panel.panel.splits)
    return 2.9


def _draw(axes: Axes, panel: Any) -> None:
    if isinstance(panel, WinPanel):
        _win(axes, panel)
    elif isinstance(panel, CostPanel):
        _cost(axes, panel)
    elif isinstance(panel, StepPanel):
        _steps(axes, panel)
    elif isinstance(panel, StagePanel):
        _stages(axes, panel)
    else:
        _memory(axes, panel.panel)
    axes.set_axisbelow(True)


def _win(axes: Axes, panel: WinPanel) -> None:
    places = range(len(panel.bars))
    for place, bar in zip(places, panel.bars, strict=True):
        colour = _colour(bar.index)
        axes.barh(
            place, 100 * bar.rate - 50, left=50, height=0.5, color="none" if bar.marked else colour, edgecolor=colour,
            linestyle="--" if bar.marked else "-", linewidth=1.2,
        )  # fmt: skip
        axes.errorbar(
            100 * bar.rate, place, xerr=[[100 * max(0.0, bar.rate - bar.low)], [100 * max(0.0, bar.high - bar.rate)]],
            color=_INK, capsize=2.5, linewidth=1.1,
        )  # fmt: skip
    reach = max([6.0, *(abs(100 * edge - 50) for bar in panel.bars for edge in (bar.low, bar.high, bar.rate))]) * 1.05
    axes.set_xlim(50 - min(reach, 50), 50 + min(reach, 50))
    axes.set_yticks(places, [_name(bar.method) + bar.mark for bar in panel.bars])
    axes.invert_yaxis()
    axes.axvline(50, color=_SOFT, linestyle="--", linewidth=1)
    _frame(axes, panel.title, xlabel="win rate, %", grid="x")


def _cost(axes: Axes, panel: CostPanel) -> None:
    axes.axhline(0, color=_SOFT, linestyle="--", linewidth=1)
    costs = [point.cost for point in panel.points]
    squeezed = min(costs) < 0.8 * max(costs)
    reach = max(costs) - (0 if squeezed else min(costs)) or 1.0
    places = side_by_side(costs, gap=0.015 * reach)
    for across, point in zip(places, panel.points, strict=True):
        axes.errorbar(
            across, point.delta,
            yerr=[[max(0.0, point.delta - point.low)], [max(0.0, point.high - point.delta)]],
            **_mark(point.index, hollow=point.marked), ecolor=_colour(point.index), capsize=2, linewidth=1,
        )  # fmt: skip
    if squeezed:
        axes.set_xlim(left=0)  # cost is read as a ratio, unless that squeezes all methods into a corner
    axes.margins(x=0.12)
    apart = " (close neighbours set apart)" if places != costs else ""
    _frame(axes, panel.title, xlabel=panel.axis + apart, ylabel="paired delta", grid="y")


def _steps(axes: Axes, panel: StepPanel) -> None:
    steps = sorted({step for line in panel.lines for step, *_ in line.points})
    apart = 0.012 * ((steps[-1] - steps[0]) or 1.0)
    if panel.delta:
        axes.axhline(0, color=_SOFT, linestyle="--", linewidth=1)
    for place, line in enumerate(panel.lines):
        shift = apart * (place - (len(panel.lines) - 1) / 2) if panel.delta else 0.0
        across = [step + shift for step, *_ in line.points]
        values = [value for _, value, _, _ in line.points]
        below = [max(0.0, value - low) for _, value, low, _ in line.points]
        above = [max(0.0, high - value) for _, value, _, high in line.points]
        look = _mark(line.index, hollow=line.marked) | {"linestyle": "-", "color": _colour(line.index)}
        axes.errorbar(across, values, yerr=[below, above], capsize=2, linewidth=1.2, elinewidth=0.9, **look)
    axes.set_xticks(steps, [f"{step:g}" for step in steps])
    _frame(axes, panel.title, xlabel="steps", ylabel=panel.axis, grid="y")


def _stages(axes: Axes, panel: StagePanel) -> None:
    for place, split in enumerate(panel.splits):
        left = 0.0
        for colour, time in zip(STAGE_COLOURS, split.stages, strict=True):
            axes.barh(place, time, left=left, height=0.55, color=colour, edgecolor="white", linewidth=0.6)
            left += time
        axes.annotate(f"{split.total:,.4g}", (left, place), xytext=(3, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(panel.splits)), [_name(split.method) for split in panel.splits])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25 * max(split.total for split in panel.splits))
    _frame(axes, panel.title or "Time of an image", xlabel="ms per image", grid="x")


def _memory(axes: Axes, panel: StagePanel) -> None:
    known = [(split.method, split.peak) for split in panel.splits if split.peak]
    for place, (_, peak) in enumerate(known):
        axes.barh(place, peak, height=0.45, color=_SOFT)
        axes.annotate(f"{peak:,.0f}", (peak, place), xytext=(3, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(known)), [_name(method) for method, _ in known])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25 * max(peak for _, peak in known))
    where = f", {panel.title}" if panel.title else ""
    _frame(axes, f"Peak memory{where}", xlabel="MiB", grid="x")


def _frame(axes: Axes, title: str, *, xlabel: str, ylabel: str = "", grid: Literal["x", "y"]) -> None:
    axes.set_title(_name(title, 60))
    axes.set_xlabel(_name(xlabel, 60))
    axes.set_ylabel(_name(ylabel, 60))
    axes.grid(axis=grid)


def _legend(figure: Figure, panels: list[Any], index: dict[str, int]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if isinstance(panels[0], (StagePanel, _Memory)):
        handles: list[Any] = [Patch(facecolor=colour) for colour in STAGE_COLOURS]
        names = list(STAGES)
    else:
        points = [item for panel in panels for item in (panel.lines if isinstance(panel, StepPanel) else panel.points)]
        shown = [name for name in index if any(item.method == name for item in points)]
        handles = [Line2D([], [], **_mark(index[name])) for name in shown]
        names = [_name(name) for name in shown]
        if any(item.marked for item in points):
            handles.append(Line2D([], [], linestyle="none"))
            names.append("hollow: the method optimises the metric")
    figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))


def _mark(index: int, *, hollow: bool = False) -> dict[str, Any]:
    colour = _colour(index)
    return {"marker": MARKERS[index % len(MARKERS)], "markersize": 6, "linestyle": "none", "markeredgecolor": colour,
            "markerfacecolor": "white" if hollow else colour}  # fmt: skip


def _colour(index: int) -> str:
    """The baseline is grey, the others take turns."""
    return COLOURS[0] if index == 0 else COLOURS[1 + (index - 1) % (len(COLOURS) - 1)]


def _name(text: str, longest: int = 34) -> str:
    """A name as one short line; a leading underscore would hide it from matplotlib's legend."""
    line = re.sub(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", text).strip()
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    return f" {line}" if line.startswith("_") else line


def _bytes(figure: Figure, kind: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    # No date and no version of the program: the same results give the same file. Not by savefig, which draws twice.
    if kind == "png":
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    else:
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": "noisebench"})
    return buffer.getvalue()
