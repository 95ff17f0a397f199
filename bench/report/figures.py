"""Small hand-made SVG figures: win rates with their intervals, and quality against cost.

Colours are CSS classes (`m0` is the baseline, `m1`.. the methods in Okabe and Ito's colour-blind-safe order), so the
page's stylesheet can change them with the light. Shape and label repeat what colour says. Panels are 320 units wide,
about the width of a small phone, and a page sets as many side by side as fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH = 320
LEFT, RIGHT, TOP = 12, 12, 30
ROW = 36
PALETTE = 7  # colours beside the baseline's
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "down", "plus")


@dataclass(frozen=True)
class Bar:
    """One method's win rate (a share) with its interval."""

    method: str
    index: int
    rate: float
    low: float
    high: float
    marked: bool = False


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


def win_bars(title: str, bars: list[Bar]) -> str:
    """Bars from 50 % to each win rate with a whisker for the interval; marked methods are hollow and dashed."""
    # The same reach to both sides, so that a win and a loss of one size look alike.
    reach = max([0.06, *(abs(edge - 0.5) for bar in bars for edge in (bar.low, bar.high, bar.rate))]) * 1.05
    reach = min(0.5, reach)
    inner, bottom = WIDTH - LEFT - RIGHT, TOP + ROW * len(bars)

    def x(share: float) -> float:
        return LEFT + inner * (min(max(share, 0.5 - reach), 0.5 + reach) - 0.5 + reach) / (2 * reach)

    parts = [_text(LEFT, 16, title, "title")]
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
        _text(LEFT, top + 14, bar.method + (" †" if bar.marked else ""), "label"),
        _text(WIDTH - RIGHT, top + 14, f"{100 * bar.rate:.1f} %", "label", "end"),
        f'<rect class="{look}" x="{start:.1f}" y="{middle - 5:.1f}" width="{max(end - start, 1):.1f}" height="10"/>',
        *_whisker(x(bar.low), x(bar.high), middle),
    ]


def _whisker(start: float, end: float, y: float) -> list[str]:
    caps = [_line(edge, y - 4, edge, y + 4, "whisker") for edge in (start, end)]
    return [_line(start, y, end, y, "whisker"), *caps]


def scatter(title: str, axis: str, points: list[Point]) -> str:
    """Paired delta with its interval against the cost of an image; the dashed line is the baseline's quality."""
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

    parts = [_text(LEFT, 16, title, "title")]
    for value in ticks(low, high):
        parts += [_line(left, y(value), WIDTH - RIGHT, y(value), "grid"),
                  _text(left - 6, y(value) + 4, f"{value:+.4g}" if value else "0", "tick", "end")]  # fmt: skip
    for value in ticks(start, end, 4):
        parts += [_line(x(value), bottom, x(value), bottom + 4, "zero"),
                  _text(_clear(x(value), 16), bottom + 17, f"{value:,.6g}", "tick", "middle")]  # fmt: skip
    parts += [_line(left, y(0), WIDTH - RIGHT, y(0), "zero"), _text(WIDTH - RIGHT, height - 8, axis, "tick", "end")]
    across = _side_by_side([x(cost) for cost in costs])
    for place, point in zip(across, points, strict=True):
        parts.append(_line(place, y(point.low), place, y(point.high), "whisker"))
    for place, point in zip(across, points, strict=True):
        parts.append(marker(place, y(point.delta), point.index, hollow=point.marked))
    says = "; ".join(f"{p.method} {p.delta:+.3g} [{p.low:+.3g}, {p.high:+.3g}] at {p.cost:,.6g}" for p in points)
    return _svg(height, f"{title}: delta against {axis}. {says}", parts)


def _side_by_side(places: list[float], gap: float = 7) -> list[float]:
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


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    return f'<line class="{look}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, look: str, anchor: str = "start") -> str:
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
