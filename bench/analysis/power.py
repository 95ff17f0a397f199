"""How many prompts and seeds a delta needs, from the variance that a run has seen. Imports no torch.

A paired delta varies between prompts and, within a prompt, between seeds: d_ij = delta + prompt_i + seed_ij. More
seeds a prompt lower only the second part, so from some number of seeds on only more prompts help. With k prompts of s
seeds each the mean delta has the variance (between + within / s) / k.

Sources: Searle, Casella & McCulloch (1992), Variance Components, ch. 3.6 (the ANOVA estimators for unequal numbers);
Miller (2024), Adding error bars to evals, arXiv:2411.00640, sec. 5 (sample size with resampled questions). What a
number of prompts finds is `bench.stats.sensitivity`'s, by the intervals of a report.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench import registry, stats
from bench.analysis.paired import delta_range
from bench.analysis.pairing import Rows, Source, in_common, joined, setting_of
from bench.analysis.power_words import lines as lines
from bench.errors import NotComparable, UserError, nearest
from bench.stats.intervals import UNBOUNDED, Bounds
from bench.stats.sensitivity import clusters_for

Floats = NDArray[np.float64]
_RESAMPLES = 2000
_HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Goal:
    """What is to be found, and how surely."""

    delta: float
    """The true mean delta, in the metric's unit."""
    power: float = 0.8
    alpha: float = 0.05
    """Of the two-sided test, shared by all `comparisons`."""
    comparisons: int = 1
    seeds: tuple[int, ...] = (1, 2, 4, 8)
    """Seeds a prompt that are asked about."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.delta) or self.delta == 0:
            raise UserError(f"--delta {self.delta:g}: expected a number other than zero, in the metric's unit")
        for name in ("power", "alpha"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name):g}: expected a number between 0 and 1")
        if self.power <= self.alpha:
            raise UserError(f"--power {self.power:g}: expected more than --alpha ({self.alpha:g}), which chance finds")

    @property
    def level(self) -> float:
        """What one test may use of alpha: Bonferroni's share, the first step of Holm's correction."""
        return self.alpha / self.comparisons


@dataclass(frozen=True)
class Components:
    """Variance of paired deltas, in their unit squared."""

    between: float
    """Of a prompt's own mean delta, from prompt to prompt; never below zero."""
    within: float
    """From seed to seed of one prompt."""
    split: bool
    """False where no prompt has two seeds: `between` is then the sum of both, good for one seed a prompt only."""

    def at(self, seeds: int) -> float:
        """Variance of the mean delta of one prompt's `seeds`."""
        if seeds > 1 and not self.split:
            raise ValueError(f"seeds is {seeds}; the split of the variance is not known, so only 1 can be answered")
        return self.between + self.within / seeds


def components(deltas: ArrayLike, clusters: Iterable[Hashable]) -> Components:
    """Variance components of deltas (n,) by prompt (n,): the ANOVA estimators of a one-way random model.

    Prompts may have different numbers of seeds. Raises ValueError for fewer than two prompts.
    """
    values = np.asarray(deltas, dtype=np.float64)
    _, codes = np.unique(np.asarray(list(clusters)), return_inverse=True)
    counts = np.bincount(codes).astype(np.float64)
    if len(counts) < 2:
        raise ValueError("clusters has one label; at least two are needed to know their spread")
    sums, squares = (np.bincount(codes, weights=values**i).astype(np.float64) for i in (1, 2))
    between, within = _anova(counts[None], sums[None], squares[None])
    return Components(float(between[0]), float(within[0]), bool((counts > 1).any()))


def _anova(counts: Floats, sums: Floats, squares: Floats, *, resampled: bool = False) -> tuple[Floats, Floats]:
    """(between, within), (r,) each, of r samples of k prompts: counts, sums and sums of squares (r, k).

    Within is zero where no prompt has two seeds. `resampled` prompts repeat, which takes 1 / k off their spread; it is
    given back.
    """
    n, k = counts.sum(axis=1), counts.shape[1]
    inside = squares.sum(axis=1) - (sums**2 / counts).sum(axis=1)
    within = np.divide(inside, n - k, out=np.zeros_like(n), where=n > k)
    outside = (sums**2 / counts).sum(axis=1) - sums.sum(axis=1) ** 2 / n
    typical = (n - (counts**2).sum(axis=1) / n) / (k - 1)
    between = (outside / (k - 1) * (k / (k - 1) if resampled else 1.0) - within) / typical
    return np.maximum(between, 0.0), np.maximum(within, 0.0)


def prompts_needed(variance: float, goal: Goal, bounds: Bounds | None = None) -> int:
    """How many prompts find `goal.delta` when one prompt's mean delta has this variance and range.

    The fewest whose interval excludes zero with this power; without a range that is the sample size of a two-sided
    one-sample t test. Never fewer than can reach the level at all, for k prompts have 2**k sign patterns and so no
    p-value below 2 / 2**k. UserError for a delta beyond the range.
    """
    if bounds is not None and abs(goal.delta) > max(map(abs, bounds)):
        raise UserError(
            f"--delta {goal.delta:g}: expected one within the range of deltas, {bounds[0]:g} to {bounds[1]:g}"
        )
    needed = clusters_for(variance, goal.delta, bounds, alpha=goal.level, power=goal.power)
    return max(needed, math.ceil(1 + math.log2(1 / goal.level)))


def prompts_bounds(
    deltas: ArrayLike, clusters: Iterable[Hashable], goal: Goal, limits: Bounds | None = None
) -> dict[int, tuple[int, int]]:
    """By seeds a prompt, the 95 % interval of `prompts_needed`: a run knows its variance from its prompts only.

    `limits` is the range of the deltas (n,).

    Bootstrap over whole prompts of the variance components, with the draws of a fixed seed.
    """
    values = np.asarray(deltas, dtype=np.float64)
    _, codes = np.unique(np.asarray(list(clusters)), return_inverse=True)
    totals = [np.bincount(codes, weights=values**i).astype(np.float64) for i in range(3)]
    k = len(totals[0])
    rng = np.random.default_rng(0)
    found = []
    step = max(1, 2**21 // k)
    for start in range(0, _RESAMPLES, step):
        picked = rng.integers(0, k, size=(min(step, _RESAMPLES - start), k))
        counts, sums, squares = (total[picked] for total in totals)
        found.append(np.stack(_anova(counts, sums, squares, resampled=True)))
    between, within = np.concatenate(found, axis=1)
    bounds = {}
    for seeds in goal.seeds:
        low, high = np.quantile(between + within / seeds, (0.025, 0.975))
        bounds[seeds] = prompts_needed(float(low), goal, limits), prompts_needed(float(high), goal, limits)
    return bounds


# A run's answer ------------------------------------------------------------------------------------------------------


def power(folder: Path, goal: Goal, *, methods: Sequence[str] = (), metrics: Sequence[str] = ()) -> dict[str, Any]:
    """What a run says of `goal`: for each setting, method and metric, the prompts needed by seeds a prompt.

    `methods` and `metrics` choose; without metrics it is the run's first. Raises UserError for names that the run does
    not have, NotComparable where it has no pair of a method with its baseline on at least two prompts.
    """
    with Source(folder) as run:
        sets = [n for n in run.metrics if n in registry.names("metrics") and registry.get("metrics", n).kind == "set"]
        wanted = list(metrics) or [name for name in run.metrics if name not in sets][:1]
        for name in [name for name in wanted if name in sets] or ([] if wanted else sets[:1]):
            raise UserError(
                f"--metric {name}: it judges all images together, so there is no delta of a pair whose variance could "
                "tell how many are needed; give a metric of images or pairs"
            )
        labels = [spec.label for spec in run.suite.methods if spec.label != run.suite.baseline]
        for option, names, known in (("method", methods, labels), ("metric", wanted, run.metrics)):
            for name in names:
                if name not in known:
                    raise UserError(f"--{option} {name}: not in {folder}{nearest(name, known)}")
        rows = list(_rows(run, goal, [name for name in labels if not methods or name in methods], wanted))
        if not rows:
            raise NotComparable(
                f"{folder}: no method has scores beside its baseline's on at least two prompts; finish the run first"
            )
        return {
            "folder": folder.as_posix(),
            "goal": goal,
            "finished": run.finished,
            "baseline": run.suite.baseline,
            "metrics": wanted,
            "others": [name for name in run.metrics if name not in wanted],
            "units": {name: registry.get("metrics", name).unit for name in wanted},
            "rows": rows,
        }


def _rows(run: Source, goal: Goal, methods: Sequence[str], metrics: Sequence[str]) -> Iterator[dict[str, Any]]:
    scorers = {name: scorer for name in metrics if (scorer := run.scorer(name)) is not None}
    for setting in dict.fromkeys(map(setting_of, run.arms)):
        arms = [arm for arm in run.arms if setting_of(arm) == setting]
        base = {arm.prompts: run.rows(arm, scorers) for arm in arms if arm.method == run.suite.baseline}
        for method in methods:
            mine = [arm for arm in arms if arm.method == method and arm.prompts in base]
            pairs = [_paired(run.rows(arm, scorers), base[arm.prompts]) for arm in mine]
            if not pairs:
                continue
            treated, control = (joined([pair[side] for pair in pairs]) for side in (0, 1))
            near = run.siblings(mine[0], [registry.get("metrics", name) for name in scorers])
            for metric in scorers:
                sides = treated.scores[metric], control.scores[metric]
                deltas = sides[0] - sides[1]
                there = ~np.isnan(deltas)
                if len({*treated.texts[there].tolist()}) < 2:
                    continue
                row = dict(zip(("model", "sampler", "steps", "guidance"), setting, strict=True))
                row |= {"method": method, "metric": metric, "marked": metric in run.marked(mine[0]),
                        "sibling": metric in near}  # fmt: skip
                ms = [rows.total_ms[rows.made].mean() for rows in (treated, control)]
                entry = registry.get("metrics", metric)
                limits = delta_range(entry.kind, entry.range, *(side[there] for side in sides))
                yield row | _answer(deltas[there], treated.texts[there], goal, limits, ms_a_pair=float(sum(ms)))


def _paired(treated: Rows, control: Rows) -> tuple[Rows, Rows]:
    left, right, _ = in_common(treated, control)
    return treated.take(left), control.take(right)


def _answer(deltas: Floats, texts: Any, goal: Goal, limits: Bounds | None, *, ms_a_pair: float) -> dict[str, Any]:
    _, codes = np.unique(texts, return_inverse=True)
    found = components(deltas, codes)
    bounds = prompts_bounds(deltas, codes, goal, limits)
    plans = []
    for seeds in goal.seeds if found.split else (1,):
        prompts = prompts_needed(found.at(seeds), goal, limits)
        low, high = bounds.get(seeds, (prompts, prompts))
        plans.append({"seeds": seeds, "prompts": prompts, "low": low, "high": high, "pairs": prompts * seeds,
                      "hours": prompts * seeds * ms_a_pair / _HOUR_MS})  # fmt: skip
    return {
        "n": len(deltas),
        "n_prompts": int(codes.max()) + 1,
        "components": found,
        "plans": plans,
        "detectable": stats.smallest_detectable(deltas, codes, limits or UNBOUNDED, alpha=goal.level, power=goal.power),
        "ms_a_pair": ms_a_pair,
    }
