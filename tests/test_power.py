"""How many prompts and seeds a delta needs: closed forms, known sample sizes, and a simulation of the power itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import LIMIT, Bench, Run
from facts import missing
from handmade import Spot, make
from suite_texts import TWO_ARMS, suite_text

from bench.analysis.power import Components, Goal, components, power, prompts_bounds, prompts_needed
from bench.errors import NotComparable, UserError
from bench.stats import resampling

METRIC = "shapes-preference"


# Variance components ------------------------------------------------------------------------------------------------


def test_components_by_hand() -> None:
    """Prompts (1, 3) and (5, 7): within 4 / 2 = 2, between ((2 x 2**2 + 2 x 2**2) / 1 - 2) / 2 = 7."""
    found = components([1, 3, 5, 7], ["a", "a", "b", "b"])
    assert (found.between, found.within, found.split) == (7.0, 2.0, True)
    assert found.at(1) == 9.0
    assert found.at(4) == 7.5


def test_components_of_unequal_numbers_of_seeds() -> None:
    """Searle et al., sec. 3.6: within = 2 / 1; n0 = (3 - 5 / 3) / 1 = 4 / 3; between = (SSA / 1 - 2) / n0.

    Prompt means 2 (of 1 and 3) and 8, grand mean 4: SSA = 2 x 4 + 1 x 16 = 24.
    """
    found = components([1, 3, 8], [0, 0, 1])
    assert found.within == pytest.approx(2.0)
    assert found.between == pytest.approx((24 - 2) / (4 / 3))


def test_a_negative_estimate_is_zero() -> None:
    """Prompt means that are closer than seeds would make them by chance: 2 and 2."""
    assert components([1, 3, 3, 1], [0, 0, 1, 1]).between == 0.0


def test_one_seed_a_prompt_has_one_variance_only() -> None:
    found = components([1.0, 2.0, 6.0], [0, 1, 2])
    assert found.split is False
    assert found.at(1) == pytest.approx(np.var([1, 2, 6], ddof=1))
    with pytest.raises(ValueError, match="the split of the variance is not known"):
        found.at(2)


def test_components_are_unbiased() -> None:
    """Over 400 simulated runs the means of the estimates are the truth, within four standard errors."""
    rng = np.random.default_rng(5)
    between, within, k, s = 0.5, 2.0, 50, 3
    found = []
    for _ in range(400):
        deltas = rng.normal(0, between**0.5, (k, 1)) + rng.normal(0, within**0.5, (k, s))
        found.append(components(deltas.ravel(), np.repeat(range(k), s)))
    for name, truth in (("between", between), ("within", within)):
        values = np.array([getattr(one, name) for one in found])
        assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(len(values))


# Prompts needed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_sample_sizes_of_the_paired_t_test(effect: float, n: int) -> None:
    """Cohen's small, medium and large effects, 80 % power, two-sided 5 %: 199, 34 and 15 pairs, as G*Power has them."""
    assert prompts_needed(1.0, Goal(effect)) == n


def test_fewer_prompts_than_a_sign_flip_test_can_use_are_never_named() -> None:
    """Five prompts have 2**5 sign patterns, so no p below 2 / 32 = 0.0625; six have 0.031."""
    assert prompts_needed(1e-9, Goal(1.0)) == 6
    assert prompts_needed(1e-9, Goal(1.0, comparisons=10)) == 9


def test_seeds_help_only_within_prompts() -> None:
    goal = Goal(0.1)
    all_within, all_between = Components(0.0, 1.0, True), Components(1.0, 0.0, True)
    one, eight = (prompts_needed(all_within.at(s), goal) for s in (1, 8))
    assert one == pytest.approx(8 * eight, rel=0.03)
    assert prompts_needed(all_between.at(1), goal) == prompts_needed(all_between.at(8), goal)


@pytest.mark.parametrize(
    ("between", "within", "seeds", "comparisons"), [(1.0, 2.0, 1, 1), (1.0, 2.0, 4, 1), (0.2, 1.0, 2, 5)]
)
def test_the_number_it_names_has_the_stated_power(between: float, within: float, seeds: int, comparisons: int) -> None:
    """Runs of that many prompts, with a true delta: the harness's own test finds it in 80 % of them.

    The binomial standard error of 1,500 runs is 1 %; rounding up and the sign-flip test against the t test may add two
    percent of power at these sizes. Half the delta is found much less often.
    """
    goal = Goal(0.5, comparisons=comparisons)
    k, runs = prompts_needed(Components(between, within, True).at(seeds), goal), 1500
    rng = np.random.default_rng(7)
    prompts = rng.normal(0, math.sqrt(between), (k, runs))
    noise = rng.normal(0, math.sqrt(within * seeds), (k, runs))  # of the sum over seeds
    found = []
    for delta in (goal.delta, goal.delta / 2, 0.0):
        sums = seeds * (delta + prompts) + noise
        p = np.concatenate([resampling.sign_flips(part, permutations=4000) for part in np.split(sums, 3, axis=1)])
        found.append(float((p <= goal.level).mean()))
    assert goal.power - 0.03 < found[0] < goal.power + 0.05
    assert found[1] < 0.45
    assert found[2] <= goal.level + 3 * math.sqrt(goal.level * (1 - goal.level) / runs)


def test_the_interval_of_the_number_covers_it() -> None:
    """From 60 prompts of three seeds, the interval holds the true number in about 95 % of 200 runs."""
    goal, between, within = Goal(0.5, seeds=(1, 4)), 1.0, 2.0
    rng = np.random.default_rng(3)
    truth = {s: prompts_needed(between + within / s, goal) for s in goal.seeds}
    inside = dict.fromkeys(goal.seeds, 0)
    for _ in range(200):
        deltas = rng.normal(0, between**0.5, (60, 1)) + rng.normal(0, within**0.5, (60, 3))
        bounds = prompts_bounds(deltas.ravel(), np.repeat(np.arange(60), 3), goal)
        for seeds, (low, high) in bounds.items():
            inside[seeds] += low <= truth[seeds] <= high
    assert all(175 <= n <= 199 for n in inside.values()), inside


# Runs ---------------------------------------------------------------------------------------------------------------

SEEDS = suite_text(TWO_ARMS, seeds=[0, 1, 2], methods=["standard", "inversion", "reseed"])


def scored(spot: Spot) -> float:
    """Deltas of inversion: prompt effects -3, -1, 1, 3 and seed effects -1, 0, 1; of reseed: none."""
    return 10.0 + (2 * spot.index - 3 + spot.seed - 1 if spot.method == "inversion" else 0)


def test_a_runs_own_variance_time_and_size(tmp_path: Path) -> None:
    found = power(make(tmp_path / "a", scored, suite=SEEDS), Goal(0.5))
    row, still = found["rows"]
    # Within: (1 + 0 + 1) / 2 = 1 in each prompt. Between: variance of the means 20 / 3, less 1 / 3.
    assert row["components"].within == pytest.approx(1.0)
    assert row["components"].between == pytest.approx(20 / 3 - 1 / 3)
    assert (row["n"], row["n_prompts"], row["method"], row["metric"]) == (12, 4, "inversion", METRIC)
    plan = row["plans"][1]
    assert plan["prompts"] == prompts_needed(19 / 3 + 1 / 2, Goal(0.5))
    assert (plan["seeds"], plan["pairs"]) == (2, 2 * plan["prompts"])
    # 14 ms an image (1 + 1 + 10 + 2), and the baseline's beside it.
    assert plan["hours"] == pytest.approx(plan["pairs"] * 28 / 3_600_000)
    assert still["method"] == "reseed"
    assert [p["prompts"] for p in still["plans"]] == [6, 6, 6, 6]


def test_two_sets_with_one_text_are_one_prompt(tmp_path: Path) -> None:
    suite = suite_text(TWO_ARMS, prompts=["shapes-pickapic", "shapes-drawbench"])
    run = make(tmp_path / "a", lambda s: float(s.index), suite=suite, texts=lambda prompts, index: f"prompt {index}")
    (row,) = power(run, Goal(0.5))["rows"]
    assert (row["n"], row["n_prompts"]) == (8, 4)


def test_the_table_of_a_run_with_seeds(bench: Bench, tmp_path: Path) -> None:
    run = make(tmp_path / "a", scored, suite=SEEDS)
    done = bench(
        "power", run, "--delta", "0.5", "--comparisons", "3", "--method", "inversion", "--seeds-per-prompt", 1, 3
    )
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].endswith("a true delta of 0.5 with 80 % power at a two-sided level of 0.05 shared by 3 comparisons")
    setting = ("inversion against standard", "shapes-preference (utility)", "shapes-sdxl (ddim, 4 steps, g 5)")
    assert missing(lines[2], *setting) == []
    assert lines[3].endswith("86 % of its variance between prompts, 14 % between seeds of a prompt")
    table = [line.split() for line in lines if line.strip().startswith(("1 ", "3 "))]
    goal = Goal(0.5, comparisons=3)
    assert [int(row[1].replace(",", "")) for row in table] == [prompts_needed(19 / 3 + 1 / s, goal) for s in (1, 3)]
    assert "reseed against" not in done.out


def test_one_seed_says_that_the_split_is_not_known(bench: Bench, finished: Run) -> None:
    done = bench("power", finished.folder, "--delta", "0.1", "--metric", "shapes-clipscore")
    assert done.code == 0, done.err
    assert done.out.count("with one seed a prompt it is not known how much of it more seeds would average out") == 3
    rows = [line for line in done.out.splitlines() if line.strip().startswith(("1 ", "2 ", "4 ", "8 "))]
    assert len(rows) == 3, "one row a method, of one seed"
    assert "Other metrics of this run (--metric): shapes-geneval" in done.out


def test_a_suite_file_finds_its_run(bench: Bench, finished: Run, tmp_path: Path) -> None:
    options = ["--limit", LIMIT, "--runs", finished.runs, "--delta", "0.1"]
    done = bench("power", finished.suite, *options, "--metric", "shapes-clipscore", "--method", "inversion")
    assert done.code == 0, done.err
    assert "inversion against standard on shapes-clipscore" in done.out
    assert "reseed" not in done.out
    absent = bench("power", finished.suite, "--runs", tmp_path, "--delta", "0.1")
    assert absent.code == 2
    assert "no run of this suite (" in absent.error
    assert "run it first, or give a run folder" in absent.error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--delta", "0"], "--delta 0: expected a number other than zero"),
        (["--delta", "nan"], "--delta nan: expected a number other than zero"),
        (["--delta", "1", "--power", "1"], "--power 1: expected a number between 0 and 1"),
        (["--delta", "1", "--alpha", "0"], "--alpha 0: expected a number between 0 and 1"),
        (["--delta", "1", "--power", "0.01"], "--power 0.01: expected more than --alpha (0.05)"),
        (["--delta", "1", "--metric", "shapes-clipscor"], "--metric shapes-clipscor: not in "),
        (["--delta", "1", "--method", "inverson"], "did you mean 'inversion'?"),
    ],
)
def test_a_question_that_cannot_be_answered_is_one_line(
    bench: Bench, finished: Run, options: list[str], said: str
) -> None:
    done = bench("power", finished.folder, *options)
    assert done.code == 2
    assert said in done.error


def test_a_run_without_pairs_is_not_comparable(tmp_path: Path) -> None:
    run = make(tmp_path / "a", lambda s: 1.0 if s.method == "standard" else None, finished=False)
    with pytest.raises(NotComparable, match="no method has scores beside its baseline's on at least two prompts"):
        power(run, Goal(0.1))


def test_an_unfinished_run_says_so(bench: Bench, tmp_path: Path) -> None:
    run = make(tmp_path / "a", scored, suite=SEEDS, finished=False)
    assert "note: the run is not finished; this rests on what it has so far" in bench("power", run, "--delta", "1").out


def test_a_goal_without_sense_is_refused() -> None:
    with pytest.raises(UserError):
        Goal(math.inf)


def test_a_run_whose_differences_are_all_0_names_no_delta(bench: Bench, tmp_path: Path) -> None:
    out = bench("power", make(tmp_path / "a", scored, suite=SEEDS), "--delta", "1", "--method", "reseed").out
    assert "(12 pairs on 4 prompts) gives no smallest delta that it finds: all differences are exactly 0" in out
    assert "a delta of 0" not in out


def test_a_range_asks_for_more_prompts_than_a_t_test() -> None:
    goal = Goal(0.2)
    assert prompts_needed(0.3, goal, (-1.0, 1.0)) > prompts_needed(0.3, goal)
    assert prompts_needed(0.0, Goal(0.09), (-1.0, 1.0)) == pytest.approx(98, abs=2), "0.088 is found by 100"
    with pytest.raises(UserError, match=r"--delta 1\.5: expected one within the range of deltas, -1 to 1"):
        prompts_needed(0.3, Goal(1.5), (-1.0, 1.0))
