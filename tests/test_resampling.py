"""Resampling by its definition; many columns at once are what each one is alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench import stats
from bench.stats.intervals import Interval, intervals
from bench.stats.resampling import COLUMNS, Batch, Totals, bootstrap, sign_flips


def plain_bootstrap(tops: np.ndarray, bottoms: np.ndarray, *, resamples: int, seed: int) -> tuple[float, float]:
    """The definition: draw clusters, divide sums by counts, take quantiles."""
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, len(tops), size=(resamples, len(tops)))
    found = [tops[row].sum() / bottoms[row].sum() for row in picked]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize("equal", [True, False])
def test_it_is_the_plain_bootstrap(equal: bool) -> None:
    rng = np.random.default_rng(1)
    sums = rng.normal(size=37)
    counts = np.ones(37) * 3 if equal else rng.integers(1, 5, size=37).astype(float)
    found = bootstrap(Totals(sums, counts), resamples=500, seed=4)
    assert (found.low, found.high) == pytest.approx(plain_bootstrap(sums, counts, resamples=500, seed=4), rel=1e-12)
    assert found.estimate == pytest.approx(sums.sum() / counts.sum())


@pytest.mark.parametrize("clusters", [5, 13, 14, 200])
def test_a_batch_answers_what_single_questions_answer(clusters: int) -> None:
    """More columns than are resampled together, of two sizes, in mixed order."""
    rng = np.random.default_rng(2)
    batch, asked = Batch(), []
    for number in range(COLUMNS + 20):
        k = clusters if number % 2 else clusters + 1
        sums = rng.normal(size=k)
        asked.append((sums, batch.interval(sums, np.ones(k)), batch.test(sums)))
    batch.run()
    for sums, interval, test in asked[:: len(asked) // 9]:
        alone = stats.cluster_mean(sums, range(len(sums)))
        assert interval.answer.low == pytest.approx(alone.low, rel=1e-9)
        assert interval.answer.high == pytest.approx(alone.high, rel=1e-9)
        assert test.answer == stats.sign_flip_p(sums, range(len(sums)))


def test_clusters_that_agree_leave_no_width() -> None:
    """0.1 has no exact sum: a matrix product alone would give an interval of a few last digits."""
    counts = np.arange(1.0, 51)
    found = bootstrap(Totals(0.1 * counts, counts), resamples=200)
    assert found.low == found.estimate == found.high


def test_a_task_of_one_prompt_leaves_the_whole_range() -> None:
    """Six tasks with a prompt each, three of them 1: no task shows how much its prompts differ."""
    values = np.array([1.0, 0, 1, 0, 1, 0])
    tops, bottoms = np.diag(values)[:, None, :], np.eye(6)[:, None, :]
    assert intervals(tops, bottoms, [(0, 1)]) == [Interval(0.5, 0, 1)]
    assert intervals(tops, bottoms) == [Interval(0.5, -math.inf, math.inf)]
    some = np.concatenate([bottoms, bottoms[:5]])
    assert intervals(some * 0.5, some, [(0, 1)]) == [Interval(0.5, 0, 1)], "one of six tasks has one prompt"
    assert intervals(np.concatenate([tops, tops]), np.concatenate([bottoms, bottoms]))[0].high < math.inf


def test_one_cluster_says_nothing() -> None:
    assert bootstrap(Totals(np.array([3.0]), np.array([2.0]))) == Interval(1.5, -math.inf, math.inf)
    assert intervals(np.array([[3.0]]), np.array([[2.0]]), [(0, 4)]) == [Interval(1.5, 0, 4)]
    assert sign_flips(np.array([[3.0]])) == 1


def test_the_mean_of_task_means_has_the_variance_of_strata() -> None:
    """Two tasks of 9 and 31 prompts: the standard error is the root of a quarter of the summed s**2 / n."""
    from scipy import stats as scipy

    rng = np.random.default_rng(8)
    task = np.array([0] * 9 + [1] * 31)
    values = rng.normal(size=40) * (1 + task)
    tops, bottoms = np.zeros((40, 1, 2)), np.zeros((40, 1, 2))
    tops[np.arange(40), 0, task], bottoms[np.arange(40), 0, task] = values, 1
    (found,) = intervals(tops, bottoms)
    error = math.sqrt(sum(values[task == t].var(ddof=1) / (task == t).sum() for t in (0, 1))) / 2
    near = min(found.high - found.estimate, found.estimate - found.low)
    assert found.estimate == pytest.approx((values[:9].mean() + values[9:].mean()) / 2)
    assert near == pytest.approx(scipy.t.ppf(0.975, 39) * error, rel=0.01)


def test_an_unpaired_ratio_is_welchs_on_logarithms() -> None:
    """One image a batch: the textbook's Welch interval of log means, by the delta method."""
    from scipy import stats as scipy

    rng = np.random.default_rng(3)
    ours, theirs = rng.lognormal(0.5, 0.1, 12), rng.lognormal(0.0, 0.2, 9)
    found = stats.unpaired_ratio(ours, range(12), theirs, range(9))
    shares = [x.var(ddof=1) / len(x) / x.mean() ** 2 for x in (ours, theirs)]
    degrees = sum(shares) ** 2 / (shares[0] ** 2 / 11 + shares[1] ** 2 / 8)
    reach = math.exp(scipy.t.ppf(0.975, degrees) * math.sqrt(sum(shares)))
    ratio = ours.mean() / theirs.mean()
    assert found.estimate == pytest.approx(ratio)
    assert (found.low, found.high) == pytest.approx((ratio / reach, ratio * reach))


def test_an_unpaired_ratio_covers_the_truth_as_often_as_it_says() -> None:
    """Eight batches of four images each, whose images share a time: 95 % of intervals hold the true ratio."""
    rng = np.random.default_rng(4)
    hits, trials = 0, 400
    batches = np.repeat(np.arange(8), 4)
    for _ in range(trials):
        ours, theirs = (np.repeat(mean * rng.lognormal(0, 0.1, 8), 4) for mean in (2.4, 2.0))
        found = stats.unpaired_ratio(ours, batches, theirs, batches)
        hits += found.low <= 1.2 <= found.high
    assert abs(hits / trials - 0.95) < 3.5 * math.sqrt(0.95 * 0.05 / trials)


def test_a_matched_ratio_is_cochrans_ratio_estimator_and_blind_to_what_slows_both_sides() -> None:
    rng = np.random.default_rng(5)
    slow, noise = rng.lognormal(0, 0.5, 10), rng.lognormal(0, 0.02, (2, 10))
    ours, theirs = 1.2 * slow * noise[0], slow * noise[1]
    found = stats.matched_ratio(np.repeat(ours, 4), np.repeat(theirs, 4), np.repeat(np.arange(10), 4).tolist())
    assert found.estimate == pytest.approx(ours.sum() / theirs.sum())
    assert found.low < 1.2 < found.high < found.low * 1.06
    apart = stats.unpaired_ratio(ours, range(10), theirs, range(10))
    assert apart.high / apart.low > 1.5
    # The textbook's standard error, for batches of one image.
    ratio = ours.mean() / theirs.mean()
    error = math.sqrt(((ours - ratio * theirs) ** 2).sum() / 9 / 10) / theirs.mean()
    from scipy import stats as scipy

    assert math.log(found.high / ratio) == pytest.approx(scipy.t.ppf(0.975, 9) * error / ratio)


def test_a_matched_ratio_covers_the_truth_as_often_as_it_says() -> None:
    """Eight batches on a machine that slows down and hurries; 95 % of intervals hold the true ratio."""
    rng = np.random.default_rng(6)
    hits, trials = 0, 400
    for _ in range(trials):
        slow = rng.lognormal(0, 0.4, 8)
        ours, theirs = 1.2 * slow * rng.lognormal(0, 0.1, 8), slow * rng.lognormal(0, 0.1, 8)
        found = stats.matched_ratio(ours, theirs, range(8))
        hits += found.low <= 1.2 <= found.high
    assert abs(hits / trials - 0.95) < 3.5 * math.sqrt(0.95 * 0.05 / trials)


def test_times_are_matched_only_where_both_sides_have_the_same_batches() -> None:
    ours = np.repeat([2.0, 4.0, 3.0, 5.0, 2.5, 3.5], 2)
    theirs = ours / 2 + np.repeat([0.1, 0.0, 0.1, 0.0, 0.0, 0.1], 2)
    batches, others, split = (np.repeat(names, 2) for names in ([7, 8, 9, 1, 2, 3], [3, 1, 5, 4, 6, 2], range(6)))
    split[1] = 1
    matched = stats.matched_ratio(ours, theirs, batches)
    apart = stats.unpaired_ratio(ours, batches, theirs, others)
    assert matched != apart
    assert stats.time_ratio(ours, batches, theirs, others, same_samples=True) == matched
    assert stats.time_ratio(ours, batches, theirs, others, same_samples=False) == apart
    cut = stats.unpaired_ratio(ours, batches, theirs, split)
    assert stats.time_ratio(ours, batches, theirs, split, same_samples=True) == cut
    assert stats.time_ratio(ours[1:], batches[1:], theirs, others, same_samples=False).low > 0
    one = stats.time_ratio(ours, [7] * 12, theirs, [3] * 12, same_samples=True)
    assert (one.low, one.high) == (0, math.inf)


def test_too_few_batches_give_a_ratio_and_no_interval() -> None:
    """Student's t of two batches would span a factor of 20 and more."""
    for batches, known in ((4, False), (5, True)):
        times = np.linspace(2.0, 3.0, batches)
        for found in (
            stats.matched_ratio(2 * times, times[::-1], range(batches)),
            stats.unpaired_ratio(2 * times, range(batches), times, range(batches)),
        ):
            assert found.estimate == pytest.approx(2.0)
            assert (found.low > 0, math.isfinite(found.high)) == (known, known)


def test_times_of_one_batch_have_no_interval() -> None:
    found = stats.unpaired_ratio([2.0, 2.0], [0, 0], [1.0, 1.0, 1.0], [0, 1, 2])
    assert (found.estimate, found.low, found.high) == (2.0, 0.0, math.inf)


def test_a_time_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="denominator has 0; every value must be above zero"):
        stats.unpaired_ratio([1.0], [0], [0.0], [0])
