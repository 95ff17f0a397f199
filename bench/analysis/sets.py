"""Set metrics: one value for many images, its interval, and its paired comparison with the baseline's.

A Fréchet distance says how far each image pulls it (`influence`): to first order the value is a mean over images, and
its interval and that of a difference are bootstraps of such means over whole prompts, with the draws of all other
intervals. Drawing the sets themselves would take an eigenvalue problem a draw, and be too wide by up to a half where
images are few for so many features. Of other metrics each draw's value is computed, its counts as the weights of the
images. Those values are biased, the more so the fewer different images there are, and a draw has fewer than the set; so
the draws' spread is laid around the value itself. Either way the interval is of the value at this number of images, and
values at different numbers do not compare.

The test exchanges the two arms' images prompt by prompt, at random: without an effect every exchange is as likely. By
influences, those are taken in both arms together, which no exchange changes: the test is as exact, and what the first
order leaves out of a difference is of third order.
A metric of the images of one prompt (`by_prompt`), such as diversity over seeds, is given the prompt of each image.

What a number that has a name (`identity`) is for some features is kept in the cache, so that a report, a gate or a
comparison of the same scores computes nothing again.

Sources: Davison & Hinkley (1997), Bootstrap Methods and their Application, ch. 2 (bias, influence values) and 4.3
(exchanges in pairs); Efron (1982), The Jackknife, ch. 6 (infinitesimal jackknife); El Karoui & Purdom (2018), Can We
Trust the Bootstrap in High-dimension? JMLR 19; Chong & Forsyth (2020), Effectively Unbiased FID, CVPR (the bias at n
images).
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from bench import stats
from bench.analysis.failed import at_fault
from bench.analysis.judged import Floats, Ints
from bench.metrics.base import MetricEntry
from bench.runner.faults import code_of, contained, of_scorer
from bench.stats.intervals import LEVEL, ROUNDING, Interval
from bench.stats.resampling import Totals, bootstrap, draws, numbered, sign_flips, totals
from bench.stats.sensitivity import detectable
from bench.store import write_atomically
from bench.store.cache import default_folder

Row = dict[str, Any]
T = TypeVar("T")
VERSION = "1"
"""Of what is kept in the cache."""
_NOISE = 1e-9  # of the values: exchanges that differ by less are ties


def refusal(entry: MetricEntry, n: int) -> str | None:
    """Why a set of n images has no value; None where it has one."""
    return None if n >= entry.fewest else f"needs at least {entry.fewest:,} images, there are {n:,}"


class Sets:
    """Values of sets and what can be said of them; an arm that several are compared with is computed once."""

    def __init__(self) -> None:
        self._known: dict[str, Floats] = {}

    def value(self, entry: MetricEntry, features: Floats, texts: Ints) -> Interval | str:
        """The value of features (n, D) of images whose prompts (n,) are numbered, or why they have none.

        A metric whose code fails, or gives no finite number where it could, has no value; the others have theirs.
        """
        if entry.by_prompt and len(np.unique(texts)) == len(texts):
            return "compares the images of one prompt, and no prompt has two"
        return _contained(lambda: self._valued(entry, features, texts))

    def _valued(self, entry: MetricEntry, features: Floats, texts: Ints) -> Interval | str:
        found = self._whole(entry, features, texts)
        if not math.isfinite(found):
            return at_fault(f"its value is not finite ({found}){code_of(entry.value)}")
        if (pulls := self._influence(entry, features)) is not None:
            return _of_means(found, totals(pulls, _codes(texts)))
        return _interval(found, self._draws(entry, features, texts))

    def compare(self, row: Row, entry: MetricEntry, treated: Floats, control: Floats, texts: Ints) -> Row:
        """What `paired.Asking.compare` says, of features (n, D) paired row by row; a set has no win rate.

        The test is made only where `row["complete"]` says that no pair is missing. Where the metric's code fails there
        are no numbers, and `refused` has the reason, which is for the caller to take out: no record of a row has it.
        """
        empty = ("n_prompts", "delta", "low", "high", "p", "p_holm", "win", "tie", "loss")
        row |= dict.fromkeys((*empty, *stats.RATES, "detectable", "sd"))
        if not len(treated):
            return row
        found = _contained(lambda: self._compared(entry, treated, control, texts, complete=row["complete"]))
        row |= {"refused": found} if isinstance(found, str) else found
        return row

    def _compared(self, entry: MetricEntry, treated: Floats, control: Floats, texts: Ints, *, complete: bool) -> Row:
        delta = self._whole(entry, treated, texts) - self._whole(entry, control, texts)
        if not math.isfinite(delta):
            return {}
        pulls = self._influence(entry, treated), self._influence(entry, control)
        if pulls[0] is not None and pulls[1] is not None:
            of_prompts = totals(pulls[0] - pulls[1], _codes(texts))
            found, error = _of_means(delta, of_prompts), stats.standard_error(*of_prompts)
        else:
            spread = self._draws(entry, treated, texts) - self._draws(entry, control, texts)
            found, error = _interval(delta, spread), float(spread.std(ddof=1))
        k = len(np.unique(texts))
        row: Row = {"n_prompts": k, "delta": delta}
        if math.isfinite(found.low):
            row |= {"low": found.low, "high": found.high, "detectable": detectable(error),
                    "sd": error * math.sqrt(k)}  # fmt: skip
        if complete:
            row["p"] = exchange_p(entry, treated, control, texts)
        return row

    def _whole(self, entry: MetricEntry, features: Floats, texts: Ints) -> float:
        """The value of the images as they are."""
        every = np.ones(len(features))
        of = (features, texts) if entry.by_prompt else (features,)
        return float(self._once("value", entry, lambda: np.array([_value(entry, features, every, texts)]), *of)[0])

    def _influence(self, entry: MetricEntry, features: Floats) -> Floats | None:
        """How far each image pulls the value, (n,), with mean 0; None where the metric does not say."""
        pull = _pull(entry)
        return None if pull is None else self._once("influence", entry, lambda: pull(features), features)

    def _draws(self, entry: MetricEntry, features: Floats, texts: Ints) -> Floats:
        """The value of every bootstrap draw over prompts, (resamples,); NaN for a single prompt."""
        labels, codes = np.unique(texts, return_inverse=True)
        if len(labels) < 2:
            return np.full(entry.resamples, np.nan)

        def drawn() -> Floats:
            some = (times for part in draws(len(labels), resamples=entry.resamples) for times in part)
            return np.array([_value(entry, features, times[codes], codes) for times in some])

        return self._once(f"draws-{entry.resamples}", entry, drawn, features, codes)

    def _once(self, what: str, entry: MetricEntry, compute: Callable[[], Floats], *of: Any) -> Floats:
        key = _key(what, entry, *of)
        if key not in self._known:
            self._known[key] = _kept(key, entry, compute)
        return self._known[key]


# What was computed before ---------------------------------------------------------------------------------------------


def _key(what: str, entry: MetricEntry, *of: Any) -> str:
    h = hashlib.sha256(f"{VERSION}:{what}:{_identity(entry) or entry.name}".encode())
    for array in of:
        h.update(f"{array.shape}{array.dtype}".encode() + np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


def _kept(key: str, entry: MetricEntry, compute: Callable[[], Floats]) -> Floats:
    """An array from the cache, or computed and kept there; a metric whose value has no identity is not kept."""
    if _identity(entry) is None:
        return compute()
    path = default_folder() / "sets" / key[:2] / f"{key}.npy"
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError, EOFError):  # not there, or cut short
        found = compute()
    kept = io.BytesIO()
    np.save(kept, found)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, kept.getvalue())
    except OSError:  # a cache that cannot be written costs time, not the report
        pass
    return found


def _identity(entry: MetricEntry) -> str | None:
    """What decides the number beside the features: the value's own name of itself."""
    return getattr(entry.value, "identity", None)


def _pull(entry: MetricEntry) -> Callable[[Floats], Floats] | None:
    return getattr(entry.value, "influence", None)


def exchange_p(entry: MetricEntry, treated: Floats, control: Floats, texts: Ints, *, seed: int = 0) -> float:
    """Two-sided p-value that arms of features (n, D) each do not differ, by exchanging them prompt by prompt.

    By influences as `resampling.sign_flips`. Of other metrics exact, over all 2**k patterns, where those are no more
    than the entry's resamples; else (hits + 1) / (n + 1).
    """

    def test() -> Floats:
        if pull := _pull(entry):
            return sign_flips(_exchanged(pull, treated, control, _codes(texts))[:, None], seed=seed)
        return np.array([_p(entry, treated, control, _codes(texts), seed)])

    key = _key(f"p-{entry.resamples}-{seed}", entry, treated, control, _codes(texts))
    return float(_kept(key, entry, test)[0])


def _exchanged(pull: Callable[[Floats], Floats], treated: Floats, control: Floats, codes: Ints) -> Floats:
    """How far each prompt's images pull the value of both arms together apart, (k,)."""
    pulls = pull(np.concatenate([treated, control]))
    ours, theirs = np.split(pulls, 2)
    apart = ours - theirs
    apart[np.abs(apart) <= _NOISE * np.abs(pulls).max()] = 0  # the same image at another place of a matrix
    return totals(apart, codes).sums


def _p(entry: MetricEntry, treated: Floats, control: Floats, codes: Ints, seed: int) -> float:
    labels = np.unique(codes)
    both, whose = np.concatenate([treated, control]), np.concatenate([codes, codes])

    def difference(exchanged: Floats) -> tuple[float, float]:
        weights = np.concatenate([1 - exchanged[codes], exchanged[codes]])
        values = _value(entry, both, weights, whose), _value(entry, both, 1 - weights, whose)
        return abs(values[0] - values[1]), _NOISE * max(map(abs, values))

    observed, noise = difference(np.zeros(len(labels)))
    exact = 2 ** len(labels) <= entry.resamples
    patterns = list(_patterns(len(labels), None if exact else entry.resamples, seed))
    # A value that a pattern does not have counts as a hit: it must not make an effect look surer.
    hits = sum(not difference(pattern)[0] < observed - noise for pattern in patterns)
    return hits / len(patterns) if exact else (hits + 1) / (len(patterns) + 1)


def _patterns(k: int, some: int | None, seed: int) -> Iterator[Floats]:
    """All, or some random, ways to exchange k clusters or not: (k,) of 0 and 1."""
    if some is None:
        yield from ((np.arange(2**k)[:, None] >> np.arange(k)) & 1).astype(np.float64)
    else:
        yield from np.random.default_rng(seed).integers(0, 2, size=(some, k)).astype(np.float64)


def _value(entry: MetricEntry, features: Floats, weights: Floats, texts: Ints) -> float:
    assert entry.value is not None, "checked by MetricEntry"
    return float(entry.value(features, weights, texts) if entry.by_prompt else entry.value(features, weights))


def _contained(compute: Callable[[], T]) -> T | str:
    """What is computed, or why the metric's code did not compute it."""
    try:
        return compute()
    except BaseException as error:
        if not contained(error):
            raise
        return at_fault(of_scorer(error))


def _codes(texts: Ints) -> Ints:
    """Prompts (n,) numbered from 0, none left out."""
    return numbered(texts)


def _of_means(estimate: float, of_prompts: Totals) -> Interval:
    """The interval of a value whose first-order terms have these sums and counts by prompt."""
    found = bootstrap(of_prompts)
    return Interval(estimate, estimate - found.estimate + found.low, estimate - found.estimate + found.high)


def _interval(estimate: float, found: Floats) -> Interval:
    """The draws' percentiles, moved so that their mean is the estimate; unbounded where a draw has no value."""
    if not np.isfinite(found).all():
        return Interval(estimate, -math.inf, math.inf)
    if np.ptp(found) <= ROUNDING * max(float(np.abs(found).max()), abs(estimate)):
        return Interval(estimate, estimate, estimate)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - found.mean()
    return Interval(estimate, estimate + float(low), estimate + float(high))
