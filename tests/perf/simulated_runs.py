"""Simulated runs of two arms and one metric: how their deltas scatter, their ledgers, and runs that share one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import special, stats

from bench import gate, registry
from bench.analysis.results import compute
from bench.metrics.base import MetricEntry
from bench.prompts.base import Prompt
from bench.records import Results
from bench.runner.score import prompt_key
from bench.store import Image, Ledger
from bench.suite import Link, MethodSpec, Suite

METRIC = "simulated"
POWER = 0.8
Draw = Callable[[np.random.Generator, int], np.ndarray]


def student(rng: np.random.Generator, n: int) -> np.ndarray:
    """Three degrees of freedom: a variance, and no higher moment."""
    return rng.standard_t(3, n) / math.sqrt(3)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Mean 0, variance 1, a long tail to losses."""
    return 1 - rng.exponential(1, n)


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=n)


@dataclass(frozen=True)
class Case:
    """A kind of run: how many prompts, how many seeds of each in turn, and how deltas scatter."""

    name: str
    prompts: int
    seeds: tuple[int, ...]
    draw: Draw

    @property
    def counts(self) -> np.ndarray:
        """Seeds of each prompt, (prompts,)."""
        return np.resize(np.array(self.seeds), self.prompts)

    def deltas(self, rng: np.random.Generator, true: float) -> np.ndarray:
        """(pairs,) deltas: half of their variance is the prompt's."""
        shared = np.repeat(self.draw(rng, self.prompts), self.counts)
        return true + (shared + self.draw(rng, len(shared))) * math.sqrt(0.5)

    @property
    def error(self) -> float:
        """True standard error of the mean delta."""
        counts = self.counts
        return math.sqrt(0.5 * ((counts**2).sum() + counts.sum())) / counts.sum()

    def difference(self, level: float) -> float:
        """What a two-sided t-test at this level finds with 80 % power, noncentral t with a degree less than prompts."""
        freedom = self.prompts - 1
        critical = special.stdtrit(freedom, (1 + level) / 2)
        low, high = 0.0, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if stats.nct.sf(critical, freedom, middle) < POWER else (low, middle)
        return low * self.error


CASES = (
    Case("100 prompts, normal", 100, (1,), normal),
    Case("100 prompts, heavy tails", 100, (1,), student),
    Case("60 prompts of 1 to 4 seeds", 60, (1, 2, 3, 4), normal),
    Case("12 prompts of 2 seeds", 12, (2,), normal),
    Case("5 prompts of 2 seeds", 5, (2,), normal),
)
HARD = (
    Case("100 prompts, skewed to losses", 100, (1,), skewed),
    Case("100 prompts, skewed to gains", 100, (1,), lambda rng, n: -skewed(rng, n)),
)
"""Where the bounds are known to be off: long tails on one side."""


def register() -> None:
    """Make the simulated metric known, once."""
    if METRIC not in registry.names("metrics"):
        entry = MetricEntry(METRIC, "Simulated", "standard deviations", None, lambda: "simulated-1")
        registry.add_plugin("metrics", METRIC, entry, "simulation")


def suite_of(case: Case) -> Suite:
    """A suite that such a run could be of."""
    methods = tuple(MethodSpec(label=label, chain=(Link(use=label),)) for label in ("standard", "method"))
    return Suite(
        name="simulated",
        models=("world",),
        prompts=("captions",),
        samplers=("ddim",),
        seeds=tuple(range(max(case.seeds))),
        baseline="standard",
        methods=methods,
        metrics=(METRIC,),
    )


def write_run(folder: Path, case: Case, scores: dict[str, np.ndarray]) -> Ledger:
    """A finished run's ledger with these scores (pairs,) by arm."""
    ledger = Ledger(folder, create=True)
    counts = case.counts
    places = [(p, s) for p in range(case.prompts) for s in range(counts[p])]
    keys = [prompt_key(Prompt(p, f"caption {p}")) for p in range(case.prompts)]
    cells, images, rows = [], [], []
    for arm, values in scores.items():
        for (prompt, seed), value in zip(places, values, strict=True):
            job = f"{arm}-{prompt}-{seed}"
            cells.append((arm, "world", "captions", "ddim", 20, 5.0, prompt, seed, f"caption {prompt}", "", None, job))
            images.append(Image(job, job, f"images/{job}.png", 0, 20, 1.0, 0.1, 40.0, 2.0, None, "none", 1, "a CPU",
                                job, "2026-01-01T00:00:00+00:00"))  # fmt: skip
            rows.append((job, keys[prompt], METRIC, "simulated-1", float(value), "{}", 1.0))
    ledger.db.execute("PRAGMA synchronous=OFF")
    with ledger.transaction():
        ledger.set("suite", suite_of(case).model_dump(mode="json"))
        ledger.set("optimises", {arm: {"world": []} for arm in scores})
        ledger.put_cells(cells)
        ledger.put_images(images)
        ledger.put_scores(rows)
        provenance = json.dumps({"version": "0", "weights": {}, "hardware": "a CPU"})
        ledger.db.execute(
            "INSERT INTO sessions (started, provenance) VALUES (?, ?)", ("2026-01-01T00:00:00+00:00", provenance)
        )
    return ledger


class World:
    """Runs of one kind: all share their prompts, seeds and protocol, and differ in their scores."""

    def __init__(self, case: Case, folder: Path, *, whole: bool = False) -> None:
        register()
        self.case, self.folder, self.whole = case, folder, whole
        self.made = 0
        blank = np.arange(case.counts.sum(), dtype=np.float64)
        self.first = self._written({"standard": blank, "method": blank % 7})

    def run(self, scores: dict[str, np.ndarray]) -> tuple[Results, gate.Samples]:
        """A finished run with these scores (pairs,) by arm: its results, and what its ledger holds of each sample."""
        if self.whole:
            return self._written(scores)
        results, samples = self.first
        arms = [replace(arm, scores=scores[arm.method][None, :]) for arm in samples.measured.arms]
        return results, gate.Samples(replace(samples.measured, arms=arms), samples.suite)

    def _written(self, scores: dict[str, np.ndarray]) -> tuple[Results, gate.Samples]:
        self.made += 1
        ledger = write_run(self.folder / str(self.made), self.case, scores)
        try:
            return compute(ledger), gate.Samples.read(ledger)
        finally:
            ledger.close()
