"""Images a second of processor time of `standard` in two checkouts, in turns, each in a process of its own on one
thread. Processor time, because other work on the machine would count in the clock's; loading and the first batch are
left out.

    git worktree add OTHER COMMIT
    python tests/perf/loop.py OTHER [--rounds 3] [--images 100] [--core 0]

The last line is this checkout's rate over the other's: least, median and greatest of the rounds.
"""

from __future__ import annotations

import argparse
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
from bench.generate import generate
from bench.plan import make_plan
from bench.store import Ledger
text = ("name: loop\\nmodels: [shapes-sdxl]\\nprompts: [shapes-drawbench]\\nsamplers: [ddim]\\nsteps: 20\\n"
        "baseline: standard\\nmethods: [standard, reseed]\\nmetrics: [shapes-geneval]\\n")
plan = make_plan(suite.parse(text, file="loop"))
n = int(sys.argv[1])
kept = {c.job_id: plan.jobs[c.job_id] for c in plan.cells if c.arm.method == "standard"}
plan.jobs.clear()
plan.jobs.update(list(kept.items())[:n])
class Timed(Ledger):
    ends = []
    def put_images(self, rows):
        super().put_images(rows)
        self.ends.append(time.process_time())
with tempfile.TemporaryDirectory() as name:
    generate(plan, Timed(Path(name) / "run", create=True), None, device="cpu", batch_size=25)
print(25 * (len(Timed.ends) - 1) / (Timed.ends[-1] - Timed.ends[0]))
"""


def rate(checkout: Path, images: int, core: int) -> float:
    """Images a second of processor time of one process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(images)], cwd=checkout, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="the checkout to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    here, other = Path(__file__).resolve().parents[2], options.other.resolve()
    ratios = []
    for _ in range(options.rounds):
        before, after = (rate(c, options.images, options.core) for c in (other, here))
        print(f"before {before:.3f}, after {after:.3f} images/CPU second", flush=True)
        ratios.append(after / before)
    print(f"ratio: min {min(ratios):.3f}, median {statistics.median(ratios):.3f}, max {max(ratios):.3f}")


if __name__ == "__main__":
    main()
