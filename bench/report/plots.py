"""The report's figures as PNG and SVG files: sheets of the panels that the page shows."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records import Results
from bench.report import drawing
from bench.report.costed import STAGES
from bench.report.panels import (
    MemoryPanel,
    Panel,
    StagePanel,
    StepPanel,
    WinPanel,
    cost_panels,
    memory_panels,
    methods,
    stage_panels,
    step_panels,
    win_panels,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MISSING_LIBRARY = "no figures, for matplotlib is not installed; pip install matplotlib"
NAMES = ("win_rates", "quality_cost", "step_curves", "stage_split")
PANELS = 12
COLUMNS = 3
DPI = 144
GAP = 14.0
"""Points between panels."""
LEGEND_ROW, LEGEND_COLUMN = 20.0, 160.0
HOLLOW = "hollow: chosen using this score"


def write(results: Results, folder: Path) -> list[Path]:
    """Write every figure that the results can fill into `folder`, as PNG and SVG; older ones without data go.

    The bytes follow from the results and the versions of matplotlib and its libraries alone.
    """
    from bench.store import write_atomically

    index, written = methods(results), []
    for name, panels in sheets(results).items():
        paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
        if not panels:
            for path in paths:
                path.unlink(missing_ok=True)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        with drawing.styled(outlines=True):
            figure = _sheet(panels[:PANELS], index)
            for path in paths:
                write_atomically(path, _bytes(figure, path.suffix[1:]))
                written.append(path)
    return written


def sheets(results: Results) -> dict[str, Sequence[Panel]]:
    """The panels of each of NAMES."""
    stages = stage_panels(results)
    split: list[Panel] = [*stages, *memory_panels(stages)]
    panels = (win_panels(results), cost_panels(results), step_panels(results), split)
    return dict(zip(NAMES, panels, strict=True))


def _sheet(panels: Sequence[Panel], index: dict[str, int]) -> Figure:
    # The object interface: pyplot would keep global state and look for a window.
    from matplotlib.figure import Figure

    # Delta and mean of a metric stand side by side; four panels make a square.
    columns = min(2 if isinstance(panels[0], StepPanel) or len(panels) == 4 else COLUMNS, len(panels))
    height = max(drawing.frame(panel).height for panel in panels) + GAP
    rows, width = math.ceil(len(panels) / columns), drawing.WIDTH + GAP
    legend = _legend(panels, index)
    across = max(1, int(width * columns // LEGEND_COLUMN))
    below = LEGEND_ROW * math.ceil(len(legend) / across)
    figure = Figure(figsize=(width * columns / 72, (height * rows + below) / 72), dpi=DPI)
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        drawing.draw(figure, panel, left=width * column, top=height * row, width=drawing.WIDTH)
    for place, (look, name) in enumerate(legend):
        row, column = divmod(place, across)
        _entry(figure, look, name, LEGEND_COLUMN * column + 16, height * rows + LEGEND_ROW * (row + 0.4))
    return figure


def _legend(panels: Sequence[Panel], index: dict[str, int]) -> list[tuple[dict[str, Any] | None, str]]:
    """(a mark's look, or nothing, and its name)."""
    if isinstance(panels[0], WinPanel):
        return []
    if isinstance(panels[0], (StagePanel, MemoryPanel)):
        look = {"marker": "s", "markersize": 9, "linestyle": "none"}
        return [(look | {"color": tint}, name) for tint, name in zip(drawing.STAGE_COLOURS, STAGES, strict=True)]
    items = [
        item
        for panel in panels
        if not isinstance(panel, (WinPanel, StagePanel, MemoryPanel))
        for item in (panel.lines if isinstance(panel, StepPanel) else panel.points)
    ]
    shown = [name for name in index if any(item.method == name for item in items)]
    marks: list[tuple[dict[str, Any] | None, str]] = [(drawing.mark_of(index[name]), name) for name in shown]
    return [*marks, *([(None, HOLLOW)] if any(item.marked for item in items) else [])]


def _entry(figure: Figure, look: dict[str, Any] | None, name: str, x: float, y: float) -> None:
    from matplotlib.lines import Line2D

    whole, high = (72 * size for size in figure.get_size_inches())
    if look:
        figure.add_artist(Line2D([x / whole], [1 - y / high], **look))
    figure.text((x + 10 * bool(look)) / whole, 1 - (y + 4) / high, drawing.short(name, 24 if look else 50))


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
