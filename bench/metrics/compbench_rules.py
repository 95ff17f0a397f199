"""T2I-CompBench's rules (Huang et al. 2023, 2307.06350): what questions are asked, and what boxes are worth.

The public scorers ask spaCy for the words of a prompt; what it says of the published validation prompts is kept in
`compbench_words.json` (`tests/reference/compbench_words.py` makes it), so that no score depends on the spaCy installed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.metrics.mask2former import intersection_over_union

FILE = Path(__file__).with_name("compbench_words.json")
ATTRIBUTES = ("color", "shape", "texture")
KNOWN = (*ATTRIBUTES, "spatial", "3d_spatial", "non_spatial", "numeracy", "complex")
"""Categories that are judged."""
NEAR, OVERLAP, SHORT, LONG = 150.0, 0.1, 479, 480
PLACES = ("on side of", "next to", "near", "on the left of", "on the right of", "on the bottom of", "on the top of")
DEEP, DEEP_OVERLAP = ("in front of", "behind", "hidden"), 0.5
"""Relations in depth, and from which overlap of the boxes on they count in full."""
PEOPLE = ("girl", "boy", "man", "woman")
RENAMED = {**dict.fromkeys(PEOPLE, "person"), "ship": "boat", "telivision": "tv", "goldfish": "fish"}
RENAMED |= {"painting": "picture"}
"""Things by the names of the public detector's vocabulary, for counting."""

Box = tuple[float, float, float, float]
Seen = dict[str, list[tuple[float, Box]]]
"""(confidence, box) of each thing that was looked for, best first; boxes are in the public detector's pixels."""


@dataclass(frozen=True)
class Words:
    """What the scorers take from a prompt."""

    questions: tuple[str, ...] = ()
    """Of attributes: one a noun chunk."""
    things: tuple[str, ...] = ()
    """The two things whose places are described."""
    place: str = ""
    counted: tuple[tuple[str, int], ...] = ()
    bare: str = ""
    """The prompt without its adjectives."""
    of: str = ""
    """Of a complex prompt, what is judged beside attributes: `spatial`, `action`, or `both`."""


@cache
def _table() -> dict[str, Any]:
    return json.loads(FILE.read_text())


@cache
def table_digest() -> str:
    """16 hex digits of the kept words."""
    return hashlib.sha256(FILE.read_bytes()).hexdigest()[:16]


def words(text: str, category: str) -> Words | None:
    """What a category's scorers take from a prompt; None for one that the validation files do not have."""
    if category == "non_spatial":
        return Words(bare=text)
    row = _table().get(category, {}).get(hashlib.sha256(text.encode()).hexdigest()[:12])
    if row is None:
        return None

    def cut(spans: Any) -> tuple[str, ...]:
        return tuple(text[a:b] for a, b in spans or ())

    bare = text
    for a, b in reversed(row.get("adjectives", ())):
        bare = bare[:a] + bare[b:]
    return Words(
        questions=tuple(map(question, cut(row.get("chunks")))),
        things=tuple("person" if t in PEOPLE else t for t in cut(row.get("things"))),
        place=next((p for p in (DEEP if category == "3d_spatial" else PLACES) if p in text), ""),
        counted=tuple((RENAMED.get(name, name), n) for name, n in row.get("counted", ())),
        bare=" ".join(bare.split()),
        of=row.get("of", ""),
    )


def question(chunk: str) -> str:
    """A noun chunk as BLIP is asked it: small letters, without the marks that its code leaves out, 50 words."""
    plain = re.sub(r"([.!\"()*#:;~])", "", f"{chunk}?".lower()).rstrip(" ")
    return " ".join(plain.split(" ")[:50])


def scale(height: int, width: int) -> float:
    """By what the public detector's image is larger: its shorter side is 479, unless the longer would exceed 480."""
    short, long = sorted((height, width))
    return LONG / long if SHORT * long / short > LONG else SHORT / short


def relation(place: str, a: Box, b: Box) -> float:
    """How far a stands to b as the prompt says, in [0, 1]. What is named otherwise ("on top of") is 0, as published."""
    x, y = (((b[i] + b[i + 2]) - (a[i] + a[i + 2])) / 2 for i in (0, 1))
    if place in ("next to", "on side of", "near"):
        return 1.0 if abs(x) < NEAR or abs(y) < NEAR else NEAR / max(abs(x), abs(y))
    along, across = {
        "on the right of": (-x, y), "on the left of": (x, y), "on the bottom of": (-y, x), "on the top of": (y, x)
    }.get(place, (0.0, 0.0))  # fmt: skip
    if along <= 0 or along <= abs(across):
        return 0.0
    overlap = intersection_over_union(a, b)
    return 1.0 if overlap < OVERLAP else OVERLAP / overlap


def spatial(parsed: Words, seen: Seen) -> float:
    """A quarter of both confidences and half of the relation; below a half it is 0."""
    best = [seen[t][0] for t in parsed.things if seen.get(t)]
    total = sum(confidence for confidence, _ in best) / 4
    if len(best) == 2:
        total += relation(parsed.place, best[0][1], best[1][1]) / 2
    return total if total >= 0.5 else 0.0


def depths(near: Any, box: Box, *, upright: bool = False) -> float:
    """The mean nearness (H, W) inside a box; NaN where nothing is inside.

    The public code takes the box's columns for rows and its rows for columns, and so does this unless `upright`.
    """
    x, y = (slice(int(box[i]), int(box[i + 2])) for i in (0, 1))
    part = near[y, x] if upright else near[x, y]
    return float(part.mean()) if part.size else math.nan


def in_depth(parsed: Words, seen: Seen, near: Any, *, upright: bool = False) -> float:
    """A quarter of both confidences, and half of how far the boxes overlap if the nearer one is as the prompt says."""
    best = [seen[t][0] for t in parsed.things if seen.get(t)]
    total = sum(confidence for confidence, _ in best) / 4
    if len(best) == 2 and parsed.place:
        a, b = (box for _, box in best)
        ahead = depths(near, a, upright=upright) - depths(near, b, upright=upright)
        if (ahead if parsed.place == "in front of" else -ahead) > 0:
            total += min(1.0, intersection_over_union(a, b) / DEEP_OVERLAP) / 2
    return total


def detector_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the public detector's image: the shorter side as torchvision cuts it, the longer likewise."""
    short, long = sorted((height, width))
    sides = (SHORT, int(SHORT * long / short))
    if sides[1] > LONG:
        sides = (int(LONG * sides[0] / sides[1]), LONG)
    return sides if height <= width else sides[::-1]


def numeracy(parsed: Words, seen: Seen) -> float:
    """Of each kind of thing half for being there, and half for its number."""
    if not parsed.counted:
        return 0.0
    parts = [(len(distinct([b for _, b in seen.get(name, ())])), n) for name, n in parsed.counted]
    return sum(0.5 * (found > 0) + 0.5 * (found == n and found > 0) for found, n in parts) / len(parts)


def distinct(boxes: Sequence[Box]) -> list[Box]:
    """Boxes without those that are nine tenths the same as an earlier one, or within it, or it within them."""
    kept: list[Box] = []
    for box in boxes:
        if not any(_same(box, other) for other in kept):
            kept.append(box)
    return kept


def _same(a: Box, b: Box) -> bool:
    # Sides are counted in whole pixels, both ends included, as the public code does here.
    across, down = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1) for i in (0, 1))
    inside = across * down
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return max(inside / (sum(areas) - inside), inside / areas[0], inside / areas[1]) > 0.9


def without_overlaps(boxes: Sequence[tuple[float, Box]], most: float = 0.5) -> list[tuple[float, Box]]:
    """Non-maximum suppression: best first, without those that overlap a better one by more."""
    kept: list[tuple[float, Box]] = []
    for one in sorted(boxes, key=lambda b: -b[0]):
        if all(intersection_over_union(one[1], other[1]) <= most for other in kept):
            kept.append(one)
    return kept


def three_in_one(parsed: Words, attribute: float, places: float, action: float) -> float:
    """A complex prompt's mean of what it asks for."""
    parts = {"spatial": (attribute, places), "action": (attribute, action)}.get(parsed.of, (attribute, places, action))
    return sum(parts) / len(parts)
