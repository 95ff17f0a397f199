"""Numbers that a set of features has: Fréchet distance, kernel distances (KID, CMMD), spread and Vendi score.

All take features (n, D) with weights (n,), how often each image counts: the value is that of the set in which each row
is repeated that often. What a distance needs of its reference set goes into the rows themselves (`Gaussian.rows`,
`Kernelled.rows`), so that a report computes it again from a run's folder, without the reference. `identity` names the
number and the version of its code: `bench.analysis.sets` keeps what it has computed under it.

Sources: Heusel et al. (2017), GANs Trained by a Two Time-Scale Update Rule, eq. 6 (Fréchet); Gretton et al. (2012), A
Kernel Two-Sample Test, eq. 3 and 5 (unbiased and biased); Bińkowski et al. (2018), Demystifying MMD GANs (KID's
kernel); Jayasumana et al. (2024), Rethinking FID (CMMD's); Friedman & Dieng (2023), The Vendi Score, eq. 2.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Fréchet distance ----------------------------------------------------------------------------------------------------


class Gaussian:
    """A reference's mean (D,) and covariance (D, D), by their principal axes."""

    def __init__(self, mean: Floats, covariance: Floats):
        self.mean = mean
        spectrum, self.axes = np.linalg.eigh(covariance)
        self.spectrum = spectrum.clip(0)

    @classmethod
    def of(cls, features: Floats) -> Gaussian:
        """The Gaussian of features (n, D), its covariance divided by n - 1."""
        wide = features.astype(np.float64)
        return cls(wide.mean(axis=0), np.atleast_2d(np.cov(wide, rowvar=False)))

    def rows(self, features: Floats) -> Floats:
        """(n, 2D): features from the reference's mean along its axes, then its variances along them in every row.

        A rotation changes no Fréchet distance, and along its axes a covariance is D numbers.
        """
        turned = (features.astype(np.float64) - self.mean) @ self.axes
        return np.concatenate([turned, np.broadcast_to(self.spectrum, turned.shape)], axis=1)


class Frechet:
    """||m - m'||² + tr(C + C' - 2 (C C')^½) of rows (n, 2D) by `Gaussian.rows`, and what each image does to it.

    The trace of the root is the sum of the singular values of C^½ C'^½, so no root of a matrix is taken: those of
    singular products, which few images have, lose digits.
    """

    identity = "frechet-1"

    def __call__(self, rows: Floats, weights: Floats) -> float:
        """The distance; NaN for fewer than two images."""
        there, n = weights > 0, weights.sum()
        if n < 2:
            return float("nan")
        w = weights[there]
        mean, centred, spectrum = _centred(rows[there], w)
        centred *= np.sqrt(w / (n - 1))[:, None]
        own = float((centred**2).sum())
        centred *= np.sqrt(spectrum)
        d = centred.shape[1]
        gram = centred.T @ centred if len(centred) > d else centred @ centred.T
        root = float(np.sqrt(np.linalg.eigvalsh(gram).clip(0)).sum())
        return float(mean @ mean) + own + float(spectrum.sum()) - 2 * root

    def influence(self, rows: Floats) -> Floats:
        """How far each of n images pulls the distance, (n,), with mean 0: n times its derivative by the weights.

        tr(A^½) changes by tr(A^-½ dA) / 2, where A is C'^½ C C'^½; directions in which A is zero are left out, for
        no image lies in them. One decomposition for all images.
        """
        n = len(rows)
        mean, centred, spectrum = _centred(rows, np.ones(n))
        pull = 2 * centred @ mean
        pull += (centred**2).sum(axis=1) * (n / (n - 1))
        centred *= np.sqrt(spectrum / (n - 1))
        d = centred.shape[1]
        values, vectors = np.linalg.eigh(centred.T @ centred if n > d else centred @ centred.T)
        there = values > values[-1] * max(n, d) * np.finfo(np.float64).eps
        roots, vectors = np.sqrt(values[there]), vectors[:, there]
        if n > d:
            along = centred @ vectors
            pull -= n * (along**2 / roots).sum(axis=1)
        else:
            pull -= n * (vectors**2 * roots).sum(axis=1)
        return np.asarray(pull - pull.mean())


frechet = Frechet()


def _centred(rows: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Of rows (n, 2D) by `Gaussian.rows`: the mean (D,), features without it (n, D), the reference's variances (D,)."""
    d = rows.shape[1] // 2
    mean = weights @ rows[:, :d] / weights.sum()
    return mean, rows[:, :d] - mean, rows[0, d:]


# Kernel distances ----------------------------------------------------------------------------------------------------

Kernel = Callable[[Floats, Floats], Floats]
_BLOCK = 2048
_CONSTANTS = 4


def cubic(x: Floats, y: Floats) -> Floats:
    """KID's kernel (x · y / D + 1)³ of (n, D) and (m, D), as (n, m)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def radial(x: Floats, y: Floats) -> Floats:
    """CMMD's kernel exp(-||x - y||² / 2σ²) with σ = 10 of (n, D) and (m, D), as (n, m)."""
    squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    return np.exp(squared.clip(0) / -200)


class Kernelled:
    """A reference's features (m, D) under a kernel; `unbiased` leaves pairs of an image with itself out."""

    def __init__(self, features: Floats, kernel: Kernel, *, unbiased: bool):
        self.features, self.kernel = features.astype(np.float64), kernel
        m = len(self.features)
        total = sum(float(kernel(part, self.features).sum()) for part in _parts(self.features))
        if unbiased:
            total -= float(_diagonal(kernel, self.features).sum())
        self.own = total / (m * (m - 1) if unbiased else m * m)

    def rows(self, features: Floats) -> Floats:
        """(n, D + 4): features, each one's mean kernel with the reference, and the reference's own mean kernel.

        Rows are kept in single precision, and these two are differences' terms: each is a sum of two numbers.
        """
        wide = features.astype(np.float64)
        across = np.concatenate([self.kernel(part, self.features).mean(axis=1) for part in _parts(wide)])
        own = np.full(len(wide), self.own)
        return np.concatenate([wide, *(two for one in (across, own) for two in _split(one))], axis=1)


class KernelDistance:
    """MMD² of rows by `Kernelled.rows`; with an `unbiased` estimate it may be below zero."""

    def __init__(self, kernel: Kernel, *, unbiased: bool, scale: float = 1.0):
        self.kernel, self.unbiased, self.scale = kernel, unbiased, scale
        self.identity = f"kernel-1-{kernel.__name__}-{unbiased}-{scale}"
        self._last: tuple[Any, Floats, Floats] | None = None

    def __call__(self, rows: Floats, weights: Floats) -> float:
        n = float(weights.sum())
        if n < 2:
            return float("nan")
        gram, diagonal = self._gram(rows)
        across, own = (rows[:, at] + rows[:, at + 1] for at in (-4, -2))
        within = float(weights @ gram @ weights)
        if self.unbiased:
            within = (within - float(weights @ diagonal)) / (n * (n - 1))
        else:
            within /= n * n
        return self.scale * (within + float(own[0]) - 2 * float(weights @ across) / n)

    def _gram(self, rows: Floats) -> tuple[Floats, Floats]:
        """Kernels of all pairs, kept as long as the rows are: a bootstrap asks a thousand times for the same ones."""
        if self._last is None or self._last[0]() is not rows:
            self._last = None  # before the next is made: it is large
            features = rows[:, :-_CONSTANTS]
            gram = np.concatenate([self.kernel(part, features) for part in _parts(features)])
            self._last = weakref.ref(rows, self._forget), gram, np.diagonal(gram).copy()
        return self._last[1], self._last[2]

    def _forget(self, gone: Any) -> None:
        if self._last is not None and self._last[0] is gone:
            self._last = None


def _parts(features: Floats) -> list[Floats]:
    return [features[i : i + _BLOCK] for i in range(0, len(features), _BLOCK)]


def _diagonal(kernel: Kernel, features: Floats) -> Floats:
    return np.concatenate([np.diagonal(kernel(part, part)) for part in _parts(features)])


def _split(values: Floats) -> tuple[Floats, Floats]:
    """Two columns (n, 1) whose sum is the values also after both were rounded to single precision."""
    high = values.astype(np.float32).astype(np.float64)
    return high[:, None], (values - high)[:, None]


# Diversity -----------------------------------------------------------------------------------------------------------


def spread(features: Floats) -> float:
    """The mean of 1 - cos over all pairs of features (n, D); NaN for a single one."""
    n = len(features)
    if n < 2:
        return float("nan")
    unit = _unit(features)
    return 1 - (float((unit.sum(axis=0) ** 2).sum()) - n) / (n * (n - 1))


def vendi(features: Floats) -> float:
    """exp of the entropy of the eigenvalues of cos / n of features (n, D): 1 for n equal ones, n for orthogonal ones.

    NaN for a single one, which says nothing.
    """
    if len(features) < 2:
        return float("nan")
    unit = _unit(features)
    shares = np.linalg.eigvalsh(unit @ unit.T / len(unit))
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


class OverPrompts:
    """The mean over prompts of a number of each prompt's own images; a prompt that is drawn twice counts twice.

    Prompts with one image have no such number and are left out; NaN where all are.
    """

    def __init__(self, of: Callable[[Floats], float]):
        self.of = of
        self.identity = f"over-prompts-1-{of.__name__}"
        self._last: Any = None
        self._known: dict[tuple[int, bytes], float] = {}

    def __call__(self, features: Floats, weights: Floats, groups: NDArray[np.int64]) -> float:
        if self._last is None or self._last() is not features:
            self._last, self._known = (
                weakref.ref(features),
                {},
            )  # a bootstrap asks a thousand times for the same prompts
        order = np.argsort(groups, kind="stable")
        total = counted = 0.0
        for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
            there = weights[rows] > 0
            times = float(weights[rows].max())
            key = (int(rows[0]), there.tobytes())
            if key not in self._known:
                self._known[key] = self.of(features[rows[there]])
            if times and np.isfinite(self._known[key]):
                total += times * self._known[key]
                counted += times
        return total / counted if counted else float("nan")


def _unit(features: Floats) -> Floats:
    wide = features.astype(np.float64)
    norm = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(norm > 0, norm, 1)
