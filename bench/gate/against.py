"""A run against a frozen baseline, paired with it sample by sample.

Two questions for every method and metric: have its scores changed, and has its effect, the delta to the baseline arm,
changed? The first sees a change of the model or of the whole harness, the second one of the method itself. A metric of
pairs has the second question only, for its scores are against the baseline arm. A metric of sets has no scores to pair:
its values and deltas are compared with their frozen intervals as if the two runs were independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bench import direction
from bench.arms import POOLED, Floats
from bench.gate.common import MEANT, Common, changed, in_common, row_of
from bench.gate.frozen import Frozen, FrozenArm, images_of, rounded
from bench.gate.looks import Look, Looks, apart, too_few
from bench.gate.samples import Samples
from bench.gate.tolerances import Tolerance, Tolerances, check_read, joined
from bench.gate.verdicts import (
    SETTING,
    Judgement,
    Limits,
    Results,
    Row,
    Verdict,
    finite,
    interval,
    range_of,
    setting_of,
    span,
    turned,
    where,
)
from bench.identity import without_code
from bench.intervals import Bounds, Interval, looks_bounded

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
    the limits. Intervals are Bonferroni's for all looks together. Other weights or another version of a scorer make
    its metric not comparable; other code of it is compared. Raises NotComparable for another suite or baseline method,
    for other settings of what both have, and where they have no pair in common.
    """
    common = in_common(results, frozen, samples)
    given = {} if tolerance is None else {"": tolerance} if isinstance(tolerance, float | int) else dict(tolerance)
    terms = Terms(joined(frozen, given), two_sided, require)
    pairing = _Pairing(results, frozen, samples, terms, common)
    verdicts = pairing.verdicts()
    check_read(given, (v.metric or "" for v in verdicts))
    return Judgement(verdicts, [*common.notes, *changed(results, frozen, samples, common), *pairing.notes])


def _labels(row: Row) -> tuple[Any, ...]:
    return (*setting_of(row), row.get("method"), row.get("prompts"))


def _rounded(value: Any) -> Any:
    return float(rounded([value])[0]) if isinstance(value, float) else value


class _Pairing:
    """The looks at one run beside one baseline."""

    def __init__(self, results: Results, frozen: Frozen, samples: Samples, terms: Terms, common: Common) -> None:
        self.frozen, self.samples, self.terms, self.common = frozen, samples, terms, common
        self.results = results
        self.looks = Looks()
        self.notes: list[str] = []
        self.marks = {
            (tuple(row[name] for name in SETTING), row["method"]): row["optimises"]
            for row in results["arms"]
            if row["prompts"] == POOLED
        }

    def verdicts(self) -> list[Verdict]:
        """One verdict a changed scorer, and one or two an arm and metric."""
        pending: list[Pending] = []
        marked: dict[str, None] = {}
        for metric, held in self.frozen.metrics.items():
            if metric not in (self.results.get("metrics") or {}) and metric not in self.samples.suite.metrics:
                self.notes.append(f"not compared, because the suite no longer has the metric: {metric}")
                continue
            digest = ((self.results.get("metrics") or {}).get(metric) or {}).get("digest")
            if without_code(str(digest)) != without_code(held.digest):
                row = {"method": "every method", "metric": metric}
                said = f"{metric}: its scorer is {digest}, when frozen it was {held.digest}; {MEANT}"
                pending.append(self._cannot(row, "change", said))
                continue
            if digest != held.digest:
                self.notes.append(f"the code of the scorer of {metric} has changed: what it gives now is compared")
            for arm in self.common.arms:
                if metric in (*arm.optimises, *self.marks.get((self._setting(arm), arm.method), ())):
                    marked[f"{arm.method} on {metric}"] = None
                elif held.kind == "set":
                    pending += self._set(arm, metric)
                else:
                    pending += self._arm(arm, metric)
        self.looks.run()
        if marked:
            self.notes.append(f"not gated, because the method optimises the metric: {', '.join(marked)}")
        return [verdict() for verdict in pending]

    def _arm(self, arm: FrozenArm, metric: str) -> Iterator[Pending]:
        row = {**row_of(arm), "metric": metric}
        then = self._then(arm, metric)
        if then is None:
            return
        row |= self._images(arm)
        base = self._base(arm)
        pair = self.frozen.metrics[metric].kind == "pair"
        quantities: list[Quantity] = [] if pair else ["change"]
        quantities += [] if base is arm else ["effect_change"]
        now = self._now(arm, metric)
        for quantity in quantities:
            if now is None:
                yield self._cannot(row, quantity, f"{where(row)}: not measured now")
            elif missing := int((~np.isnan(then) & np.isnan(now)).sum()):
                n = int((~np.isnan(then)).sum())
                yield self._cannot(row, quantity, f"{where(row)}: incomplete, {missing} of {n} scores are missing now")
            elif quantity == "effect_change" and base is None:
                yield self._no_base(row)
            elif base is None or quantity == "change" or pair:
                yield self._look(row, quantity, now - then, same=bool(np.array_equal(now, then, equal_nan=True)))
            else:
                yield self._effect(row, base, metric, now - then)

    def _no_base(self, row: Row) -> Pending:
        said = f"{where(row)}: {self.frozen.suite.baseline} is not as it was in both, so no delta to it is compared"
        return self._cannot(row, "effect_change", said)

    def _effect(self, row: dict[str, Any], base: FrozenArm, metric: str, change: Floats) -> Pending:
        """Difference of differences: how much more the method has changed than the baseline arm."""
        then, now = self._then(base, metric), self._now(base, metric)
        if then is None or now is None or bool(np.isnan(now[~np.isnan(change)]).any()):
            return self._cannot(row, "effect_change", f"{where(row)}: {self.frozen.suite.baseline} has no such scores")
        difference = change - (now - then)
        # What is left below the digits that are kept is no change.
        difference[np.abs(difference) <= NOISE * np.nanmax(np.abs(now))] = 0.0
        return self._look(row, "effect_change", difference, same=not np.nan_to_num(difference).any())

    def _set(self, arm: FrozenArm, metric: str) -> Iterator[Pending]:
        """The set's value, and its delta to the baseline arm, beside the frozen ones."""
        row = {**row_of(arm), "metric": metric} | self._images(arm)
        own = [one for one in self.results["arms"] if _labels(one) == _labels(row)]
        values = arm.metrics.get(metric), own[0]["metrics"].get(metric) if own else None
        yield from self._apart(row, "change", *values, names=("mean", "low", "high"))
        deltas = [
            next((one for one in some if _labels(one) == _labels(row) and one["metric"] == metric), None)
            for some in (self.frozen.comparisons, self.results["comparisons"])
        ]
        if self._base(arm) is None:
            yield self._no_base(row)
        else:
            yield from self._apart(row, "effect_change", *deltas, names=("delta", "low", "high"))

    def _apart(
        self, row: Row, quantity: Quantity, then: Row | None, now: Row | None, *, names: tuple[str, str, str]
    ) -> Iterator[Pending]:
        """The look at two numbers with intervals; none where nothing was frozen."""
        frozen = interval(then or {}, *names)
        if frozen is None or then is None:
            return
        found = interval({name: _rounded(value) for name, value in (now or {}).items()}, *names)
        if now is None or found is None or now["n"] != then["n"] or not self.common.whole:
            why = (now or {}).get("refused") or (f"{now['n']} images, frozen of {then['n']}" if now else "")
            said = f"{where(row)}: not measured now on as many images{f' ({why})' if why else ''}"
            yield self._cannot(row, quantity, said)
            return
        if not self.frozen.metrics[row["metric"]].higher_is_better:
            found, frozen = turned(found), turned(frozen)
        same = found == frozen
        change = Interval(0.0, 0.0, 0.0) if same else apart(found, frozen)
        look = Look(None, change) if same else self.looks.known(change, now.get("n_prompts"))
        counts = {key: now[key] for key in ("n", "n_prompts") if now.get(key) is not None}
        yield self._decided({**row, **counts}, quantity, look, same=same)

    def _look(self, row: dict[str, Any], quantity: Quantity, change: Floats, *, same: bool) -> Pending:
        metric = row["metric"]
        there = ~np.isnan(change)
        prompts = self.samples.prompts(self.common.now[there])
        gains = direction.gain(change[there], self.frozen.metrics[metric])
        # The same scores leave nothing to chance, so they are no look.
        look = (
            Look(None, Interval(0.0, 0.0, 0.0)) if same else self.looks.mean(gains, prompts, self._range(metric, gains))
        )
        counts = {"n": int(there.sum()), "n_prompts": len(set(prompts.tolist()))}
        return self._decided({**row, **counts}, quantity, look, same=same)

    def _range(self, metric: str, changes: Floats) -> Bounds | None:
        """The range of changes (n,) of a metric's scores; those of an effect may go twice as far, and rarely do."""
        scores = range_of(self.results, metric)
        width = scores[1] - scores[0] if scores else 1.0
        if scores is None and not looks_bounded(changes):
            return None
        width *= 1 if np.abs(changes).max() <= width else 2
        return -width, width

    def _decided(self, row: Row, quantity: Quantity, look: Look, *, same: bool) -> Pending:
        """The verdict on a look, once it is answered; `row` has its counts."""
        limits, of = self._limits(row), self.frozen.metrics[row["metric"]]
        flipped = "" if of.higher_is_better else " (sign turned: lower is better)"
        what = f"{where(row)}: {self._said(quantity)}"

        def verdict() -> Verdict:
            found = look.answer
            if found is None:
                return self._cannot(row, quantity, f"{what}: one prompt says nothing of others")()
            outcome, why = ("passed", "") if same else limits.decide(found)
            if outcome == "inconclusive":
                why = "neither shown to be harmless nor shown to be harmful"
            if look.few and outcome == "passed" and not same:
                if limits.require == "shown":
                    return self._cannot(row, quantity, f"{what}: {too_few(look)}")()
                outcome, why = "inconclusive", too_few(look)
            if same:
                scores = quantity == "change" and of.kind == "image"
                sentence = f"{what} exactly 0" + (f", the same {row['n']} scores" if scores else "")
            else:
                value = f"{span(found)}{self.looks.said}{flipped}"
                counted = f"{row['n']} images, the two intervals taken as independent"
                if of.kind != "set":
                    counted = f"{row['n']} pairs on {row['n_prompts']} prompts"
                sentence = f"{what} {value}, {why}; n = {counted}"
            sentence += _images_said(row)
            resolves = None if same else finite(found.estimate - found.low)
            if outcome == "inconclusive":
                least = "no loss at all" if resolves is None else f"a loss of {resolves:.3g} at the least"
                sentence += f"; this n could have ruled out {least}"
            return self._verdict(row, quantity, outcome=outcome, sentence=sentence, resolves=resolves,
                                 estimate=found.estimate, low=finite(found.low), high=finite(found.high),
                                 level=self.looks.level)  # fmt: skip

        return verdict

    def _said(self, quantity: Quantity) -> str:
        return "new - frozen" if quantity == "change" else f"its delta to {self.frozen.suite.baseline}, new - frozen"

    def _cannot(self, row: dict[str, Any], quantity: Quantity, sentence: str) -> Pending:
        return lambda: self._verdict(row, quantity, outcome="not comparable", sentence=sentence)

    def _verdict(self, row: dict[str, Any], quantity: Quantity, **fields: Any) -> Verdict:
        limits = self._limits(row)
        effect = f" over {self.frozen.suite.baseline}" if quantity == "effect_change" else ""
        ways = [
            word for word, on in (("two-sided", limits.most is not None), ("shown", limits.require == "shown")) if on
        ]
        how = f" ({', '.join(ways)})" if ways else ""
        rule = f"{row['metric']}{effect}: new - frozen >= {limits.least:g}{how}"
        return Verdict(check="baseline", rule=rule, quantity=quantity, **row, **fields)

    def _setting(self, arm: FrozenArm) -> tuple[Any, ...]:
        return tuple(getattr(arm, name) for name in SETTING)

    def _base(self, arm: FrozenArm) -> FrozenArm | None:
        """The baseline arm of an arm's setting; None where run and baseline do not both have it as it was."""
        name, setting = self.frozen.suite.baseline, self._setting(arm)
        return next((one for one in self.common.arms if one.method == name and self._setting(one) == setting), None)

    def _now(self, arm: FrozenArm, metric: str) -> Floats | None:
        """The arm's scores of now in the order of the frozen ones; None where the run has no such arm."""
        found = self.samples.arm(self._setting(arm), arm.method, POOLED)
        if found is None or metric not in self.samples.measured.metrics:
            return None
        values = np.full(len(self.samples.measured.pairs), np.nan)
        values[found.pair] = rounded(self.samples.scores(found, metric))
        return values[self.common.now]

    def _then(self, arm: FrozenArm, metric: str) -> Floats | None:
        """The arm's frozen scores of the pairs in common; None where it has none."""
        column = _column(arm.scores.get(metric))
        if column is None:
            return None
        there = column[self.common.then]
        return None if np.isnan(there).all() else there

    def _images(self, arm: FrozenArm) -> dict[str, int]:
        """How many images of the pairs in common there are, and how many have changed; nothing of older baselines."""
        now = self.samples.arm(self._setting(arm), arm.method, POOLED)
        if arm.images is None or now is None:
            return {}
        digests = dict(zip(now.pair.tolist(), images_of(self.samples, now), strict=True))
        pairs = zip(self.common.then.tolist(), self.common.now.tolist(), strict=True)
        changes = [arm.images[i] != digests.get(j) for i, j in pairs]
        return {"images": len(changes), "images_changed": sum(changes)}

    def _limits(self, row: Row) -> Limits:
        """The limits on a change of a row, whose method's frozen mean a relative tolerance is of."""
        metric = str(row["metric"])
        arm = next((one for one in self.frozen.arms if _labels(row_of(one)) == _labels(row)), None)
        column = self._then(arm, metric) if arm else None
        mean = arm.metrics.get(metric, {}).get("mean") if arm else None
        return self.terms.limits(metric, float(np.nanmean(column)) if column is not None else float(mean or 0.0))


def _images_said(row: Row) -> str:
    return f"; {row['images_changed']} of {row['images']} images changed" if row.get("images") else ""


def _column(values: Sequence[float | None] | None) -> Floats | None:
    """Frozen scores as an array, NaN for null; None where there are none."""
    column = np.array([np.nan if value is None else value for value in values or ()], dtype=np.float64)
    return None if np.isnan(column).all() else column
