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
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.append(str(Path(__file__).parents[1]))
from perf.simulated_runs import CASES, HARD, METRIC, POWER, Case, World, normal

from bench import gate
from bench.gate.comparisons import Comparisons, level_for

RATE = 0.025


def rule_outcomes(world: World, *, runs: int, seed: int, **rule: Any) -> list[str]:
    """What a rule says of each of `runs` whose true delta is zero."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        deltas = world.case.deltas(rng, 0.0)
        standard = normal(rng, len(deltas))
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
        old = {arm: normal(rng, int(world.case.counts.sum())) for arm in ("standard", "method")}
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
