"""The mean of deltas that several trained networks gave on the same prompts, with an interval that holds both.

A trained method is one draw of its training: another seed gives another network. Networks compared on the same prompts
are two crossed random factors, and the mean's variance is s²(networks)/T + s²(prompts)/P + s²(rest)/(TP),
estimated from the mean squares of a two-way table without replication. A component of networks that is estimated below
zero counts as zero, so that the interval is never narrower than that of prompts alone.

Sources: Satterthwaite (1946), An approximate distribution of estimates of variance components, Biometrics Bulletin 2
(degrees of freedom); Clark (1973), The language-as-fixed-effect fallacy, JVLVB 12 (crossed factors).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bench.stats.intervals import LEVEL, ROUNDING, Interval


@dataclass(frozen=True)
class Crossed:
    """The mean over networks and prompts, and how far each of the two factors lets it vary."""

    interval: Interval
    networks: float
    """Standard error of the mean that networks add, in the unit of the deltas."""
    prompts: float
    """Standard error of the mean that prompts and the rest add."""
    freedom: float
    """Degrees of freedom, after Satterthwaite."""


def crossed_delta(deltas: ArrayLike, *, level: float = LEVEL) -> Crossed:
    """Mean of deltas (T networks, P prompts) with Student's t interval over both.

    Seeds of a prompt are averaged before. Where all is equal the interval has no width. Raises ValueError for fewer
    than two networks or two prompts, and for values that are not finite.
    """
    from scipy.special import stdtrit

    table = np.asarray(deltas, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError(f"deltas have the shape {table.shape}; at least 2 networks and 2 prompts are needed")
    if not np.isfinite(table).all():
        raise ValueError("deltas are not all finite")
    t, p = table.shape
    mean = float(table.mean())
    rows, columns = table.mean(axis=1) - mean, table.mean(axis=0) - mean
    rest = table - mean - rows[:, None] - columns[None, :]
    squares = np.array([p * (rows**2).sum() / (t - 1), t * (columns**2).sum() / (p - 1), 0.0])
    squares[2] = (rest**2).sum() / ((t - 1) * (p - 1))
    squares[squares <= (ROUNDING * max(abs(table).max(), 1e-300)) ** 2] = 0.0
    of_networks, of_prompts, of_rest = squares
    more = max(0.0, of_networks - of_rest)
    variance = (more + of_prompts) / (t * p)
    if variance == 0:
        return Crossed(Interval(mean, mean, mean), 0.0, 0.0, float(p - 1))
    spread = of_prompts**2 / (p - 1)
    if more:
        spread += of_networks**2 / (t - 1) + of_rest**2 / ((t - 1) * (p - 1))
    freedom = (more + of_prompts) ** 2 / spread
    reach = float(stdtrit(freedom, (1 + level) / 2)) * variance**0.5
    by_networks, by_prompts = (float((part / (t * p)) ** 0.5) for part in (more, of_prompts))
    return Crossed(Interval(mean, mean - reach, mean + reach), by_networks, by_prompts, float(freedom))
