"""A run against a frozen baseline, paired with it sample by sample.

Two questions for every method and metric: have its scores changed, and has its effect, the delta to the baseline arm,
changed? The first sees a change of the model or of the whole harness, the second one of the method itself. A metric of
pairs has the second question only, for its scores are against the baseline arm. A metric of sets has no scores to pair:
its values and deltas are compared with their frozen intervals as if the two runs were independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bench.arms import POOLED, Floats
from bench.errors import UserError, nearest
from bench.gate.alike import changed, check_same, row_of
from bench.gate.frozen import Frozen, FrozenArm, rounded
from bench.gate.intervals import Look, Looks, apart, too_few
from bench.gate.samples import Samples
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
    turned,
    where,
)
from bench.intervals import Bounds, Interval, looks_bounded

NOISE = 1e-9
Pending = Callable[[], Verdict]
Quantity = Literal["change", "effect_change"]


@dataclass(frozen=True)
class Terms:
    """What a run must keep to. A tolerance is in the metric's own unit."""

    tolerance: Mapping[str, float]
    otherwise: float = 0.0
    two_sided: bool = False
    require: Literal["plausible", "shown"] = "plausible"

    def limits(self, metric: str) -> Limits:
        """The limits on a change of a metric that is turned so that more is better."""
        allowed = self.tolerance.get(metric, self.otherwise)
        # Adding zero keeps -0.0 out of sentences.
        return Limits(0.0 - allowed, allowed if self.two_sided else None, self.require)


def tolerances(given: Iterable[str]) -> dict[str, float]:
    """`METRIC=VALUE` or `VALUE`, which stands under "", as numbers; UserError for anything else."""
    found: dict[str, float] = {}
    for text in given:
        metric, equals, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (number >= 0 and math.isfinite(number)) or (equals and not metric):
            raise UserError(f"--tolerance {text}: expected a number of at least 0, or METRIC=NUMBER")
        found[metric] = number
    return found


def against_baseline(
    results: Results,
    frozen: Frozen,
    samples: Samples,
    *,
    tolerance: float | Mapping[str, float] = 0.0,
    two_sided: bool = False,
    require: Literal["plausible", "shown"] = "plausible",
) -> Judgement:
    """Every unmarked arm and metric, and every method's effect, new minus frozen, on the same prompts and seeds.

    Fails where the interval of the mean change lies wholly below -`tolerance` (a number, or by metric with "" for all
    others); `two_sided` also where it lies wholly above; `require="shown"` where any of it does. Intervals are
    Bonferroni's for all looks together. A scorer that has changed makes its metric not comparable. Raises
    NotComparable for another suite, protocol, baseline method or other prompts.
    """
    check_same(results, frozen, samples)
    given = {"": tolerance} if isinstance(tolerance, float | int) else dict(tolerance)
    for name in given:
        if name and name not in frozen.metrics:
            raise UserError(f"--tolerance {name}: no metric of this baseline{nearest(name, frozen.metrics)}")
    terms = Terms(given, given.get("", 0.0), two_sided, require)
    pairing = _Pairing(results, frozen, samples, terms)
    verdicts = pairing.verdicts()
    return Judgement(verdicts, [*changed(results, frozen, samples), *pairing.notes])


def _labels(row: Row) -> tuple[Any, ...]:
    return (*setting_of(row), row.get("method"), row.get("prompts"))


def _rounded(value: Any) -> Any:
    return float(rounded([value])[0]) if isinstance(value, float) else value


class _Pairing:
    """The looks at one run beside one baseline."""

    def __init__(self, results: Results, frozen: Frozen, samples: Samples, terms: Terms) -> None:
        self.frozen, self.samples, self.terms = frozen, samples, terms
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
            digest = ((self.results.get("metrics") or {}).get(metric) or {}).get("digest")
            if digest != held.digest:
                row = {"method": "every method", "metric": metric}
                said = f"{metric}: its scorer is {digest}, when frozen it was {held.digest}; freeze the baseline again"
                pending.append(self._cannot(row, "change", said))
                continue
            for arm in self.frozen.arms:
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
        then = _column(arm.scores.get(metric))
        if then is None:
            return
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
            elif quantity == "change" or pair:
                yield self._look(row, quantity, now - then, same=bool(np.array_equal(now, then, equal_nan=True)))
            else:
                yield self._effect(row, base, metric, now - then)

    def _effect(self, row: dict[str, Any], base: FrozenArm | None, metric: str, change: Floats) -> Pending:
        """Difference of differences: how much more the method has changed than the baseline arm."""
        then = _column(base.scores.get(metric)) if base else None
        now = self._now(base, metric) if base else None
        if then is None or now is None or bool(np.isnan(now[~np.isnan(change)]).any()):
            return self._cannot(row, "effect_change", f"{where(row)}: {self.frozen.suite.baseline} has no such scores")
        difference = change - (now - then)
        # Scores have six digits; what is left of a difference far below them is float noise.
        difference[np.abs(difference) <= NOISE * np.nanmax(np.abs(now))] = 0.0
        return self._look(row, "effect_change", difference, same=not np.nan_to_num(difference).any())

    def _set(self, arm: FrozenArm, metric: str) -> Iterator[Pending]:
        """The set's value, and its delta to the baseline arm, beside the frozen ones."""
        row = {**row_of(arm), "metric": metric}
        own = [one for one in self.results["arms"] if _labels(one) == _labels(row)]
        values = arm.metrics.get(metric), own[0]["metrics"].get(metric) if own else None
        yield from self._apart(row, "change", *values, names=("mean", "low", "high"))
        deltas = [
            next((one for one in some if _labels(one) == _labels(row) and one["metric"] == metric), None)
            for some in (self.frozen.comparisons, self.results["comparisons"])
        ]
        yield from self._apart(row, "effect_change", *deltas, names=("delta", "low", "high"))

    def _apart(
        self, row: Row, quantity: Quantity, then: Row | None, now: Row | None, *, names: tuple[str, str, str]
    ) -> Iterator[Pending]:
        """The look at two numbers with intervals; none where nothing was frozen."""
        frozen = interval(then or {}, *names)
        if frozen is None or then is None:
            return
        found = interval({name: _rounded(value) for name, value in (now or {}).items()}, *names)
        if now is None or found is None or now["n"] != then["n"]:
            why = (now or {}).get("refused") or (f"{now['n']} images, frozen of {then['n']}" if now else "")
            yield self._cannot(row, quantity, f"{where(row)}: not measured alike now{f' ({why})' if why else ''}")
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
        prompts = self.samples.prompts(np.flatnonzero(there))
        gains = change[there] if self.frozen.metrics[metric].higher_is_better else -change[there]
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
        limits, of = self.terms.limits(row["metric"]), self.frozen.metrics[row["metric"]]
        flipped = "" if of.higher_is_better else " (sign turned: lower is better)"
        what = f"{where(row)}: {self._said(quantity)}"

        def verdict() -> Verdict:
            found = look.answer
            if found is None:
                return self._cannot(row, quantity, f"{what}: one prompt says nothing of others")()
            outcome, why = limits.decide(found)
            if look.few and limits.require == "shown" and outcome == "passed" and not same:
                return self._cannot(row, quantity, f"{what}: {too_few(look)}")()
            if same:
                scores = quantity == "change" and of.kind == "image"
                sentence = f"{what} exactly 0" + (f", the same {row['n']} scores" if scores else "")
            else:
                value = f"{found.estimate:+.4g} [{found.low:+.4g}, {found.high:+.4g}]{flipped}"
                counted = f"{row['n']} images, the two intervals taken as independent"
                if of.kind != "set":
                    counted = f"{row['n']} pairs on {row['n_prompts']} prompts"
                sentence = f"{what} {value}, {why}; n = {counted}"
            return self._verdict(row, quantity, outcome=outcome, sentence=sentence,
                                 estimate=found.estimate, low=finite(found.low), high=finite(found.high),
                                 level=self.looks.level)  # fmt: skip

        return verdict

    def _said(self, quantity: Quantity) -> str:
        return "new - frozen" if quantity == "change" else f"its delta to {self.frozen.suite.baseline}, new - frozen"

    def _cannot(self, row: dict[str, Any], quantity: Quantity, sentence: str) -> Pending:
        return lambda: self._verdict(row, quantity, outcome="not comparable", sentence=sentence)

    def _verdict(self, row: dict[str, Any], quantity: Quantity, **fields: Any) -> Verdict:
        limits = self.terms.limits(row["metric"])
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
        name, setting = self.frozen.suite.baseline, self._setting(arm)
        return next((one for one in self.frozen.arms if one.method == name and self._setting(one) == setting), None)

    def _now(self, arm: FrozenArm, metric: str) -> Floats | None:
        """The arm's scores of now in the order of the frozen ones; None where the run has no such arm."""
        found = self.samples.arm(self._setting(arm), arm.method, POOLED)
        if found is None or metric not in self.samples.measured.metrics:
            return None
        values = np.full(len(self.samples.measured.pairs), np.nan)
        values[found.pair] = rounded(self.samples.scores(found, metric))
        return values


def _column(values: Sequence[float | None] | None) -> Floats | None:
    """Frozen scores as an array, NaN for null; None where there are none."""
    column = np.array([np.nan if value is None else value for value in values or ()], dtype=np.float64)
    return None if np.isnan(column).all() else column
