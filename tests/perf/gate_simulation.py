"""How often the gate fires on simulated runs, with no true difference and with one of a stated size.

    python tests/perf/gate_simulation.py [--runs 200] [--seed 0] [--whole]
    python tests/perf/gate_simulation.py --table [--intervals 20000]

With `--table` it prints, as docs/statistics.md has it, what the intervals alone hold for each kind of delta.

A run has two arms, `standard` and `method`, and one metric. A pair's delta is the true difference plus a part that all
seeds of its prompt share plus a part of its own. One run of a kind is a real ledger, read by `results.compute`;
the scores of the others take the place of its scores, or with `--whole` each is a ledger of its own: the verdicts are
the same. What is asked of the gate:

- `rule`: a threshold at the true delta. One-sided it fires in at most 2.5 % of runs, two-sided in 5 %.
- `shown`: the same with `require: shown`. It passes in at most 2.5 % of runs; with fewer than 30 prompts it has none
  that could be shown.
- `power`: a threshold above the true delta by what a t-test of as many prompts finds with 80 % power. The gate has that
  with 30 prompts or more; with fewer at least 65 %, for its bounds reach farther than Student's.
- `baseline`: a run against a frozen one; three comparisons (two arms, one effect) that fire together in at most 2.5 %
  of runs without a difference, and in at least 80 % where the method has lost what one of three comparisons finds with
  80 % power.

First it prints how often the intervals themselves miss the truth, on more runs.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special, stats

from bench import gate, registry
from bench.analysis.results import compute
from bench.gate.comparisons import Comparisons, level_for
from bench.metrics.base import MetricEntry
from bench.prompts.base import Prompt
from bench.records import Results
from bench.runner.score import prompt_key
from bench.store import Image, Ledger
from bench.suite import Link, MethodSpec, Suite

METRIC = "simulated"
RATE = 0.025
POWER = 0.8
Draw = Callable[[np.random.Generator, int], np.ndarray]


def _student(rng: np.random.Generator, n: int) -> np.ndarray:
    """Three degrees of freedom: a variance, and no higher moment."""
    return rng.standard_t(3, n) / math.sqrt(3)


def _skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Mean 0, variance 1, a long tail to losses."""
    return 1 - rng.exponential(1, n)


def _normal(rng: np.random.Generator, n: int) -> np.ndarray:
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
    Case("100 prompts, normal", 100, (1,), _normal),
    Case("100 prompts, heavy tails", 100, (1,), _student),
    Case("60 prompts of 1 to 4 seeds", 60, (1, 2, 3, 4), _normal),
    Case("12 prompts of 2 seeds", 12, (2,), _normal),
    Case("5 prompts of 2 seeds", 5, (2,), _normal),
)
HARD = (
    Case("100 prompts, skewed to losses", 100, (1,), _skewed),
    Case("100 prompts, skewed to gains", 100, (1,), lambda rng, n: -_skewed(rng, n)),
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


def rule_outcomes(world: World, *, runs: int, seed: int, **rule: Any) -> list[str]:
    """What a rule says of each of `runs` whose true delta is zero."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        deltas = world.case.deltas(rng, 0.0)
        standard = _normal(rng, len(deltas))
        results, samples = world.run({"standard": standard, "method": standard + deltas})
        (verdict,) = gate.check(results, [gate.Rule(metric=METRIC, **rule)], samples)
        found.append(verdict.outcome)
    return found


def baseline_outcomes(world: World, *, runs: int, seed: int, loss: float = 0.0) -> list[str]:
    """What the gate says of each of `runs` against a frozen one, the method being worse by `loss` now.

    Every arm's scores change by as much as the deltas of a rule scatter.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        old = {arm: _normal(rng, int(world.case.counts.sum())) for arm in ("standard", "method")}
        true = {"standard": 0.0, "method": -loss}
        new = {arm: values + world.case.deltas(rng, true[arm]) for arm, values in old.items()}
        frozen = gate.freeze(*world.run(old))
        results, samples = world.run(new)
        judged = gate.against_baseline(results, frozen, samples)
        found.append({0: "passed", 1: "failed"}[gate.exit_code(judged.verdicts)])
    return found


def likely(runs: int, rate: float) -> tuple[int, int]:
    """Counts that a binomial of this rate stays within in 99.9 % of trials."""
    return int(stats.binom.ppf(0.0005, runs, rate)), int(stats.binom.ppf(0.9995, runs, rate))


@dataclass(frozen=True)
class Answer:
    """How often something happened that is stated to happen at some rate."""

    asked: str
    stated: float
    bound: str
    """"=", or "<=" or ">=" where the rate is a bound."""
    seen: int
    runs: int

    @property
    def range(self) -> tuple[int, int]:
        """Counts that agree with the stated rate."""
        low, high = likely(self.runs, self.stated)
        return 0 if self.bound == "<=" else low, self.runs if self.bound == ">=" else high

    @property
    def ok(self) -> bool:
        """Whether the count agrees."""
        return self.range[0] <= self.seen <= self.range[1]

    def __str__(self) -> str:
        rate = f"{self.bound} {100 * self.stated:.1f} %"
        seen = f"{100 * self.seen / self.runs:5.1f} % ({self.seen} of {self.runs}"
        return f"{self.asked:42} stated {rate:>9}, seen {seen}, " \
               f"99.9 % range {self.range[0]} to {self.range[1]})"  # fmt: skip


def answers(case: Case, folder: Path, *, runs: int, seed: int, whole: bool = False) -> Iterator[Answer]:
    """All that is asked of one kind of run."""
    world = World(case, folder, whole=whole)
    size, lost = case.difference(0.95), case.difference(level_for(3))

    def rule(word: str, **given: Any) -> int:
        return rule_outcomes(world, runs=runs, seed=seed, **given).count(word)

    def baseline(loss: float) -> int:
        return baseline_outcomes(world, runs=runs, seed=seed, loss=loss).count("failed")

    power = POWER if case.prompts >= 30 else 0.65
    yield Answer("rule fires at its threshold", RATE, "<=", rule("failed", delta=0.0), runs)
    yield Answer("two-sided", 2 * RATE, "<=", rule("failed", delta=0.0, two_sided=True), runs)
    yield Answer("require: shown passes", RATE, "<=", rule("passed", delta=0.0, require="shown"), runs)
    yield Answer(f"rule fires {size:.3f} below its threshold", power, ">=", rule("failed", delta=size), runs)
    yield Answer("baseline fires without a difference", RATE, "<=", baseline(0.0), runs)
    yield Answer(f"baseline fires at a loss of {lost:.3f}", power, ">=", baseline(lost), runs)


def missed(case: Case, *, runs: int, seed: int, level: float = 0.95) -> tuple[int, int]:
    """How many intervals of a true delta of zero lie wholly below it, and how many wholly above: (n, n)."""
    rng = np.random.default_rng(seed)
    prompts = np.repeat(np.arange(case.prompts), case.counts)
    comparisons = Comparisons()
    found = [comparisons.mean(case.deltas(rng, 0.0), prompts) for _ in range(runs)]
    comparisons.run(level=level)
    answers = [comparison.answer for comparison in found if comparison.answer]
    return sum(a.high < 0 for a in answers), sum(a.low > 0 for a in answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="simulated runs for each answer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true", help="write and read a ledger for every run")
    parser.add_argument("--intervals", type=int, help="simulated intervals alone, which are quicker (4,000; a table's "
                        "20,000)")  # fmt: skip
    parser.add_argument("--table", action="store_true", help="print the table of docs/statistics.md, and nothing else")
    options = parser.parse_args()
    if options.table:
        from interval_table import table  # beside this script

        for line in table(runs=options.intervals or 20_000, seed=options.seed):
            print(line, flush=True)
        return
    options.intervals = options.intervals or 4000
    for case in (*CASES, *HARD):
        for level in (0.95, level_for(10)):
            below, above = missed(case, runs=options.intervals, seed=options.seed, level=level)
            shares = [f"{100 * n / options.intervals:.2f} %" for n in (below, above)]
            print(f"{case.name:30} {100 * level:g} % intervals: {shares[0]} wholly below the truth, {shares[1]} above; "
                  f"stated {50 * (1 - level):.2f} %", flush=True)  # fmt: skip
    for case in (*CASES, *HARD):
        print(case.name)
        with tempfile.TemporaryDirectory() as folder:
            for answer in answers(case, Path(folder), runs=options.runs, seed=options.seed, whole=options.whole):
                print(f"  {answer}{'' if answer.ok else '  <- not as stated'}", flush=True)


if __name__ == "__main__":
    main()
