"""What FID's value, interval and comparison cost at the paper's size: by influences, and by drawing whole sets.

    python tests/perf/set_metrics.py [--images 5000] [--features 2048] [--draws 200] [--timed 2]

Two arms of random features with a spectrum as Inception's, one image a prompt. Drawing sets computes the distance for
every draw of both arms and twice for every exchange; `--timed` of each are timed and the rest reckoned from them.
Seconds are of the processor: on a shared machine those of the clock say little. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench import registry
from bench.analysis.sets import Sets
from bench.metrics.distances import Gaussian


def seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--timed", type=int, default=2)
    given = parser.parse_args()
    n, d = given.images, given.features
    rng = np.random.default_rng(0)
    spectrum = 0.1 / (1 + np.arange(d))
    reference = Gaussian(np.zeros(d), np.diag(spectrum))
    arms = [reference.rows(rng.standard_normal((n, d)) * np.sqrt(spectrum) * scale) for scale in (1.1, 1.2)]
    entry, texts = registry.get("metrics", "fid"), np.arange(n)
    distance = entry.value
    row: dict[str, Any] = {"complete": True}

    draws = [rng.multinomial(n, np.full(n, 1 / n)).astype(float) for _ in range(given.timed)]
    one = seconds(lambda: [distance(arms[0], times) for times in draws]) / given.timed
    both = np.concatenate(arms)
    exchanged = rng.integers(0, 2, (given.timed, n)).astype(float)
    two = seconds(lambda: [distance(both, np.concatenate([1 - x, x])) for x in exchanged]) / given.timed
    drawn = given.draws * 2 * (one + two)
    print(f"{n:,} images x {d:,} features, processor seconds")
    print(f"drawing sets: {one:.1f} s a draw, {two:.1f} s a value of an exchange")
    print(f"  interval of one arm, {given.draws} draws: {given.draws * one:,.0f} s")
    print(f"  comparison of two arms, with {given.draws} exchanges: {drawn:,.0f} s")
    import cleanfid.fid  # noqa: F401  # a run has it loaded

    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_CACHE"] = folder
        print("by influences, with 10,000 draws and exchanges")
        print(f"  interval of one arm: {seconds(lambda: Sets().value(entry, arms[0], texts)):.1f} s")
        compare = lambda: Sets().compare(row, entry, *arms, texts)  # noqa: E731
        print(f"  comparison with a second arm: {seconds(compare):.1f} s")
        print(f"  the same again, from the cache: {seconds(compare):.1f} s")
    print(f"  delta {row['delta']:.3f} [{row['low']:.3f}, {row['high']:.3f}], p = {row['p']:.4f}")


if __name__ == "__main__":
    main()
