"""Kill a run at random moments, again and again, and compare what it ends with to a run that was left alone.

    python tests/faults/kills.py [--tries 50] [--seed 1] [--workers N]

Each try starts the run, waits a random part of the time that a whole run takes, and sends SIGKILL to the driver. When
it has been killed as often as it is to be, it is run to its end. Prints a line a try and the totals that
docs/reliability.md has. Everything is on the embedded world, in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SUITE = """\
name: killed
models: [shapes-sdxl]
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 4
guidance: 5.0
seeds: [0]
baseline: standard
methods: [standard, inversion, {use: best_of_n, name: best_of_2, n: 2, chooser: shapes-geneval}]
metrics: [shapes-geneval, shapes-clipscore]
"""
LIMIT, BATCH = 12, 4
ROWS = (
    "SELECT job_id, digest, file, chosen_from, calls_noise, calls_sampling FROM images ORDER BY 1",
    "SELECT method, prompt_index, job_id FROM cells ORDER BY 1, 2",
    # A scorer's last digits depend on the batch that it is given.
    "SELECT digest, prompt, metric, round(value, 4) FROM scores ORDER BY 1, 2, 3",
)


class Killed(NamedTuple):
    """What a kill found and left."""

    after: float
    """Seconds from the start."""
    code: int
    images: int
    scores: int


def command(suite: Path, runs: Path, *more: object) -> list[str]:
    return [str(one) for one in (
        sys.executable, "-m", "bench", "run", suite, "--limit", LIMIT, "--batch-size", BATCH, "--runs", runs,
        "--cache", runs.parent / "cache", "--device", "cpu", *more,
    )]  # fmt: skip


def run(suite: Path, runs: Path, *more: object, kill_after: float | None = None) -> tuple[int, str, float]:
    """(exit code, standard error, seconds) of a run, or of its beginning."""
    begun = time.monotonic()
    given, env = command(suite, runs, *more), {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
    try:
        _, said = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
    return process.returncode, said, time.monotonic() - begun


def rows(runs: Path) -> list[list[tuple[object, ...]]]:
    """What a run's ledger holds; empty lists before it has tables."""
    for file in runs.glob("*/ledger.sqlite"):
        try:
            db = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)
            try:
                return [db.execute(query).fetchall() for query in ROWS]
            finally:
                db.close()
        except sqlite3.OperationalError:
            break
    return [[] for _ in ROWS]


def tries(number: int, seed: int, home: Path, *more: object) -> tuple[list[Killed], list[str]]:
    """Kill a run so often, let it end, and compare; returns the kills, and what was lost or wrong."""
    suite, chance, problems = home / "killed.yaml", random.Random(seed), []
    suite.write_text(SUITE)
    code, said, whole = run(suite, home / "alone" / "runs")
    if code:
        raise SystemExit(f"the run that is left alone ended with {code}: {said}")
    expected = rows(home / "alone" / "runs")
    kills: list[Killed] = []
    runs, before = home / "killed" / "runs", (0, 0)
    for k in range(number):
        code, said, seconds = run(suite, runs, *more, kill_after=chance.uniform(0.3, 1.0) * whole)
        made = rows(runs)
        now = len(made[0]), len(made[2])
        kills.append(Killed(seconds, code, *now))
        if code not in (0, -signal.SIGKILL):
            problems.append(f"try {k + 1} ended with {code}: {said.splitlines()[-1:]}")
        if now < before and now != (0, 0):
            problems.append(f"try {k + 1}: {before} images and scores before, {now} after")
        before = now
        if code == 0:
            # It was quicker than the kill: the next one begins from nothing.
            problems += compared(rows(runs), expected, f"after try {k + 1}")
            runs, before = home / f"killed{k}" / "runs", (0, 0)
    code, said, _ = run(suite, runs, *more)
    if code:
        problems.append(f"the run that may end ended with {code}: {said.splitlines()[-1:]}")
    problems += compared(rows(runs), expected, "at the end")
    left = [str(p) for p in runs.rglob("*.tmp")]
    problems += [f"left lying about: {name}" for name in left]
    (folder,) = runs.glob("killed-*")
    checked = subprocess.run([sys.executable, "-m", "bench", "verify", str(folder)], capture_output=True)
    if checked.returncode:
        problems.append(f"verify: {checked.stdout.decode()}")
    return kills, problems


def compared(found: Sequence[Sequence[object]], expected: Sequence[Sequence[object]], when: str) -> list[str]:
    """What differs between two runs."""
    both = zip(("images", "cells", "scores"), found, expected, strict=True)
    return [f"{name} differ {when}" for name, ours, theirs in both if ours != theirs]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", help="as `run --workers`: kills the driver of a run with workers")
    options = parser.parse_args()
    more = ("--workers", options.workers) if options.workers else ()
    with tempfile.TemporaryDirectory(prefix="kills-") as home:
        kills, problems = tries(options.tries, options.seed, Path(home), *more)
    print("| try | seconds | exit code | images | scores |\n|---|---|---|---|---|")
    for k, one in enumerate(kills, start=1):
        print(f"| {k} | {one.after:.1f} | {one.code} | {one.images} | {one.scores} |")
    killed = sum(one.code == -signal.SIGKILL for one in kills)
    print(f"{len(kills)} tries, {killed} killed, {len(problems)} problems")
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
