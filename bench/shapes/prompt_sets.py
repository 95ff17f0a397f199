"""The embedded prompt sets: drawn once from the caption grammar and kept as data, so that `plan` need not draw them.

`python -m bench.shapes captions` writes the file again; a test checks that it holds what the grammar draws.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.prompts.base import Prompt

FILE = Path(__file__).parent / "captions.json"
CONTROLLED = Path(__file__).parent / "controls"
"""Prompts with control images, written by `bench.shapes.control`."""

MIX = {"single_object": 10, "two_object": 18, "counting": 18, "colors": 14, "position": 20, "color_attr": 20}
"""Captions of each task in a set of 100."""


def reader(name: str) -> Callable[[], list[Prompt]]:
    """What reads the set of that name from the file."""

    def read() -> list[Prompt]:
        rows = json.loads(FILE.read_text())[name]
        return [Prompt(i, row["prompt"], row["tag"], row) for i, row in enumerate(rows)]

    return read


def draw() -> dict[str, list[dict[str, Any]]]:
    """Every set as GenEval metadata, drawn from the grammar's splits."""
    import numpy as np

    from bench.shapes.captions import distinct, distinct_held_out

    counts = {
        "pick-a-pic": MIX,
        "drawbench": {k: 2 * v for k, v in MIX.items()},
        "hpd": MIX,
        "geneval": dict.fromkeys(MIX, 20),
    }
    sets = {}
    for split, wanted in counts.items():
        captions = distinct(np.random.default_rng(2026), split, wanted)
        # Shuffled, so that the first N of a set (--limit) hold every task.
        order = np.random.default_rng(2027).permutation(len(captions))
        sets[split] = [captions[i].metadata() for i in order]
    sets["held-out"] = [c.metadata() for c in distinct_held_out(np.random.default_rng(2028), 120)]
    return sets


def write() -> None:
    """Draw every set and write the file, one caption a line."""
    sets = draw()
    lines = ",\n".join(
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]" for name, rows in sets.items()
    )
    FILE.write_text("{\n" + lines + "\n}\n")
