"""Figures inside the page: matplotlib's SVG without what a page does not need, its colours the stylesheet's.

A colour becomes a variable of CSS, so that it follows light and dark; texts stay texts in the page's font; nothing has
an id or an address, as several figures stand in one page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

from bench.report import drawing
from bench.report.costed import STAGES
from bench.report.panels import CostPanel, MemoryPanel, Panel, StagePanel, StepPanel, WinPanel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VARIABLES = (
    {colour: f"--m{index}" for index, colour in enumerate(drawing.COLOURS)}
    | {colour: f"--s{index}" for index, colour in enumerate(drawing.STAGE_COLOURS)}
    | {drawing.INK: "--ink", drawing.SOFT: "--soft", drawing.LINE: "--line", drawing.PAPER: "--panel"}
)
"""What the page's stylesheet calls each colour."""


def drawn(panels: Iterable[Panel], *, wide: bool = False) -> list[str]:
    """Each panel as an SVG element; `wide` ones fill a broad page alone."""
    given = list(panels)
    if not given or not drawing.available():
        return []
    with drawing.styled(outlines=False):
        return [figure_of(panel, drawing.WIDE if wide else drawing.WIDTH, says(panel)) for panel in given]


@lru_cache(maxsize=256)  # a page is often written again with a few numbers changed, or none: by a gate, by new scores
def figure_of(panel: Panel, width: float, said: str) -> str:
    """A panel as an SVG element this many points wide, with `says(panel)`: a part of the key, as -0.0 equals 0.0."""
    from matplotlib.figure import Figure

    height = drawing.frame(panel).height
    figure = Figure(figsize=(width / 72, height / 72))
    drawing.draw(figure, panel, left=0, top=0, width=width)
    look = "figure broad" if width == drawing.WIDE else "figure"
    return _element(figure, f'class="{look}" role="img" aria-label="{escape(said)}"')


def keys(indices: Sequence[int]) -> list[str]:
    """Methods' marks alone, for the legend."""
    return [_key(index) for index in indices] if drawing.available() else [""] * len(indices)


@cache
def _key(index: int) -> str:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    with drawing.styled(outlines=False):
        figure = Figure(figsize=(16 / 72, 16 / 72))
        figure.add_artist(Line2D([0.5], [0.5], **drawing.mark_of(index)))
        return _element(figure, _KEY)


def stage_keys() -> list[str]:
    """The stages' colours alone, for the legend."""
    return [_stage_key(index) for index in range(len(STAGES))] if drawing.available() else [""] * len(STAGES)


@cache
def _stage_key(index: int) -> str:
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    with drawing.styled(outlines=False):
        figure = Figure(figsize=(16 / 72, 16 / 72))
        box = Rectangle((0.05, 0.2), 0.9, 0.6, facecolor=drawing.STAGE_COLOURS[index], transform=figure.transFigure)
        figure.add_artist(box)
        return _element(figure, _KEY)


_KEY = 'class="key" aria-hidden="true"'

# From matplotlib's SVG to the page's ---------------------------------------------------------------------------------


def _element(figure: Figure, attributes: str) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure.patch.set_visible(False)
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return inlined(buffer.getvalue().decode(), attributes)


def inlined(svg: str, attributes: str) -> str:
    """matplotlib's SVG file as an element of a page, with the attributes given.

    Marks that it defines once and uses by their id are written out where they are used.
    """
    marks: dict[str, str] = {}
    parts = []
    defining = 0
    for token in _TOKEN.findall(svg[svg.index("<svg") :]):
        name = (_NAME.match(token) or [""])[0]
        if name in ("<defs", "</defs"):
            defining += 1 if name == "<defs" else -1
        elif defining:
            if name == "<path":
                marks[_value(token, "id")] = _value(token, "d")
        elif name == "<use":
            place = f"translate({_tenths(_value(token, 'x'))} {_tenths(_value(token, 'y'))})"
            path = _tenths(marks[_value(token, _LINK)[1:]])
            parts.append(f'<path d="{path}" transform="{place}" style="{_look(_value(token, "style"))}"/>')
        elif name == "<svg":
            parts.append(f'<svg {attributes} viewBox="{_value(token, "viewBox")}">')
        elif token.startswith("<"):
            parts.append(_tag(token, name))
        elif token.strip():
            parts.append(token)
    return "".join(parts)


_TOKEN = re.compile(r"<[^>]*>|[^<]+")
_NAME = re.compile(r"</?\w+")
_LINK = "xlink:href"


def _value(tag: str, name: str) -> str:
    found = re.search(rf'\s{re.escape(name)}="([^"]*)"', tag)
    return found[1] if found else ""


def _tag(token: str, name: str) -> str:
    if name in ("<g", "</g"):
        return ""
    if token.startswith("</"):
        return token
    kept = []
    for key in ("d", "x", "y", "transform", "style"):
        value = _value(token, key)
        if not value or value.startswith("rotate(-0 "):
            continue
        kept.append(f'{key}="{_look(value) if key == "style" else _tenths(value)}"')
    return f"{name} {' '.join(kept)}{'/>' if token.endswith('/>') else '>'}"


def _tenths(numbers: str) -> str:
    """Coordinates to a tenth of a point, on one line."""
    return " ".join(re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), numbers).split())


def _look(style: str) -> str:
    style = re.sub(r"\s*font-family: [^;]*;?", "", style)
    return re.sub(r"#[0-9a-f]{6}", lambda found: f"var({VARIABLES[found[0]]})", style).strip("; ")


# What each figure says, for who does not see it ----------------------------------------------------------------------


def says(panel: Any) -> str:
    """A panel in words, with every number that it shows."""
    if isinstance(panel, WinPanel):
        bars = (f"{b.method} {100 * b.rate:.1f} % [{100 * b.low:.1f}, {100 * b.high:.1f}]" for b in panel.bars)
        return f"{panel.title}: win rates. {'; '.join(bars)}"
    if isinstance(panel, CostPanel):
        points = (f"{p.method} {p.delta:+.3g} [{p.low:+.3g}, {p.high:+.3g}] at {p.cost:,.6g}" for p in panel.points)
        return f"{panel.title}: delta against {panel.axis}. {'; '.join(points)}"
    if isinstance(panel, StepPanel):
        return f"{panel.title}: {panel.axis} over steps. {'; '.join(_curve(panel, line) for line in panel.lines)}"
    if isinstance(panel, StagePanel):
        stages = (f"{split.method} {_stages(split.stages)}" for split in panel.splits)
        return f"Milliseconds of an image. {'; '.join(stages)}"
    assert isinstance(panel, MemoryPanel)
    return f"{panel.title} in MiB. {'; '.join(f'{method} {peak:,.0f}' for method, peak in panel.peaks)}"


def _curve(panel: StepPanel, line: Any) -> str:
    points = (
        f"{value:+.3g} [{low:+.3g}, {high:+.3g}] at {step:g}" if panel.delta else f"{value:.4g} at {step:g}"
        for step, value, low, high in line.points
    )
    return f"{line.method} {', '.join(points)}"


def _stages(times: Sequence[float]) -> str:
    return ", ".join(f"{stage} {time:,.3g}" for stage, time in zip(STAGES, times, strict=True))
