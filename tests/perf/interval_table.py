"""How often the intervals of `bench.stats.intervals` miss the truth, by kind of delta, prompts and seeds; one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special, stats

from bench.stats.intervals import FEW, reaches

Rng = np.random.Generator
PROMPTS = (5, 10, 20, 50, 100, 400)
SEEDS = (1, 4)
SLACK = 1e-12


@dataclass(frozen=True)
class Kind:
    """How deltas scatter: `draw(rng, shape)`, with their true mean and, where they have one, their range."""

    name: str
    draw: Callable[[Rng, tuple[int, ...]], np.ndarray]
    mean: float
    ranged: bool
    bars: tuple[float, float] | None
    """Shares that may be missed in all, with fewer than 20 prompts and from 20 on."""

    def prompts(self, rng: Rng, k: int, seeds: int, runs: int) -> np.ndarray:
        """Mean deltas of k prompts (k, runs), half of whose variance all seeds of a prompt share."""
        if seeds == 1:
            return self.draw(rng, (k, runs))
        shared, own = self.draw(rng, (1, k, runs)), self.draw(rng, (seeds, k, runs))
        if self.ranged:  # a seed has its prompt's outcome half of the time, so that values stay what they are
            return np.where(rng.random(own.shape) < math.sqrt(0.5), shared, own).mean(axis=0)
        return self.mean + (shared[0] - self.mean + (own - self.mean).mean(axis=0)) * math.sqrt(0.5)


def _steps(*given: tuple[float, float]) -> tuple[Callable[[Rng, tuple[int, ...]], np.ndarray], float]:
    """A draw of (value, chance) pairs, and its mean; what is left is no change."""
    values, chances = np.array([value for value, _ in given] + [0.0]), np.cumsum([chance for _, chance in given])
    mean = float(sum(value * chance for value, chance in given))
    return lambda rng, shape: values[np.searchsorted(chances, rng.random(shape), side="right")], mean


LIMITS = (0.07, 0.06)
KINDS = (
    *(
        Kind(name, *_steps(*given), True, LIMITS)
        for name, given in (
            ("0/1, 3 % lost", [(-1, 0.03)]),
            ("0/1, 5 % lost, 1 % won", [(-1, 0.05), (1, 0.01)]),
            ("0/1, 10 % lost", [(-1, 0.1)]),
            ("0/1, 20 % lost, 10 % won", [(-1, 0.2), (1, 0.1)]),
            ("0/1, 40 % lost, 40 % won", [(-1, 0.4), (1, 0.4)]),
            ("ordinal, thirds", [(-2 / 3, 0.05), (-1 / 3, 0.2), (1 / 3, 0.15), (2 / 3, 0.05)]),
            ("ordinal, rare halves", [(-0.5, 0.04), (0.5, 0.01)]),
        )
    ),
    Kind("normal", lambda rng, shape: rng.normal(size=shape), 0.0, False, LIMITS),
    Kind("t(3)", lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3), 0.0, False, LIMITS),
    Kind("exponential losses", lambda rng, shape: -rng.exponential(size=shape), -1.0, False, (0.10, 0.07)),
    Kind("lognormal losses", lambda rng, shape: -rng.lognormal(size=shape), -math.exp(0.5), False, None),
)


@dataclass(frozen=True)
class Cell:
    """What was seen of one kind, number of prompts and seeds; rates are shares of the runs."""

    kind: Kind
    prompts: int
    seeds: int
    below: float
    """Intervals wholly below the truth."""
    above: float
    shown: float | None
    """`require: shown` passes a true loss at its threshold; None: the answer is "too few prompts"."""
    power: float
    """A rule fires where the truth is below its threshold by what a t-test finds in 80 %."""
    width: float
    """Mean, in the deltas' unit."""

    @property
    def ok(self) -> bool:
        """Whether it keeps to its bars: misses, and `shown` in at most 3.5 %."""
        if self.kind.bars is None:
            return True
        most = self.kind.bars[self.prompts >= 20]
        return self.below + self.above <= most and (self.shown is None or self.shown <= 0.035)


def cell(kind: Kind, prompts: int, seeds: int, *, runs: int, seed: int = 0) -> Cell:
    """Simulate one cell; the same for the same seed."""
    rng = np.random.default_rng([seed, KINDS.index(kind), prompts, seeds])
    limits = (-1.0, 1.0) if kind.ranged else (-math.inf, math.inf)
    lows, highs, spread = [], [], []
    part = max(1, min(runs, 2**21 // (prompts * seeds)))
    for start in range(0, runs, part):
        values = kind.prompts(rng, prompts, seeds, min(part, runs - start))
        means, ends = values.mean(axis=0), [np.full(values.shape[1], end) for end in limits]
        below, above = reaches(values, *ends)
        lows.append(np.maximum(means - below, limits[0]))
        highs.append(np.minimum(means + above, limits[1]))
        spread.append(values.var())
    low, high = np.concatenate(lows), np.concatenate(highs)
    lost = _found(prompts) * math.sqrt(float(np.mean(spread)) / prompts)
    few = not kind.ranged and prompts < FEW
    return Cell(
        kind,
        prompts,
        seeds,
        below=float((high < kind.mean - SLACK).mean()),
        above=float((low > kind.mean + SLACK).mean()),
        shown=None if few else float((low >= kind.mean - SLACK).mean()),
        power=float((high < kind.mean + lost).mean()),
        width=float((high - low).mean()),
    )


@cache
def _found(prompts: int) -> float:
    """The true delta, in standard errors, that a two-sided 5 % t-test of so many prompts finds in 80 %."""
    freedom = prompts - 1
    critical, low, high = special.stdtrit(freedom, 0.975), 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if stats.nct.sf(critical, freedom, middle) < 0.8 else (low, middle)
    return low


def table(*, runs: int, seed: int = 0) -> Iterator[str]:
    """All cells as lines of Markdown."""
    yield "| deltas | prompts | seeds | wholly below | wholly above | shown in error | power | width |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for kind in KINDS:
        for seeds in SEEDS:
            for prompts in PROMPTS:
                found = cell(kind, prompts, seeds, runs=runs, seed=seed)
                shown = "too few prompts" if found.shown is None else f"{100 * found.shown:.1f} %"
                sides = " | ".join(f"{100 * side:.1f} %" for side in (found.below, found.above))
                last = f"{100 * found.power:.0f} % | {found.width:.3g}{'' if found.ok else ' (not as stated)'}"
                yield f"| {kind.name} | {prompts} | {seeds} | {sides} | {shown} | {last} |"
