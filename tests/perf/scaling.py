"""Images and scores a second by one and by two workers, and what a busy neighbour takes of them.

    python tests/perf/scaling.py [--images 256] [--ray] [--alone]

Each row is a run of its own: so many images of the embedded model at ten steps, then three scorers on them. Starting
the workers is a column of its own, and so is starting Ray. `busy` has a process beside it that does nothing but count.
The first row, one process with all threads, is what a run was before it had workers. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SUITE = """\
name: scaling
models: [shapes-sdxl]
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 10
guidance: 5.0
seeds: [{seeds}]
baseline: standard
methods: [standard, reseed]
metrics: [shapes-clipscore, shapes-preference, shapes-aesthetic]
"""
PROMPTS = 32
BATCH = 16


class Row(NamedTuple):
    """A run, and what it took."""

    name: str
    options: tuple[str, ...]
    busy: bool = False


ROWS = (
    Row("one process, all threads", ("--workers", "0")),
    Row("one process, one thread", ("--workers", "1")),
    Row("local, 2 workers", ("--workers", "2")),
    Row("ray, 1 worker", ("--executor", "ray", "--workers", "1")),
    Row("ray, 2 workers", ("--executor", "ray", "--workers", "2")),
)


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that takes what it can of one core."""
    if not busy:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def measured(row: Row, images: int) -> dict[str, object]:
    """One run: seconds and images a second, and a digest of all its images."""
    seeds = ", ".join(map(str, range(max(1, images // (2 * PROMPTS)))))
    with tempfile.TemporaryDirectory() as place, neighbour(row.busy):
        home = Path(place)
        (home / "scaling.yaml").write_text(SUITE.format(seeds=seeds))
        command = [sys.executable, "-m", "bench", "run", str(home / "scaling.yaml"), "--limit", str(PROMPTS),
                   "--no-cache", "--batch-size", str(BATCH), "--device", "cpu", "--runs", str(home / "runs"),
                   *row.options]  # fmt: skip
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
        whole = time.monotonic() - started
        assert done.returncode == 0, done.stderr
        (ledger,) = (home / "runs").glob("*/ledger.sqlite")
        db = sqlite3.connect(ledger)
        stages = json.loads(db.execute("SELECT stages FROM sessions").fetchone()[0])
        digests = tuple(db.execute("SELECT job_id, digest FROM images ORDER BY job_id"))
        n, scores = len(digests), db.execute("SELECT COUNT(*) FROM scores").fetchone()[0]
        db.close()
    made, judged = stages["generate"], sum(stages["score_seconds"].values())
    return {
        "images": n / made["seconds"],
        "scores": scores / judged,
        "start": made.get("start_seconds", 0.0),
        "whole": whole,
        "digests": hash(digests),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--ray", action="store_true", help="also the rows of Ray")
    parser.add_argument("--alone", action="store_true", help="only the rows without a neighbour")
    options = parser.parse_args()
    rows = [
        row._replace(busy=busy)
        for row in ROWS
        if options.ray or "ray" not in row.name
        for busy in ([False] if options.alone else [False, True])
    ]
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| who works | neighbour | images/s | scores/s | workers ready after, s | whole run, s |")
    print("|---|---|---|---|---|---|")
    seen: dict[str, set[object]] = {"one thread": set(), "all threads": set()}
    for row in rows:
        found = measured(row, options.images)
        seen["all threads" if "all" in row.name else "one thread"].add(found["digests"])
        print(f"| {row.name} | {'busy' if row.busy else 'none'} | {found['images']:.1f} | {found['scores']:.0f} | "
              f"{found['start']:.1f} | {found['whole']:.1f} |", flush=True)  # fmt: skip
    print(f"\nimages of all rows of one thread are the same bit by bit: {len(seen['one thread']) == 1}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
