"""The scores of images that the harness did not make as one table, scores.csv: by path, prompt, method and seed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import registry
from bench.analysis import results
from bench.analysis.arms import POOLED, read_arms
from bench.metrics.base import MetricEntry
from bench.records import Results
from bench.store import Ledger, write_atomically
from bench.store.exports import cell

SCORES = ("path", "prompt", "method", "seed", "metric", "score")


def write_scores(ledger: Ledger, found: Results) -> Path:
    """Every score by path, as a table, of a ledger and its results; a score that is not there is empty.

    A metric of pairs has 2p - 1 for each image and 0 for the baseline's, a metric of sets one row a method. A text that
    a spreadsheet would take for a formula has a `'` before it.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(SCORES)
    writer.writerows(map(cell, row) for row in _score_rows(ledger, found))
    path = ledger.folder / "scores.csv"
    write_atomically(path, text.getvalue().encode())
    return path


def _score_rows(ledger: Ledger, found: Results) -> Iterator[tuple[Any, ...]]:
    suite = results.load_suite(ledger)
    asked = results.metrics_of(ledger, suite)
    entries: dict[str, MetricEntry] = {name: registry.get("metrics", name) for name in asked}
    measured = read_arms([(ledger, suite, asked)], entries, results.scorer_digests([ledger], entries))
    paths = {(method, index, seed): path for method, index, seed, path, _ in ledger.get("given")}
    sets = {arm.method: arm.metrics for arm in found.arms if arm.prompts != POOLED}
    for number, name in enumerate(measured.metrics):
        for arm in measured.arms:
            if entries[name].kind == "set":
                yield ("", "", arm.method, "", name, sets[arm.method][name].mean)
                continue
            for pair, value in zip(arm.pair, arm.scores[number], strict=True):
                of = measured.pairs[pair]
                path = paths[arm.method, of.index, of.seed]
                yield (path, of.text, arm.method, of.seed, name, "" if value != value else float(value))
