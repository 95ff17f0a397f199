"""The gate fires as often as it says: on runs without a true difference, and on runs with one of a stated size.

Scores are simulated, everything else is the real path: ledger, results, frozen baseline, verdicts. Seeds are fixed, and
each count must lie where 99.9 % of binomial trials of the stated rate do. `NOISEBENCH_FULL=1`, as in the weekly
workflow, takes over three times as many; more, and harder ones: `python tests/perf/gate_simulation.py --runs 2000`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from covering import FULL
from perf import gate_simulation as simulation
from perf.interval_table import KINDS, PROMPTS, SEEDS, Kind, cell
from perf.simulated_runs import CASES, Case, World

from bench.gate.comparisons import Comparisons
from bench.stats import intervals

RUNS = 200 if FULL else 60


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rates_are_as_stated(case: Case, tmp_path: Path) -> None:
    found = list(simulation.answers(case, tmp_path, runs=RUNS, seed=0))
    print("", case.name, *found, sep="\n")
    assert [str(answer) for answer in found if not answer.ok] == []


def test_a_gate_that_claims_too_much_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of one standard error miss the truth on either side in 15.9 % of runs, not in 2.5 %."""

    def one_error(values: np.ndarray, *limits: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        return error, error

    monkeypatch.setattr(intervals, "reaches", one_error)
    world = World(CASES[0], tmp_path)
    fired = simulation.rule_outcomes(world, runs=RUNS, seed=0, delta=0.0).count("failed")
    low, high = simulation.likely(RUNS, 0.159)
    assert low <= fired <= high
    assert not simulation.Answer("", simulation.RATE, "<=", fired, RUNS).ok


def test_scores_put_in_the_place_of_a_ledgers_are_judged_as_a_ledgers_own(tmp_path: Path) -> None:
    worlds = [World(CASES[2], tmp_path / str(whole), whole=whole) for whole in (False, True)]
    rules = [simulation.rule_outcomes(world, runs=4, seed=1, delta=0.1) for world in worlds]
    frozen = [simulation.baseline_outcomes(world, runs=3, seed=1, loss=0.4) for world in worlds]
    assert rules[0] == rules[1]
    assert frozen[0] == frozen[1]
    assert {"inconclusive", "failed"} <= {*rules[0], *frozen[0]}


def test_the_simulated_deltas_scatter_as_stated() -> None:
    """The standard error of the mean, of which the stated power is made, from 5,000 means."""
    rng = np.random.default_rng(0)
    for case in CASES:
        means = [case.deltas(rng, 1.0).mean() for _ in range(5_000)]
        assert np.mean(means) == pytest.approx(1.0, abs=5 * case.error / np.sqrt(len(means)))
        assert np.std(means) == pytest.approx(case.error, rel=0.05)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_intervals_keep_their_rates(kind: Kind) -> None:
    """The bars of docs/statistics.md, on 3,000 draws of every cell up to 100 prompts, seeded."""
    cells = [cell(kind, k, seeds, runs=3000, seed=1) for k in PROMPTS if k <= 100 for seeds in SEEDS]
    assert [found for found in cells if not found.ok] == []
    # Wide enough is not enough: with 100 prompts a t-test's effect is found, unless it lies in one or two prompts.
    if "rare" not in kind.name:
        assert all(found.power > (0.25 if kind.ranged else 0.75) for found in cells if found.prompts == 100)


def test_one_look_is_the_reports_own_interval_and_more_are_wider() -> None:
    """On values without skewness it is the t-test's."""
    from scipy import stats as scipy

    from bench import stats

    rng = np.random.default_rng(3)
    for prompts in (12, 40, 200):
        half = rng.normal(0.0, 1, prompts // 2)
        values = 0.2 + np.concatenate([half, -half])
        comparisons = Comparisons()
        comparison = comparisons.mean(values, np.arange(prompts))
        comparisons.run()
        assert comparison.answer == stats.cluster_mean(values, range(prompts))
        t = scipy.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (comparison.answer.low, comparison.answer.high) == pytest.approx((t.low, t.high))
        comparisons.mean(values, np.arange(prompts))
        comparisons.run(level=0.975)
        assert comparisons.level == 0.975


def test_few_prompts_cannot_show_that_a_loss_is_small() -> None:
    """Scores without a range need 30; a range says how far a loss that was not seen can go."""
    values = np.linspace(-0.1, 0.1, 29)
    comparisons = Comparisons()
    assert comparisons.mean(values, np.arange(29)).few
    assert not comparisons.mean(values, np.arange(29), (-1.0, 1.0)).few
    assert not comparisons.mean(np.append(values, 0.0), np.arange(30)).few
    assert not comparisons.win_rate(values, np.zeros(29), np.arange(29)).few


def test_looks_are_counted_and_identical_ones_are_not() -> None:
    comparisons = Comparisons()
    rng = np.random.default_rng(0)
    for _ in range(5):
        comparisons.mean(rng.normal(size=30), np.arange(30))
    assert comparisons.mean(np.zeros(1), np.zeros(1, dtype=int)).answer is None, "one prompt says nothing of others"
    comparisons.run()
    assert len(comparisons) == 5
    assert comparisons.level == pytest.approx(0.99)
