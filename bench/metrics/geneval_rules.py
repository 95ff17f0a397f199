"""GenEval's public rules (Ghosh et al. 2023, 2310.11513; djghosh13/geneval, evaluation/evaluate_images.py).

One implementation for any detector: it takes boxes and colours, and knows nothing of where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from bench.metrics.base import Value

if TYPE_CHECKING:
    import numpy as np

    from bench.prompts.base import Prompt

THRESHOLD = 0.3
COUNTING_THRESHOLD = 0.9
MAX_OBJECTS = 16
"""Detections of a class that are looked at, the most confident first."""
POSITION_SHRINK = 0.1
"""Share of the two objects' summed sizes by which their offset is shrunk before a relation is read from it."""

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")


@dataclass(frozen=True)
class Detection:
    """One detected object; `box` is (x0, y0, x1, y1) in pixels. `mask` is bool (H, W) where the detector has one."""

    class_name: str
    confidence: float
    box: tuple[float, float, float, float]
    mask: np.ndarray | None = field(default=None, compare=False, repr=False)
    color: str | None = None


class Detector(Protocol):
    """What the rules need of a detector."""

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """All detections of each (H, W, 3) uint8 image, whatever their confidence."""
        ...

    def colors(self, image: np.ndarray, detections: Sequence[Detection]) -> list[str]:
        """Name of each detection's colour."""
        ...


def relations(a: Detection, b: Detection) -> set[str]:
    """Which of "left of", "right of", "above", "below" hold for a with respect to b; y points down."""
    offset = [(a.box[i] + a.box[i + 2] - b.box[i] - b.box[i + 2]) / 2 for i in (0, 1)]
    sizes = [abs(a.box[i + 2] - a.box[i]) + abs(b.box[i + 2] - b.box[i]) for i in (0, 1)]
    shrunk = [max(abs(o) - POSITION_SHRINK * size, 0) for o, size in zip(offset, sizes, strict=True)]
    if max(shrunk) < 1e-3:
        return set()
    dx, dy = (math.copysign(s, o) / math.hypot(*offset) for s, o in zip(shrunk, offset, strict=True))
    named = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return {name for name, holds in named.items() if holds}


def judge(metadata: Mapping[str, Any], detections: Sequence[Detection], colors: Any) -> tuple[bool, list[str]]:
    """Whether an image is right, and what is wrong with it.

    `colors(detections)` names the colours of some detections; it is asked only where a clause names one. Every
    include clause needs `count` detections of its class and judges the most confident `count` of them.
    """
    bar = COUNTING_THRESHOLD if metadata.get("tag") == "counting" else THRESHOLD
    seen: dict[str, list[Detection]] = {}
    for d in sorted(detections, key=lambda d: -d.confidence):
        if d.confidence > bar and len(seen.setdefault(d.class_name, [])) < MAX_OBJECTS:
            seen[d.class_name].append(d)
    wrong: list[str] = []
    groups: list[list[Detection] | None] = []
    for clause in metadata.get("include", ()):
        name, count = clause["class"], clause["count"]
        found = seen.get(name, [])[:count]
        reason = _clause(clause, found, groups, colors)
        if reason:
            wrong.append(reason)
        groups.append(None if reason else found)
    for clause in metadata.get("exclude", ()):
        n = len(seen.get(clause["class"], []))
        if n >= clause["count"]:
            wrong.append(f"expected {clause['class']} < {clause['count']}, found {n}")
    return not wrong, wrong


def _clause(
    clause: Mapping[str, Any], found: list[Detection], groups: list[list[Detection] | None], colors: Any
) -> str | None:
    """Why an include clause is not met; None where it is."""
    name, count = clause["class"], clause["count"]
    if len(found) < count:
        return f"expected {name} >= {count}, found {len(found)}"
    if "color" in clause:
        named = colors(found)
        if named.count(clause["color"]) < count:
            return f"expected {clause['color']} {name} >= {count}, found {', '.join(named)}"
    if "position" in clause:
        relation, target = clause["position"]
        others = groups[target]
        if others is None:
            return f"no target for {name} to be {relation}"
        for a in found:
            for b in others:
                if relation not in relations(a, b):
                    return f"expected {name} {relation} target, found {' and '.join(sorted(relations(a, b))) or 'none'}"
    return None


class GenEval:
    """The metric: 1 for a right image, else 0; the detail holds the task and what is wrong."""

    def __init__(self, detector: Detector):
        self.detector = detector

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        values = []
        for image, prompt, found in zip(images, prompts, self.detector.detect(images), strict=True):
            if "include" not in (prompt.metadata or {}):
                values.append(Value.failed("its prompt carries no metadata of GenEval's kind"))
                continue
            assert prompt.metadata is not None
            right, wrong = judge(prompt.metadata, found, lambda some, image=image: self.detector.colors(image, some))
            values.append(Value(float(right), {"tag": prompt.metadata.get("tag"), "wrong": wrong}))
        return values
