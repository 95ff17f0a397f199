"""A run against a frozen baseline, paired with it sample by sample.

Two questions for every method and metric: have its scores changed, and has its effect, the delta to the baseline arm,
changed? The first sees a change of the model or of the whole harness, the second one of the method itself. A metric of
pairs has the second question only, for its scores are against the baseline arm. A metric of sets has no scores to pair:
its values and deltas are compared with their frozen intervals as if the two runs were independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from bench.analysis.arms import POOLED, Floats
from bench.gate.beside import Beside
from bench.gate.common import MEANT, Common, changed, in_common
from bench.gate.comparisons import Comparison, Comparisons, apart, too_few
from bench.gate.frozen import rounded
from bench.gate.samples import Samples
from bench.gate.tolerances import Tolerance, Tolerances, check_read, joined
from bench.gate.verdicts import Judgement, Limits, Subject, Verdict, finite, interval, span, turned
from bench.identity import without_code
from bench.metrics import direction
from bench.records import ComparisonRow, Mean, Results
from bench.records.baseline import Frozen, FrozenArm, FrozenComparison
from bench.stats.intervals import Bounds, Interval, looks_bounded

NOISE = 2e-5
"""Of the largest score: what six significant digits of four scores leave of a difference of differences."""
Pending = Callable[[], Verdict]
Quantity = Literal["change", "effect_change"]


@dataclass(frozen=True)
class Terms:
    """What a run must keep to."""

    tolerance: Tolerances
    two_sided: bool = False
    require: Literal["plausible", "shown"] = "plausible"

    def limits(self, metric: str, frozen_mean: float) -> Limits:
        """The limits on a change of a metric that is turned so that more is better."""
        found = self.tolerance.get(metric) or self.tolerance.get("") or Tolerance(0.0)
        allowed = found.allowed(frozen_mean)
        # Adding zero keeps -0.0 out of sentences.
        return Limits(0.0 - allowed, allowed if self.two_sided else None, self.require)


def against_baseline(
    results: Results,
    frozen: Frozen,
    samples: Samples,
    *,
    tolerance: float | Mapping[str, float | Tolerance] | None = None,
    two_sided: bool = False,
    require: Literal["plausible", "shown"] = "plausible",
) -> Judgement:
    """Every unmarked arm and metric, and every method's effect, new minus frozen, on the prompts and seeds of both.

    Fails where the interval of the mean change lies wholly below -`tolerance` (a number, or by metric with "" for all
    others; a command's own stand before the baseline's); `two_sided` also where it lies wholly above;
    `require="shown"` where any of it does. What else has changed is inconclusive unless the whole interval is within
    the limits. Intervals are Bonferroni's for all comparisons together. Other weights or another version of a scorer
    make its metric not comparable; other code of it is compared. Raises NotComparable for another suite or baseline
    method, for other settings of what both have, and where they have no pair in common.
    """
    common = in_common(results, frozen, samples)
    given = {} if tolerance is None else {"": tolerance} if isinstance(tolerance, float | int) else dict(tolerance)
    terms = Terms(joined(frozen, given), two_sided, require)
    pairing = _Pairing(results, frozen, samples, terms, common)
    verdicts = pairing.verdicts()
    check_read(given, (v.metric or "" for v in verdicts))
    return Judgement(verdicts, [*common.notes, *changed(results, frozen, samples, common), *pairing.notes])


class _Value(NamedTuple):
    """A set's value, or its delta, as a baseline or a run has it."""

    found: Interval | None
    n: int
    n_prompts: int | None = None
    refused: str | None = None


def _value(of: Mean | None) -> _Value | None:
    return None if of is None else _Value(interval(of.mean, of.low, of.high), of.n, refused=of.refused)


def _delta(of: ComparisonRow | FrozenComparison | None) -> _Value | None:
    return None if of is None else _Value(interval(of.delta, of.low, of.high), of.n, of.n_prompts)


def _rounded(found: Interval) -> Interval:
    return Interval(*(float(one) for one in rounded([found.estimate, found.low, found.high])))


class _Pairing:
    """The looks at one run beside one baseline."""

    def __init__(self, results: Results, frozen: Frozen, samples: Samples, terms: Terms, common: Common) -> None:
        self.frozen, self.samples, self.terms, self.common = frozen, samples, terms, common
        self.results, self.beside = results, Beside(frozen, samples, common)
        self.comparisons = Comparisons()
        self.notes: list[str] = []
        self.marks = {(row.setting, row.method): row.optimises for row in results.arms if row.prompts == POOLED}

    def verdicts(self) -> list[Verdict]:
        """One verdict a changed scorer, and one or two an arm and metric."""
        pending: list[Pending] = []
        marked: dict[str, None] = {}
        for metric, stored in self.frozen.metrics.items():
            now = self.results.metrics.get(metric)
            if now is None and metric not in self.samples.suite.metrics:
                self.notes.append(f"not compared, because the suite no longer has the metric: {metric}")
                continue
            digest = now and now.digest
            if without_code(str(digest)) != without_code(stored.digest):
                said = f"{metric}: its scorer is {digest}, when frozen it was {stored.digest}; {MEANT}"
                pending.append(self._cannot(Subject("every method", metric=metric), None, "change", said))
                continue
            if digest != stored.digest:
                self.notes.append(f"the code of the scorer of {metric} has changed: what it gives now is compared")
            for arm in self.common.arms:
                if metric in (*arm.optimises, *self.marks.get((arm.setting, arm.method), ())):
                    marked[f"{arm.method} on {metric}"] = None
                elif stored.kind == "set":
                    pending += self._set(arm, metric)
                else:
                    pending += self._arm(arm, metric)
        self.comparisons.run()
        if marked:
            self.notes.append(f"not gated, because the method optimises the metric: {', '.join(marked)}")
        return [verdict() for verdict in pending]

    def _arm(self, arm: FrozenArm, metric: str) -> Iterator[Pending]:
        then = self.beside.then(arm, metric)
        if then is None:
            return
        of, base = self.beside.subject(arm, metric), self.beside.base(arm)
        pair = self.frozen.metrics[metric].kind == "pair"
        quantities: list[Quantity] = [] if pair else ["change"]
        quantities += [] if base is arm else ["effect_change"]
        now = self.beside.now(arm, metric)
        for quantity in quantities:
            if now is None:
                yield self._cannot(of, arm, quantity, f"{of.where()}: not measured now")
            elif missing := int((~np.isnan(then) & np.isnan(now)).sum()):
                n = int((~np.isnan(then)).sum())
                said = f"{of.where()}: incomplete, {missing} of {n} scores are missing now"
                yield self._cannot(of, arm, quantity, said)
            elif quantity == "effect_change" and base is None:
                yield self._no_base(of, arm)
            elif base is None or quantity == "change" or pair:
                same = bool(np.array_equal(now, then, equal_nan=True))
                yield self._comparison(of, arm, quantity, now - then, same=same)
            else:
                yield self._effect(of, arm, base, now - then)

    def _no_base(self, of: Subject, arm: FrozenArm) -> Pending:
        said = f"{of.where()}: {self.frozen.suite.baseline} is not as it was in both, so no delta to it is compared"
        return self._cannot(of, arm, "effect_change", said)

    def _effect(self, of: Subject, arm: FrozenArm, base: FrozenArm, change: Floats) -> Pending:
        """Difference of differences: how much more the method has changed than the baseline arm."""
        metric = str(of.metric)
        then, now = self.beside.then(base, metric), self.beside.now(base, metric)
        if then is None or now is None or bool(np.isnan(now[~np.isnan(change)]).any()):
            said = f"{of.where()}: {self.frozen.suite.baseline} has no such scores"
            return self._cannot(of, arm, "effect_change", said)
        difference = change - (now - then)
        # What is left below the digits that are kept is no change.
        difference[np.abs(difference) <= NOISE * np.nanmax(np.abs(now))] = 0.0
        return self._comparison(of, arm, "effect_change", difference, same=not np.nan_to_num(difference).any())

    def _set(self, arm: FrozenArm, metric: str) -> Iterator[Pending]:
        """The set's value, and its delta to the baseline arm, beside the frozen ones."""
        of = self.beside.subject(arm, metric)
        place = arm.setting, arm.method, POOLED
        own = next((row for row in self.results.arms if (row.setting, row.method, row.prompts) == place), None)
        now = own.metrics.get(metric) if own else None
        yield from self._apart(of, arm, "change", _value(arm.metrics.get(metric)), _value(now))
        if self.beside.base(arm) is None:
            yield self._no_base(of, arm)
            return
        key = *place, metric
        rows = [row for row in self.results.comparisons if (row.setting, row.method, row.prompts, row.metric) == key]
        stored = [row for row in self.frozen.comparisons if (row.setting, row.method, row.prompts, row.metric) == key]
        deltas = _delta(stored[0] if stored else None), _delta(rows[0] if rows else None)
        yield from self._apart(of, arm, "effect_change", *deltas)

    def _apart(
        self, of: Subject, arm: FrozenArm, quantity: Quantity, then: _Value | None, now: _Value | None
    ) -> Iterator[Pending]:
        """The comparison of two numbers with intervals; none where nothing was frozen."""
        if then is None or then.found is None:
            return
        if now is None or now.found is None or now.n != then.n or not self.common.whole:
            why = "" if now is None else now.refused or f"{now.n} images, frozen of {then.n}"
            said = f"{of.where()}: not measured now on as many images{f' ({why})' if why else ''}"
            yield self._cannot(of, arm, quantity, said)
            return
        found, frozen = _rounded(now.found), then.found
        if not self.frozen.metrics[str(of.metric)].higher_is_better:
            found, frozen = turned(found), turned(frozen)
        same = found == frozen
        change = Interval(0.0, 0.0, 0.0) if same else apart(found, frozen)
        comparison = Comparison(None, change) if same else self.comparisons.known(change, now.n_prompts)
        yield self._decided(replace(of, n=now.n, n_prompts=now.n_prompts), arm, quantity, comparison, same=same)

    def _comparison(self, of: Subject, arm: FrozenArm, quantity: Quantity, change: Floats, *, same: bool) -> Pending:
        metric = str(of.metric)
        there = ~np.isnan(change)
        prompts = self.samples.prompts(self.common.now[there])
        gains = direction.gain(change[there], self.frozen.metrics[metric])
        # The same scores leave nothing to chance, so they are no comparison.
        comparison = Comparison(None, Interval(0.0, 0.0, 0.0))
        if not same:
            comparison = self.comparisons.mean(gains, prompts, self._range(metric, gains))
        counted = replace(of, n=int(there.sum()), n_prompts=len(set(prompts.tolist())))
        return self._decided(counted, arm, quantity, comparison, same=same)

    def _range(self, metric: str, changes: Floats) -> Bounds | None:
        """The range of changes (n,) of a metric's scores; those of an effect may go twice as far, and rarely do."""
        now = self.results.metrics.get(metric)
        scores = now.bounds if now else None
        width = scores[1] - scores[0] if scores else 1.0
        if scores is None and not looks_bounded(changes):
            return None
        width *= 1 if np.abs(changes).max() <= width else 2
        return -width, width

    def _decided(
        self, of: Subject, arm: FrozenArm, quantity: Quantity, comparison: Comparison, *, same: bool
    ) -> Pending:
        """The verdict on a comparison, once it is answered; `of` has its counts."""
        limits, metric = self._limits(str(of.metric), arm), self.frozen.metrics[str(of.metric)]
        flipped = "" if metric.higher_is_better else " (sign turned: lower is better)"
        what = f"{of.where()}: {self._said(quantity)}"

        def verdict() -> Verdict:
            found = comparison.answer
            if found is None:
                return self._cannot(of, arm, quantity, f"{what}: one prompt says nothing of others")()
            outcome, why = ("passed", "") if same else limits.decide(found)
            if outcome == "inconclusive":
                why = "neither shown to be harmless nor shown to be harmful"
            if comparison.few and outcome == "passed" and not same:
                if limits.require == "shown":
                    return self._cannot(of, arm, quantity, f"{what}: {too_few(comparison)}")()
                outcome, why = "inconclusive", too_few(comparison)
            if same:
                scores = quantity == "change" and metric.kind == "image"
                sentence = f"{what} exactly 0" + (f", the same {of.n} scores" if scores else "")
            else:
                value = f"{span(found)}{self.comparisons.said}{flipped}"
                counted = f"{of.n} images, the two intervals taken as independent"
                if metric.kind != "set":
                    counted = f"{of.n} pairs on {of.n_prompts} prompts"
                sentence = f"{what} {value}, {why}; n = {counted}"
            sentence += _images_said(of)
            resolves = None if same else finite(found.estimate - found.low)
            if outcome == "inconclusive":
                least = "no loss at all" if resolves is None else f"a loss of {resolves:.3g} at the least"
                sentence += f"; this n could have ruled out {least}"
            return self._verdict(of, arm, quantity, outcome=outcome, sentence=sentence, resolves=resolves,
                                 estimate=found.estimate, low=finite(found.low), high=finite(found.high),
                                 level=self.comparisons.level)  # fmt: skip

        return verdict

    def _said(self, quantity: Quantity) -> str:
        return "new - frozen" if quantity == "change" else f"its delta to {self.frozen.suite.baseline}, new - frozen"

    def _cannot(self, of: Subject, arm: FrozenArm | None, quantity: Quantity, sentence: str) -> Pending:
        return lambda: self._verdict(of, arm, quantity, outcome="not comparable", sentence=sentence)

    def _verdict(self, of: Subject, arm: FrozenArm | None, quantity: Quantity, **fields: Any) -> Verdict:
        limits = self._limits(str(of.metric), arm)
        effect = f" over {self.frozen.suite.baseline}" if quantity == "effect_change" else ""
        ways = [
            word for word, on in (("two-sided", limits.most is not None), ("shown", limits.require == "shown")) if on
        ]
        how = f" ({', '.join(ways)})" if ways else ""
        rule = f"{of.metric}{effect}: new - frozen >= {limits.least:g}{how}"
        return Verdict(check="baseline", rule=rule, quantity=quantity, **of.fields(), **fields)

    def _limits(self, metric: str, arm: FrozenArm | None) -> Limits:
        """The limits on a change of an arm, whose frozen mean a relative tolerance is of."""
        column = self.beside.then(arm, metric) if arm else None
        stored = arm.metrics.get(metric) if arm else None
        mean = stored.mean if stored else None
        return self.terms.limits(metric, float(np.nanmean(column)) if column is not None else float(mean or 0.0))


def _images_said(of: Subject) -> str:
    return f"; {of.images_changed} of {of.images} images changed" if of.images else ""
