"""What the intervals of `stats.intervals` can find: the smallest true mean, and how many clusters find a given one.

A mean is found where its interval excludes zero. Without a range that is the two-sided t test: the studentised mean of
k clusters has a noncentral t distribution of k - 1 degrees of freedom. With a range the interval is wider, by its
pseudo-prompts, which are known and so scatter less than a variance that was estimated: the degrees of freedom are
Satterthwaite's for a sum of which only a share is estimated. A mean that is far from zero cannot come with the small
variance of a run that showed nothing: of a range (-w, w), a mean of d has at least the variance of a share d / w of
clusters that lose all, d w - d**2, as 0/1 scores do.

Hall's correction for skewness, which moves a bound outwards on the side of a tail, is left out: an effect that is the
tail, as rare losses are, is found from its other bound. Where it moves the bound that decides, what is stated as 80 %
is 69 % of 5 normal prompts, 73 % of 10 and 77 % of 20 (docs/statistics.md has the table).

Sources: Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, 2.5, and Johnson, Kotz & Balakrishnan
(1995), Continuous Univariate Distributions 2, ch. 31 (power of the t test by the noncentral t); Satterthwaite (1946),
Biometrics Bulletin 2 (degrees of freedom of a sum of variances); Miller (2024), arXiv:2411.00640, sec. 5 (clusters).
"""

from __future__ import annotations

import math
from statistics import NormalDist

from bench.stats.intervals import SPARE, Bounds

MANY = 100_000
"""Degrees of freedom from which on Student's t is the normal distribution to five digits."""
_STEPS = 60
_NORMAL = NormalDist()


def detectable(
    error: float, clusters: int | None = None, bounds: Bounds | None = None, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true mean that is found with this power, in the unit of `error`, the mean's standard error.

    `clusters` are those that the error was estimated from; None stands for very many, as a bootstrap has no such
    number. `bounds` is the range of the values. inf for a single cluster, and where no mean within the range is found;
    zero where the values have neither spread nor range, which says nothing.
    """
    if clusters is not None and clusters < 2:
        return math.inf
    if clusters is None or bounds is None or not all(map(math.isfinite, bounds)):
        freedom = MANY if clusters is None else clusters - 1
        return error * _noncentrality(freedom, _critical(freedom, alpha), power)
    low, high = 0.0, max(map(abs, bounds))
    if _power(high, error, clusters, bounds, alpha) < power:
        return math.inf
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _power(middle, error, clusters, bounds, alpha) < power else (low, middle)
    return high


def clusters_for(
    variance: float, delta: float, bounds: Bounds | None = None, *, alpha: float = 0.05, power: float = 0.8
) -> int:
    """The fewest clusters, at least 2, whose values of this variance find a true mean of `delta`.

    Raises ValueError for a delta that no number of clusters finds: zero, or beyond the range.
    """
    delta = abs(delta)
    if not 0 < delta < math.inf or (bounds is not None and delta > max(map(abs, bounds))):
        raise ValueError(f"delta is {delta:g}; a finite number other than zero, and within the range, is needed")

    def enough(k: int) -> bool:
        return detectable(math.sqrt(variance / k), k, bounds, alpha=alpha, power=power) <= delta * (1 + 1e-9)

    most = 2
    while not enough(most):
        most *= 2
    least = most // 2
    while least + 1 < most:
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle, most)
    return most


def _power(delta: float, error: float, clusters: int, bounds: Bounds, alpha: float) -> float:
    """How often the interval of values of a range excludes zero where their true mean is `delta` above zero."""
    k, n = clusters, clusters + 2 * SPARE
    spread = max(error**2 * k, delta * max(map(abs, bounds)) - delta**2)
    middle = (k * delta + SPARE * sum(bounds)) / n
    known = k * (delta - middle) ** 2 + SPARE * sum((end - middle) ** 2 for end in bounds)
    total = (k - 1) * spread + known
    reach = _critical(n - 1, alpha) * math.sqrt(total / (n * (n - 1)))
    if spread <= 0:
        return float(delta > reach)
    mean_error = math.sqrt(spread / k)
    freedom = (k - 1) / ((k - 1) * spread / total) ** 2
    return _found(freedom, delta / mean_error, reach / mean_error)


def _critical(freedom: float, alpha: float) -> float:
    from scipy.special import stdtrit

    return _NORMAL.inv_cdf(1 - alpha / 2) if freedom >= MANY else float(stdtrit(freedom, 1 - alpha / 2))


def _found(freedom: float, noncentrality: float, critical: float) -> float:
    """P(T > critical) of a noncentral t."""
    from scipy.special import nctdtr

    if freedom >= MANY:
        return _NORMAL.cdf(noncentrality - critical)
    return 1 - float(nctdtr(freedom, noncentrality, critical))


def _noncentrality(freedom: float, critical: float, power: float) -> float:
    """The noncentrality of which a t lies beyond `critical` with this power."""
    from scipy.special import nctdtrinc

    if freedom >= MANY:
        return critical + _NORMAL.inv_cdf(power)
    return float(nctdtrinc(freedom, 1 - power, critical))
