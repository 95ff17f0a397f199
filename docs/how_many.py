"""The table of docs/how-many.md: `python docs/how_many.py > reports/measured/how_many.csv`.

The smallest true delta that a run finds with 80 % power, by its number of prompts, with one seed a prompt and the
spread between prompts that the committed run of the main suite had. In the metric's unit.
"""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

from bench import records
from bench.stats.sensitivity import detectable

RESULTS = Path(__file__).parents[1] / "reports" / "sdxl_main_twin" / "results.json"
PROMPTS = (25, 50, 100, 200, 400, 1000)
METRICS = {"shapes-clipscore": None, "shapes-geneval": (-1.0, 1.0)}
"""Metrics, and the range of their deltas."""
METHODS = ("inversion", "best_of_4", "reseed")


def main() -> None:
    found = records.read(RESULTS)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["metric", "method", "spread between prompts", *PROMPTS])
    for metric, bounds in METRICS.items():
        for method in METHODS:
            (row,) = [r for r in found.comparisons if (r.method, r.metric, r.prompts) == (method, metric, "*")]
            assert row.sd is not None
            cells = [detectable(row.sd / math.sqrt(n), n, bounds) for n in PROMPTS]
            out.writerow([metric, method, f"{row.sd:.3f}", *(f"{cell:.3f}" for cell in cells)])


if __name__ == "__main__":
    main()
