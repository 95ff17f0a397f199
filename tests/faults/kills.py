"""Kill a run at random moments, again and again, and compare what it ends with to a run that was left alone.

    python tests/faults/kills.py [--tries 50] [--seed 1] [--workers N]

Each try starts the run, waits a random part of the time that a whole run takes, and sends SIGKILL to the driver. When
it has been killed as often as it is to be, it is run to its end. Prints a line a try and the totals that
docs/reliability.md has. Everything is on the embedded world, in a temporary folder.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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
LIMIT, BATCH = 8, 4
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
        "run", suite, "--limit", LIMIT, "--batch-size", BATCH, "--runs", runs,
        "--cache", runs.parent / "cache", "--device", "cpu", *more,
    )]  # fmt: skip


Start = Callable[[list[str], Path], int]
"""Starts the program with arguments, its standard error in a file; returns the process id."""


def started(arguments: list[str], said: Path) -> int:
    """A process of its own."""
    with said.open("w") as file:
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-m", "bench", *arguments], stdout=file, stderr=file, env=env).pid


def forked(arguments: list[str], said: Path) -> int:
    """A fork of this process, which has imported everything: most of a small run's time is importing torch."""
    process = os.fork()
    if process:
        return process
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    from bench.cli import main as program

    code = 4
    try:
        code = program(arguments)
    finally:
        sys.stderr.flush()
        os._exit(code)


def warm(home: Path) -> None:
    """Import all that a run imports, without a thread of torch's."""
    os.environ["OMP_NUM_THREADS"] = "1"
    process = forked(["ls"], home / "warm")  # what a fork needs is there
    os.waitpid(process, 0)
    for name in ("torch", "diffusers", "transformers", "PIL.Image", "bench.cli", "bench.runner.generator",
                 "bench.report", "bench.shapes.plugin", "diffusers.pipelines.stable_diffusion_xl",
                 "pandas"):  # fmt: skip
        importlib.import_module(name)


def run(
    suite: Path, runs: Path, *more: object, start: Start = started, kill_after: float | None = None
) -> tuple[int, str, float]:
    """(exit code, what it said, seconds) of a run, or of its beginning."""
    since, said = time.monotonic(), runs.parent / "said"
    said.parent.mkdir(parents=True, exist_ok=True)
    process, killed = start(command(suite, runs, *more), said), False
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), said.read_text(errors="replace"), time.monotonic() - since
        if kill_after is not None and not killed and time.monotonic() - since > kill_after:
            os.kill(process, signal.SIGKILL)
            killed = True
        time.sleep(0.005)


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


def tries(number: int, seed: int, home: Path, *more: object, start: Start = started) -> tuple[list[Killed], list[str]]:
    """Kill a run so often, let it end, and compare; returns the kills, and what was lost or wrong."""
    suite, chance, problems = home / "killed.yaml", random.Random(seed), []
    suite.write_text(SUITE)
    code, said, whole = run(suite, home / "alone" / "runs", start=start)
    if code:
        raise SystemExit(f"the run that is left alone ended with {code}: {said}")
    expected = rows(home / "alone" / "runs")
    kills: list[Killed] = []
    runs, before = home / "killed" / "runs", (0, 0)
    for k in range(number):
        code, said, seconds = run(suite, runs, *more, start=start, kill_after=chance.uniform(0.05, 1.0) * whole)
        made = rows(runs)
        now = len(made[0]), len(made[2])
        kills.append(Killed(seconds, code, *now))
        print(f"| {k + 1} | {seconds:.1f} | {code} | {now[0]} | {now[1]} |", flush=True)
        if code not in (0, -signal.SIGKILL):
            problems.append(f"try {k + 1} ended with {code}: {said.splitlines()[-1:]}")
        if now < before and now != (0, 0):
            problems.append(f"try {k + 1}: {before} images and scores before, {now} after")
        before = now
        if code == 0:
            # It was quicker than the kill: the next one begins from nothing.
            problems += compared(rows(runs), expected, f"after try {k + 1}")
            runs, before = home / f"killed{k}" / "runs", (0, 0)
    code, said, _ = run(suite, runs, *more, start=start)
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
        if not options.workers:
            warm(Path(home))
        print("| try | seconds | exit code | images | scores |\n|---|---|---|---|---|", flush=True)
        start = started if options.workers else forked
        kills, problems = tries(options.tries, options.seed, Path(home), *more, start=start)
    killed = sum(one.code == -signal.SIGKILL for one in kills)
    print(f"{len(kills)} tries, {killed} killed, {len(problems)} problems")
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
