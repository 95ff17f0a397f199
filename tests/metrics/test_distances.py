"""Distances between sets by closed forms, as clean-fid computes them, and by weights."""

from __future__ import annotations

import numpy as np
import pytest
from cleanfid.fid import frechet_distance
from feature_rows import CMMD, KID, VALUES, drawn, rows_of

from bench.metrics.distances import Gaussian, KernelDistance, Kernelled, cubic, frechet
from bench.metrics.fid import CleanFid


def test_the_frechet_distance_of_gaussians_that_share_axes_is_that_of_their_deviations() -> None:
    """||m - m'||² + Σ (s - s')² where both covariances are diagonal; of a sample, by its own mean and covariance."""
    x = drawn(400, 3, 0)
    x = np.linalg.qr(x - x.mean(axis=0))[0] * np.sqrt(399)  # mean 0 and covariance 1, exactly
    features = x * [3.0, 1.0, 0.5] + [1.0, 2.0, 0.0]
    rows = Gaussian(np.zeros(3), np.diag([1.0, 4.0, 0.25])).rows(features)
    assert frechet(rows, np.ones(400)) == pytest.approx(5 + 4 + 1 + 0, rel=1e-9)


def test_a_set_is_at_no_distance_from_itself() -> None:
    x = drawn(200, 6, 1)
    assert frechet(rows_of("frechet", x, x), np.ones(200)) == pytest.approx(0, abs=1e-9)
    assert CMMD(rows_of("cmmd", x, x), np.ones(200)) == pytest.approx(0, abs=1e-9)


def test_fewer_images_than_features_are_no_trouble_to_the_root() -> None:
    """The trace of the root of a singular product, by the nuclear norm; scipy's root of it is no help here."""
    few, many = drawn(5, 40, 2), drawn(300, 40, 3)
    a, b = np.cov(few, rowvar=False), np.cov(many, rowvar=False)
    w, v = np.linalg.eigh(b)
    half = v @ np.diag(np.sqrt(w)) @ v.T
    root = np.sqrt(np.linalg.eigvalsh(half @ a @ half).clip(0)).sum()
    expected = ((few.mean(0) - many.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * root
    assert frechet(rows_of("frechet", few, many), np.ones(5)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")  # clean-fid's
def test_fid_is_clean_fids_own_distance_and_by_weights_that_of_repeated_images() -> None:
    features, reference = drawn(60, 12, 30) * 1.3, drawn(80, 12, 31) + 0.2
    mean, spread = reference.mean(axis=0), np.cov(reference, rowvar=False)
    weights = np.random.default_rng(32).integers(0, 4, 60).astype(np.float64)
    rows = rows_of("frechet", features, reference)
    for times in (np.ones(60), weights):
        set_ = np.repeat(features, times.astype(int), axis=0)
        theirs = frechet_distance(set_.mean(axis=0), np.cov(set_, rowvar=False), mean, spread)
        assert frechet(rows, times) == pytest.approx(theirs, rel=1e-6)
        assert CleanFid()(rows, times) == pytest.approx(theirs, rel=1e-6)
    singular = rows_of("frechet", drawn(7, 12, 33), drawn(7, 12, 34))  # a root may have an imaginary part
    assert CleanFid()(singular, np.ones(7)) == pytest.approx(frechet(singular, np.ones(7)), abs=1e-3)


@pytest.mark.parametrize(("n", "d", "step"), [(60, 8, 1e-4), (9, 20, 2e-3)])
def test_an_images_influence_is_the_derivative_of_the_distance_by_its_weight(n: int, d: int, step: float) -> None:
    rows = rows_of("frechet", drawn(n, d, 40), 1.5 * drawn(80, d, 41) + 0.2)
    found = frechet.influence(rows)
    steps = step * np.eye(n)
    slopes = np.array([(frechet(rows, 1 + s) - frechet(rows, 1 - s)) / (2 * step) for s in steps])
    np.testing.assert_allclose(
        found, n * (slopes - slopes.mean()), atol=(1e-6 if n > d else 1e-4) * np.abs(found).max()
    )
    assert found.mean() == pytest.approx(0, abs=1e-12 * np.abs(found).max())


def test_kid_is_unbiased_and_cmmd_is_not() -> None:
    """Over many pairs of sets of one distribution, KID's mean is zero within its error; a biased one is above."""
    kid, biased = [], []
    plain = KernelDistance(cubic, unbiased=False)
    for seed in range(200):
        x, y = drawn(20, 4, 2 * seed + 10_000), drawn(20, 4, 2 * seed + 10_001)
        kid.append(KID(rows_of("kid", x, y), np.ones(20)))
        biased.append(plain(Kernelled(y, cubic, unbiased=False).rows(x), np.ones(20)))
    assert abs(np.mean(kid)) < 4 * np.std(kid) / 200**0.5
    assert np.mean(biased) > 10 * np.std(biased) / 200**0.5
    assert min(kid) < 0, "an unbiased estimate of nothing is below zero half the time"


def test_cmmd_of_two_points_is_the_kernels_closed_form() -> None:
    x, y = np.zeros((4, 2)), np.full((3, 2), 10.0)
    expected = 1000 * (2 - 2 * np.exp(-200 / 200))
    assert CMMD(rows_of("cmmd", x, y), np.ones(4)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", VALUES)
def test_weights_are_repeated_rows(name: str) -> None:
    features, reference = drawn(30, 5, 4), drawn(50, 5, 5) + 0.3
    weights = np.random.default_rng(6).integers(0, 4, 30).astype(np.float64)
    rows = rows_of(name, features, reference)
    repeated = np.repeat(rows, weights.astype(int), axis=0)
    one, other = VALUES[name](rows, weights), VALUES[name](repeated, np.ones(len(repeated)))
    assert one == pytest.approx(other, rel=1e-9)
    assert one != pytest.approx(VALUES[name](rows, np.ones(30)), rel=1e-3)


@pytest.mark.parametrize("name", VALUES)
def test_rows_in_single_precision_keep_the_value(name: str) -> None:
    rows = rows_of(name, drawn(300, 16, 7), drawn(280, 16, 8) + 0.2)
    kept = rows.astype("<f4").astype(np.float64)
    exact = VALUES[name](rows, np.ones(300))
    assert VALUES[name](kept, np.ones(300)) == pytest.approx(exact, rel=1e-5)
