"""Captions that no set has: what a claim about the embedded world is made on, once.

`python -m bench.shapes captions --fresh SEED --out FILE` draws them from the buckets of the evaluation sets, which no
training, no collection and no choice of a checkpoint ever sees, without those of the shipped sets and of `--without`
files. The file is a prompt file like any other: a suite names it as `file:PATH`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import UserError
from bench.shapes.captions import TASKS, Caption, sample
from bench.shapes.prompt_sets import FILE, MIX

EVALUATION = ("pick-a-pic", "drawbench", "hpd", "geneval")
"""The splits of captions that evaluation sets are drawn from."""
TRIES = 200_000
"""Drawings a task, after which its captions are taken to be used up."""


def fresh(seed: int, sets: int = 4, *, without: Iterable[str] = ()) -> list[dict[str, Any]]:
    """`sets` times 100 captions as GenEval metadata, in the mix of the evaluation sets and in random order.

    The same seed and the same captions to leave out give the same list. UserError where the grammar has no more.
    """
    rng = np.random.default_rng(seed)
    used = {row["prompt"] for rows in json.loads(FILE.read_text()).values() for row in rows} | set(without)
    found: dict[str, Caption] = {}
    for tag in TASKS:
        wanted = len(found) + sets * MIX[tag]
        for _ in range(TRIES):
            if len(found) == wanted:
                break
            caption = sample(rng, EVALUATION[rng.integers(len(EVALUATION))], tag)
            if caption.prompt not in used:
                found.setdefault(caption.prompt, caption)
        else:
            raise UserError(
                f"only {len(found) - wanted + sets * MIX[tag]} captions of the task {tag!r} are in no set yet, and "
                f"{sets * MIX[tag]} are asked for; ask for fewer with --sets"
            )
    captions = list(found.values())
    return [captions[i].metadata() for i in rng.permutation(len(captions))]


def write(out: Path, seed: int, sets: int = 4, *, without: Sequence[Path] = ()) -> int:
    """Write `fresh` captions to a `.jsonl` file, one a line; returns how many. UserError for a file that is there."""
    if out.exists():
        raise UserError(f"{out} is there already; captions that were looked at stay as they are: name another file")
    used = [json.loads(line)["prompt"] for path in without for line in path.read_text().splitlines()]
    rows = fresh(seed, sets, without=used)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)
