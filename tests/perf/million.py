"""A million jobs planned and resumed, and a million score rows aggregated, beside pandas with scipy's bootstrap.

    python tests/perf/million.py jobs [--jobs 1000000] [--files]
    python tests/perf/million.py scores --folder DIR     (a ledger of tests/perf/scale.py --folder DIR)

`jobs` prints seconds and peak memory of the plan, and of finding what is left of a run of which half is in the ledger;
with `--files` half of the image files are made too (empty ones, in a temporary folder) and looked for.
`scores` prints the seconds of all results of the ledger, and what pandas takes that groups the same rows by method and
metric and asks `scipy.stats.bootstrap` for the interval of each comparison's mean delta, row by row of the table. Of
those rows a slice is timed, and the whole is extrapolated from it.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

SUITE = """
name: million
models: [sdxl]
prompts: [drawbench]
samplers: [euler]
steps: 50
guidance: 5.5
baseline: standard
seeds: {seeds}
methods:
  - standard
  - {{use: best_of_n, name: best_of_2, n: 2, selection_metric: hpsv2}}
  - lcm
  - reseed
  - inversion
metrics: [hpsv2]
"""
PROMPTS = 1000
EACH = 4
"""Jobs of a prompt and seed: the plain image and its reseed, which best of 2 shares, LCM's and inversion's."""


def peak_mib() -> float:
    """Most memory that this process has used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Clock:
    """Seconds of the wall and of the processor since the last one said."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def say(self, what: str) -> float:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        print(f"{what}: {wall:.1f} s, {cpu:.1f} s of the processor, peak {peak_mib():,.0f} MiB", flush=True)
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return cpu


def jobs(number: int, *, files: bool) -> None:
    """Plan, and find what is left of a run that made every second image."""
    from bench import suite
    from bench.prompts.base import Prompt
    from bench.runner.plan import make_plan
    from bench.store import Image, Ledger
    from bench.store.whole import whole_images

    prompts = [Prompt(i, f"a picture number {i} of a set", "some") for i in range(PROMPTS)]
    given = suite.parse(SUITE.format(seeds=list(range(number // EACH // PROMPTS or 1))), file="million.yaml")
    clock = Clock()
    plan = make_plan(given, read=lambda name: prompts, placeholders=True)
    clock.say(f"plan of {len(plan.jobs):,} jobs, {len(plan.cells):,} cells, {len(plan.choices):,} choices")
    with tempfile.TemporaryDirectory() as temporary:
        ledger = Ledger(Path(temporary), create=True)
        (Path(temporary) / "images").mkdir()
        costs = (0, 50, 5.0, 1.0, 4000.0, 90.0, 2**33, "cuda", 8, "a GPU", "", "")
        made = [Image(name, name * 2, f"images/{name}.png", *costs) for name in list(plan.jobs)[::2]]
        if files:
            for image in made:
                (Path(temporary) / image.file).touch()
        ledger.put_images(made)
        n = len(made)
        del made
        clock.say(f"(a ledger of {n:,} images written)")
        have = whole_images(ledger, quiet=True) if files else ledger.images()
        left = sum(name not in have for name in plan.jobs)
        clock.say(f"what is left of a run with {n:,} images: {left:,} jobs")
        ledger.close()


def scores(folder: Path, *, rows: int) -> None:
    """All results of a ledger, and the same table by pandas and scipy."""
    import numpy as np
    import pandas as pd
    from scipy import stats

    from bench.analysis.results import compute
    from bench.store import Ledger

    with_ledger = Ledger(folder, read_only=True)
    clock = Clock()
    results = compute(with_ledger)
    ours = clock.say(f"results: {len(results.comparisons)} comparisons, {len(results.arms)} arms, with all intervals")
    query = "SELECT method, prompts, prompt_index, seed, job_id FROM cells"
    cells = pd.read_sql_query(query, with_ledger.db)
    images = pd.read_sql_query("SELECT job_id, digest FROM images", with_ledger.db)
    values = pd.read_sql_query("SELECT digest, metric, value FROM scores", with_ledger.db)
    table = cells.merge(images, on="job_id").merge(values, on="digest")
    place = ["metric", "prompts", "prompt_index", "seed"]
    base = table[table.method == "standard"].set_index(place)["value"]
    theirs = clock.say(f"pandas: {len(table):,} rows read and joined")
    groups = list(table[table.method != "standard"].groupby(["method", "metric"]))
    for _, group in groups[:rows]:
        deltas = group.set_index(place)["value"] - base
        of_prompts = deltas.dropna().groupby(level=["prompts", "prompt_index"]).mean().to_numpy()
        stats.bootstrap((of_prompts,), np.mean, n_resamples=9999, method="percentile", rng=0, batch=100)
    slice_of = clock.say(f"scipy.stats.bootstrap, 9,999 resamples: {rows} of {len(groups)} pooled comparisons")
    whole = theirs + slice_of / rows * len(results.comparisons)
    print(
        f"pandas and scipy for all {len(results.comparisons)} comparisons, extrapolated: {whole:.0f} s of the "
        f"processor, {whole / ours:.0f} times ours (and without arms, win rates, tests, seeds and categories)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["jobs", "scores"])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--files", action="store_true", help="with half of the image files, empty ones")
    parser.add_argument("--folder", type=Path, help="a ledger of tests/perf/scale.py")
    parser.add_argument("--rows", type=int, default=5, help="comparisons that scipy is timed on")
    options = parser.parse_args()
    if options.what == "jobs":
        jobs(options.jobs, files=options.files)
    else:
        scores(options.folder, rows=options.rows)


if __name__ == "__main__":
    main()
