"""Seconds of processor time of one batch of `standard` in two checkouts, each in a process of its own on one thread.

    git worktree add OTHER COMMIT
    python tests/perf/loop.py OTHER [--turns 40] [--batch 8] [--core 0]

The two processes take turns, a batch each, and each turn gives a ratio: other work on the machine slows neighbours in
time by the same amount, and the median is of many turns. Who is first changes from turn to turn. Processor time,
because the clock would count other work; loading and the first batch are left out. The last line is the median ratio
of rates, this checkout's over the other's, with its 95 % interval (order statistics, which assume no distribution).
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

CHILD = """
import sys, tempfile, time, torch
from pathlib import Path
torch.set_num_threads(1)
from bench import suite
from bench.runner.generate import generate
from bench.runner.plan import make_plan
from bench.store import Ledger
text = ("name: loop\\nmodels: [shapes-sdxl]\\nprompts: [shapes-drawbench]\\nsamplers: [ddim]\\nsteps: 20\\n"
        "baseline: standard\\nmethods: [standard, reseed]\\nmetrics: [shapes-geneval]\\nseeds: {from: 1, to: 9}\\n")
plan = make_plan(suite.parse(text, file="loop"))
batch, n = int(sys.argv[1]), int(sys.argv[2])
kept = {c.job_id: plan.jobs[c.job_id] for c in plan.cells if c.arm.method == "standard"}
plan.jobs.clear()
plan.jobs.update(list(kept.items())[:n])
class Turns(Ledger):
    start = None
    def put_images(self, rows):
        super().put_images(rows)
        now = time.process_time()
        print("batch", now - self.start if self.start else 0, flush=True)
        sys.stdin.readline()
        Turns.start = time.process_time()
with tempfile.TemporaryDirectory() as name:
    generate(plan, Turns(Path(name) / "run", create=True), None, device="cpu", batch_size=batch)
"""


class Process:
    """One checkout, which makes a batch when asked."""

    def __init__(self, checkout: Path, batch: int, batches: int, core: int) -> None:
        self.checkout = checkout
        self.child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(batch), str(batch * batches)], cwd=checkout, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )  # fmt: skip

    def seconds(self) -> float:
        """Processor time of the batch that was asked for last."""
        for line in self.child.stdout:
            if line.startswith("batch "):
                return float(line.split()[1])
        raise SystemExit(f"{self.checkout}: {self.child.stderr.read()[-2000:]}")

    def batch(self) -> float:
        """Processor time of one more batch."""
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        return self.seconds()


def interval(ratios: list[float]) -> tuple[float, float]:
    """The 95 % interval of the median by order statistics."""
    n, ordered = len(ratios), sorted(ratios)
    k = max(0, math.floor(n / 2 - 0.98 * math.sqrt(n)))
    return ordered[k], ordered[n - 1 - k]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="the checkout to compare with")
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    here, other = Path(__file__).resolve().parents[2], options.other.resolve()
    before, after = (Process(c, options.batch, options.turns + 2, options.core) for c in (other, here))
    before.seconds(), after.seconds()
    ratios = []
    for turn in range(options.turns):
        if turn % 2:
            new, old = after.batch(), before.batch()
        else:
            old, new = before.batch(), after.batch()
        ratios.append(old / new)
        print(f"before {old:.3f} s, after {new:.3f} s a batch of {options.batch}: {old / new:.3f}", flush=True)
    low, high = interval(ratios)
    print(f"rate after / before: median {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}] of {len(ratios)} turns")
    for one in (before, after):
        one.child.kill()


if __name__ == "__main__":
    main()
