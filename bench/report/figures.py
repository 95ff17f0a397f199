"""Small hand-made SVG figures: win rates, quality against cost, curves over steps, the split of time and memory.

Colours are CSS classes (`m0` is the baseline, `m1`.. the methods in Okabe and Ito's colour-blind-safe order), so the
page's stylesheet can change them with the light. Shape and label repeat what colour says. Panels are 320 units wide,
about the width of a small phone, and a page sets as many side by side as fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import Any

from bench.report.costed import STAGES
from bench.report.panels import Bar, CostPanel, Line, Split, StagePanel, StepPanel, WinPanel, side_by_side

WIDTH = 320
LEFT, RIGHT, TOP = 12, 12, 30
ROW = 36
PALETTE = 7  # colours beside the baseline's
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "down", "plus")


def style_of(index: int) -> str:
    """The colour class of a method: 0 is the baseline, the others take turns."""
    return "m0" if index == 0 else f"m{1 + (index - 1) % PALETTE}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) within [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, math.floor(high / step + 1e-9) + 1)]


def win_bars(panel: WinPanel) -> str:
    """Bars from 50 % to each win rate with a whisker for the interval; marked methods are hollow and dashed."""
    title, bars = panel.title, panel.bars
    # The same reach to both sides, so that a win and a loss of one size look alike.
    reach = max([0.06, *(abs(edge - 0.5) for bar in bars for edge in (bar.low, bar.high, bar.rate))]) * 1.05
    reach = min(0.5, reach)
    inner, bottom = WIDTH - LEFT - RIGHT, TOP + ROW * len(bars)

    def x(share: float) -> float:
        return LEFT + inner * (min(max(share, 0.5 - reach), 0.5 + reach) - 0.5 + reach) / (2 * reach)

    parts = [_title(title)]
    for share in ticks(0.5 - reach, 0.5 + reach):
        parts.append(_line(x(share), TOP, x(share), bottom, "grid"))
        parts.append(_text(_clear(x(share), 14), bottom + 15, f"{100 * share:.4g} %", "tick", "middle"))
    parts.append(_line(x(0.5), TOP, x(0.5), bottom, "zero"))
    for row, bar in enumerate(bars):
        parts += _bar(bar, TOP + row * ROW, x)
    says = "; ".join(f"{bar.method} {100 * bar.rate:.1f} % [{100 * bar.low:.1f}, {100 * bar.high:.1f}]" for bar in bars)
    return _svg(bottom + 24, f"{title}: win rates. {says}", parts)


def _bar(bar: Bar, top: float, x: Any) -> list[str]:
    start, end, middle = min(x(0.5), x(bar.rate)), max(x(0.5), x(bar.rate)), top + 25
    look = f"{style_of(bar.index)} {'hollow' if bar.marked else 'solid'}"
    return [
        _text(LEFT, top + 14, bar.method + bar.mark, "label"),
        _text(WIDTH - RIGHT, top + 14, f"{100 * bar.rate:.1f} %", "label", "end"),
        f'<rect class="{look}" x="{start:.1f}" y="{middle - 5:.1f}" width="{max(end - start, 1):.1f}" height="10"/>',
        *_whisker(x(bar.low), x(bar.high), middle),
    ]


def _whisker(start: float, end: float, y: float) -> list[str]:
    caps = [_line(edge, y - 4, edge, y + 4, "whisker") for edge in (start, end)]
    return [_line(start, y, end, y, "whisker"), *caps]


def scatter(panel: CostPanel) -> str:
    """Paired delta with its interval against the cost of an image; the dashed line is the baseline's quality."""
    title, axis, points = panel.title, panel.axis, panel.points
    height, left, top, bottom = 240, 56, 32, 196
    low = min([0.0, *(point.low for point in points)])
    high = max([0.0, *(point.high for point in points)])
    pad = (high - low or 1.0) * 0.08
    low, high = low - pad, high + pad
    costs = [point.cost for point in points]
    # The axis starts at zero unless that would squeeze all methods into a corner: cost is read as a ratio.
    start = 0.0 if min(costs) < 0.8 * max(costs) else min(costs) - 0.1 * (max(costs) - min(costs) or max(costs) or 1.0)
    end = max(costs) + 0.12 * (max(costs) - start or 1.0)

    def x(cost: float) -> float:
        return left + (WIDTH - RIGHT - left) * (cost - start) / (end - start)

    def y(delta: float) -> float:
        return bottom - (bottom - top) * (delta - low) / (high - low)

    parts = [_title(title)]
    parts += _levels(ticks(low, high), y, left, sign=True)
    for value in ticks(start, end, 4):
        parts += [_line(x(value), bottom, x(value), bottom + 4, "zero"),
                  _text(_clear(x(value), 16), bottom + 17, f"{value:,.6g}", "tick", "middle")]  # fmt: skip
    parts += [_line(left, y(0), WIDTH - RIGHT, y(0), "zero"), _text(WIDTH - RIGHT, height - 8, axis, "tick", "end")]
    across = side_by_side([x(cost) for cost in costs], gap=7)
    for place, point in zip(across, points, strict=True):
        parts.append(_line(place, y(point.low), place, y(point.high), "whisker"))
    for place, point in zip(across, points, strict=True):
        parts.append(marker(place, y(point.delta), point.index, hollow=point.marked))
    says = "; ".join(f"{p.method} {p.delta:+.3g} [{p.low:+.3g}, {p.high:+.3g}] at {p.cost:,.6g}" for p in points)
    return _svg(height, f"{title}: delta against {axis}. {says}", parts)


def _levels(values: list[float], y: Any, left: float, *, sign: bool) -> list[str]:
    """Horizontal grid lines with their numbers."""
    parts = []
    for value in values:
        said = "0" if value == 0 else f"{value:+.4g}" if sign else f"{value:.4g}"
        parts += [_line(left, y(value), WIDTH - RIGHT, y(value), "grid"),
                  _text(left - 6, y(value) + 4, said, "tick", "end")]  # fmt: skip
    return parts


def curves(panel: StepPanel) -> str:
    """A metric over the number of steps, one line a method with whiskers for its intervals."""
    height, left, top, bottom = 250, 56, 46, 206
    edges = [edge for line in panel.lines for _, *found in line.points for edge in found]
    low, high = min([0.0, *edges] if panel.delta else edges), max([0.0, *edges] if panel.delta else edges)
    pad = (high - low or abs(high) or 1.0) * 0.08
    low, high = low - pad, high + pad
    steps = sorted({step for line in panel.lines for step, *_ in line.points})
    span = steps[-1] - steps[0] or 1.0

    def x(step: float) -> float:
        return left + 16 + (WIDTH - RIGHT - left - 32) * (step - steps[0]) / span

    def y(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    parts = [_title(panel.title), _text(LEFT, 34, panel.axis, "tick")]
    parts += _levels(ticks(low, high), y, left, sign=panel.delta)
    shown = -math.inf
    for step in steps:
        parts.append(_line(x(step), bottom, x(step), bottom + 4, "zero"))
        if x(step) - shown > 22:
            parts.append(_text(x(step), bottom + 17, f"{step:g}", "tick", "middle"))
            shown = x(step)
    if panel.delta:
        parts.append(_line(left, y(0), WIDTH - RIGHT, y(0), "zero"))
    parts.append(_text(WIDTH - RIGHT, height - 8, "steps", "tick", "end"))
    for place, line in enumerate(panel.lines):
        shift = 3.0 * (place - (len(panel.lines) - 1) / 2) if panel.delta else 0.0
        parts += _curve(line, x, y, shift=shift)
    says = "; ".join(
        f"{line.method} " + ", ".join(f"{value:+.3g} [{low:+.3g}, {high:+.3g}] at {step:g}" if panel.delta else
                                      f"{value:.4g} at {step:g}" for step, value, low, high in line.points)
        for line in panel.lines
    )  # fmt: skip
    return _svg(height, f"{panel.title}: {panel.axis} over steps. {says}", parts)


def _curve(line: Line, x: Any, y: Any, *, shift: float) -> list[str]:
    # Deltas stand a little apart, so that their whiskers do not hide one another.
    spots = [(x(step) + shift, y(value), y(low), y(high)) for step, value, low, high in line.points]
    path = " ".join(f"{across:.1f},{level:.1f}" for across, level, *_ in spots)
    return [
        f'<polyline class="curve {style_of(line.index)}" points="{path}"/>',
        *(_line(across, low, across, high, f"thin {style_of(line.index)}") for across, _, low, high in spots),
        *(marker(across, level, line.index, hollow=line.marked) for across, level, *_ in spots),
    ]


def stage_split(panel: StagePanel) -> str:
    """Stacked bars of milliseconds an image, in the order of STAGES, with the numbers below each bar."""
    row, inner = 48, WIDTH - LEFT - RIGHT
    longest = max(split.total for split in panel.splits)
    parts = [_title(panel.title or "Time of an image")]
    for place, split in enumerate(panel.splits):
        top, left = TOP + place * row, float(LEFT)
        parts += [_text(LEFT, top + 12, split.method, "label"),
                  _text(WIDTH - RIGHT, top + 12, f"{split.total:,.4g} ms", "label", "end")]  # fmt: skip
        for index, time in enumerate(split.stages):
            width = inner * time / longest
            parts.append(f'<rect class="s{index}" x="{left:.1f}" y="{top + 18}" width="{width:.2f}" height="12"/>')
            left += width
        parts.append(_text(LEFT, top + 42, " + ".join(f"{time:,.3g}" for time in _shown(split)), "tick"))
    says = "; ".join(
        f"{split.method} " + ", ".join(f"{stage} {time:,.3g}" for stage, time in zip(STAGES, split.stages, strict=True))
        for split in panel.splits
    )
    return _svg(TOP + row * len(panel.splits) + 6, f"Milliseconds of an image. {says}", parts)


def _shown(split: Split) -> tuple[float, ...]:
    """The stages' times; judging among candidates only where there was any."""
    return split.stages if split.stages[-1] else split.stages[:-1]


def memory(panel: StagePanel) -> str:
    """Bars of peak memory in MiB; nothing where none is known."""
    known: list[tuple[Split, float]] = [(split, split.peak) for split in panel.splits if split.peak is not None]
    if not known:
        return ""
    most = max(peak for _, peak in known)
    where = f", {panel.title}" if panel.title else ""
    parts = [_title(f"Peak memory{where}")]
    for place, (split, peak) in enumerate(known):
        top, width = TOP + place * ROW, (WIDTH - LEFT - RIGHT) * peak / most
        parts += [_text(LEFT, top + 12, split.method, "label"),
                  _text(WIDTH - RIGHT, top + 12, f"{peak:,.0f} MiB", "label", "end"),
                  f'<rect class="memory" x="{LEFT}" y="{top + 18}" width="{width:.1f}" height="8"/>']  # fmt: skip
    says = "; ".join(f"{split.method} {peak:,.0f}" for split, peak in known)
    return _svg(TOP + ROW * len(known) + 6, f"Peak memory in MiB{where}. {says}", parts)


def marker(x: float, y: float, index: int, *, hollow: bool = False) -> str:
    """A method's mark: its colour and its shape."""
    look = f'class="{style_of(index)} {"hollow" if hollow else "solid"}"'
    shape = SHAPES[index % len(SHAPES)]
    if shape == "circle":
        return f'<circle {look} cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    outlines: dict[str, list[tuple[float, float]]] = {
        "square": [(-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)],
        "triangle": [(0, -6), (5.5, 4.5), (-5.5, 4.5)],
        "down": [(0, 6), (5.5, -4.5), (-5.5, -4.5)],
        "diamond": [(0, -6.5), (6.5, 0), (0, 6.5), (-6.5, 0)],
        "plus": [(-2, -6), (2, -6), (2, -2), (6, -2), (6, 2), (2, 2), (2, 6), (-2, 6), (-2, 2), (-6, 2), (-6, -2),
                 (-2, -2)],
        "cross": [(-6, -3), (-3, -6), (0, -3), (3, -6), (6, -3), (3, 0), (6, 3), (3, 6), (0, 3), (-3, 6), (-6, 3),
                  (-3, 0)],
    }  # fmt: skip
    corners = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in outlines[shape])
    return f'<polygon {look} points="{corners}"/>'


def stage_key(index: int) -> str:
    """A stage's colour alone, for the legend."""
    box = f'<rect class="s{index}" x="1" y="3" width="14" height="10"/>'
    return f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{box}</svg>'


def key(index: int, *, hollow: bool = False) -> str:
    """A method's mark alone, for the legend."""
    return f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{marker(8, 8, index, hollow=hollow)}</svg>'


def _svg(height: float, says: str, parts: Iterable[str]) -> str:
    # No xmlns: inside an html page it is not needed, and the report holds no address at all.
    head = f'<svg class="figure" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(says)}">'
    return f"{head}{''.join(parts)}</svg>"


def _clear(x: float, half: float) -> float:
    """Keep a centred label inside the panel."""
    return min(max(x, half + 2), WIDTH - half - 2)


def _title(text: str) -> str:
    return _text(LEFT, 16, text if len(text) <= 42 else f"{text[:41]}…", "title")


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    return f'<line class="{look}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, look: str, anchor: str = "start") -> str:
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
