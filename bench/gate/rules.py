"""A suite's rules on the results of one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from bench.analysis.paired import SHORTEST_MS, delta_range
from bench.errors import nearest
from bench.gate.comparisons import Comparison, Comparisons, too_few
from bench.gate.samples import Samples
from bench.gate.verdicts import Limits, Outcome, Subject, Verdict, finite, interval, span, turned
from bench.metrics import direction
from bench.records import ArmRow, ComparisonRow, Labels, Ratio, Results
from bench.sampling.measure import PROCESS
from bench.stats import FEWEST_BATCHES
from bench.stats.intervals import FEW, Interval
from bench.suite.gates import COSTS
from bench.suite.gates import Gate as Rule

L = TypeVar("L", bound=Labels)
Pending = Callable[[], Verdict]
"""A verdict that waits for the interval of its comparison."""


def check(results: Results, rules: Sequence[Rule], samples: Samples | None = None) -> list[Verdict]:
    """Every rule on every comparison or arm that it names; a rule that finds none is not comparable.

    With `samples` the intervals are taken again from the pairs, at Bonferroni's level for as many comparisons as there
    are (a rule that names no method is a comparison for each method and setting); without, and for a metric of sets,
    the 95 % intervals of the results are widened as Student's t is. A cost without an interval is a number, not a
    comparison.
    """
    comparisons = Comparisons()
    pending = [one for rule in rules for one in _pending(results, rule, samples, comparisons)]
    comparisons.run()
    return [verdict() for verdict in pending]


def _pending(results: Results, rule: Rule, samples: Samples | None, comparisons: Comparisons) -> list[Pending]:
    if rule.kind == "ratio":
        arms = [arm for arm in _named(results.arms, rule) if not arm.is_baseline]
        found = [_cost(results, rule, arm, comparisons) for arm in arms]
    else:
        found = [_bound(results, rule, row, samples, comparisons) for row in _comparisons(results, rule)]
    if found:
        return found
    verdict = _cannot(rule, Subject(rule.method or "any method"), _absent(results, rule))
    return [lambda: verdict]


def _named(rows: Sequence[L], rule: Rule) -> list[L]:
    """Those rows that are of the prompts and method that a rule names."""
    return [row for row in rows if row.prompts == rule.prompts and rule.method in (None, row.method)]


def _comparisons(results: Results, rule: Rule) -> list[ComparisonRow]:
    """The comparisons that a rule speaks of."""
    rows = _named(results.comparisons, rule)
    if rule.metric is not None:
        return [row for row in rows if row.metric == rule.metric]
    first: dict[Any, ComparisonRow] = {}
    order = list(results.metrics)
    for row in sorted(rows, key=lambda row: order.index(row.metric)):
        if not row.marked and results.metrics[row.metric].kind != "set":
            first.setdefault((row.setting, row.method), row)
    return list(first.values())


def _absent(results: Results, rule: Rule) -> str:
    rows: Sequence[Labels] = results.arms if rule.kind == "ratio" else results.comparisons
    known = {"method": {row.method for row in rows}, "prompts": {row.prompts for row in rows}}
    if rule.kind != "ratio":
        known["metric"] = {row.metric for row in results.comparisons}
    for name, there in known.items():
        wanted = getattr(rule, name)
        if there and wanted is not None and wanted not in there:
            if name == "metric" and (why := _refused(results, rule)):
                return why
            return f"there is no comparison with {name} {wanted!r}{nearest(wanted, there)}"
    if rule.metric is None and rows:
        return "there is no comparison on a metric that the method does not optimise"
    return "there is no such comparison in these results"


def _refused(results: Results, rule: Rule) -> str | None:
    """Why a set metric has no value, where that is why there is no comparison."""
    values = [arm.metrics.get(str(rule.metric)) for arm in results.arms]
    return next((f"{rule.metric} {value.refused}" for value in values if value and value.refused), None)


def _bound(
    results: Results, rule: Rule, row: ComparisonRow, samples: Samples | None, comparisons: Comparisons
) -> Pending:
    """A delta or win rate, decided on the bound of its interval."""
    comparison = _comparison(results, rule, row, samples, comparisons)
    most = {"delta": abs(rule.threshold), "win_rate": 1 - rule.threshold}[rule.kind] if rule.two_sided else None
    limits = Limits(rule.threshold, most, rule.require)
    of, metric = Subject.of(row), results.metrics[row.metric]
    flipped = rule.kind == "delta" and not metric.higher_is_better

    def verdict() -> Verdict:
        found = comparison.answer if comparison else None
        if not row.complete:
            return _cannot(rule, of, f"{of.where()}: incomplete, n = {row.n}")
        if rule.kind == "win_rate" and metric.kind == "set":
            return _cannot(rule, of, f"{of.where()}: a metric of whole sets has no win rate; gate its delta")
        if found is None:
            return _cannot(rule, of, f"{of.where()}: no {rule.kind} with an interval was measured")
        outcome, said = limits.decide(found)
        if comparison and comparison.few and outcome == "passed":
            if rule.require == "shown":
                return _cannot(rule, of, f"{of.where()}: {too_few(comparison)}")
            outcome, said = "inconclusive", too_few(comparison)
        value = f"delta {found.estimate:+.4g}" if rule.kind == "delta" else f"win rate {found.estimate:.4g}"
        notes = (" (sign turned: lower is better)" if flipped else "") + (
            " († the method optimises it)" if row.marked else ""
        )
        spread = span(found).partition(" ")[2] if rule.kind == "delta" else f"[{found.low:.4g}, {found.high:.4g}]"
        sentence = f"{of.where()}: {value} {spread}{comparisons.said}{notes}, {said}; n = {row.n}"
        resolves = finite(found.estimate - found.low)
        if outcome == "inconclusive":
            least = "no loss at all" if resolves is None else f"a loss of {resolves:.3g} at the least"
            sentence += f"; this n could have ruled out {least}"
        return _verdict(
            rule, of, outcome=outcome, sentence=sentence, found=found, level=comparisons.level, resolves=resolves
        )

    return verdict


def _comparison(
    results: Results, rule: Rule, row: ComparisonRow, samples: Samples | None, comparisons: Comparisons
) -> Comparison | None:
    """What decides: an interval from the pairs themselves where they are at hand, else the results' own, widened."""
    if not row.complete:
        return None
    metric = results.metrics[row.metric]
    sign = direction.sign(metric.higher_is_better)
    if samples is not None and metric.kind != "set":
        pairs = samples.paired(row)
        if pairs is None:
            return None
        if rule.kind == "delta":
            bounds = delta_range(metric.kind, metric.bounds, pairs.treated, pairs.baseline)
            return comparisons.mean(sign * (pairs.treated - pairs.baseline), pairs.clusters, bounds)
        treated, baseline = sign * pairs.treated, sign * pairs.baseline
        return comparisons.win_rate(treated, baseline, pairs.clusters, preferences=metric.kind == "pair")
    if rule.kind == "win_rate":
        found = interval(row.win_rate, row.win_low, row.win_high)
    else:
        found = interval(row.delta, row.low, row.high)
        found = turned(found) if found and sign < 0 else found
    if found is None:
        return None
    comparison = comparisons.known(found, row.n_prompts)
    ranged = rule.kind == "win_rate" or metric.kind == "set" or metric.bounds is not None
    comparison.few = row.n_prompts is not None and row.n_prompts < FEW and not ranged
    return comparison


# Costs ---------------------------------------------------------------------------------------------------------------


def _cost(results: Results, rule: Rule, arm: ArmRow, comparisons: Comparisons) -> Pending:
    """A cost as a multiple of the baseline arm's in the same run, decided on the bound of its interval.

    Calls are counts, which need none, and a peak of memory has none; a time without one is not comparable.
    """
    of = Subject.of(arm)
    name, place = COSTS[str(rule.metric)], of.where(rule.metric)
    here = (row for row in results.arms if (row.setting, row.prompts) == (arm.setting, arm.prompts))
    base = next((row for row in here if row.is_baseline), None)
    if name == "peak_bytes" and base is not None and _apart(arm, base):
        name = "memory_bytes"
    problem = _no_ratio(name, arm, base)
    if problem or base is None:
        verdict = _cannot(rule, of, f"{place}: {problem}")
        return lambda: verdict
    given: Ratio | None = getattr(arm.cost.ratios, name)
    if given is None:
        # The two means are still there, but of other days: an image from the cache was timed when it was made.
        verdict = _cannot(rule, of, f"{place}: {_no_measure(name, arm, base)}")
        return lambda: verdict
    measured = interval(given.ratio, given.low, given.high)
    if measured is None and name.endswith("_ms"):
        why = f"{given.ratio:.3g} times {base.method}, without an interval, of fewer than {FEWEST_BATCHES} batches"
        verdict = _cannot(rule, of, f"{place}: {why} a side; run more batches (a smaller --batch-size), or gate calls")
        return lambda: verdict
    found = measured or Interval(given.ratio, given.ratio, given.ratio)
    comparison = comparisons.known(found, None, logarithmic=True)
    limits = Limits(None, rule.threshold, rule.require)
    said = f"times {base.method} ({_cost_of(arm, name) or 0.0:.4g} against {_cost_of(base, name) or 0.0:.4g})"

    def decided() -> Verdict:
        bounds = comparison.answer or found
        if rule.require == "shown" and measured is None and not name.startswith("calls_"):
            return _cannot(rule, of, f"{place}: {found.estimate:.3g} {said}, without an interval, so nothing is shown")
        outcome, why = limits.decide(bounds)
        if bounds.low == bounds.high:
            why = f"{'within' if outcome == 'passed' else 'above'} {rule.threshold:g}"
            return _verdict(rule, of, outcome=outcome, sentence=f"{place}: {bounds.estimate:.3g} {said}, {why}",
                            found=bounds)  # fmt: skip
        spread = f"[{bounds.low:.3g}, {bounds.high:.3g}]"
        sentence = f"{place}: {bounds.estimate:.3g} {spread}{comparisons.said} {said}, {why}"
        resolves = bounds.high / bounds.estimate
        if outcome == "inconclusive":
            sentence += f"; so many batches could have ruled out a factor of {resolves:.3g} at the least"
        return _verdict(
            rule, of, outcome=outcome, sentence=sentence, found=bounds, level=comparisons.level, resolves=resolves
        )

    return decided


def _apart(arm: ArmRow, base: ArmRow) -> bool:
    """Whether a CPU's memory was measured apart for both, where a run's own peaks are of its whole process."""
    return all(row.cost.peak_kind == PROCESS and row.cost.memory_bytes is not None for row in (arm, base))


def _cost_of(arm: ArmRow, name: str) -> float | None:
    """One cost of an image, by its name in results."""
    value: float | None = getattr(arm.cost, name)
    return None if value is None else float(value)


def _no_ratio(name: str, arm: ArmRow, base: ArmRow | None) -> str | None:
    """Why there is no ratio of two arms' costs; None where there is one."""
    if base is None:
        return "there is no baseline arm in this setting"
    for row in (arm, base):
        # Missing scores do not make a time another one.
        if not row.complete and row.n != row.n_expected:
            return f"{row.method} is incomplete, n = {row.n}"
    value, reference = _cost_of(arm, name), _cost_of(base, name)
    if value is None:
        return f"{arm.method} has no {name}, so there is no ratio"
    if not reference or reference < 0:
        return f"the baseline's {name} is {reference}, so there is no ratio"
    hardware = arm.cost.hardware, base.cost.hardware
    if hardware[0] != hardware[1] and not name.startswith(("calls_", "memory_")):
        return f"measured on {hardware[0]}, the baseline on {hardware[1]}; only one machine's times are compared"
    return None


def _no_measure(name: str, arm: ArmRow, base: ArmRow) -> str:
    """Why two costs that are known have no ratio."""
    if name == "peak_bytes" and PROCESS in (arm.cost.peak_kind, base.cost.peak_kind):
        for row in (arm, base):
            if row.cost.memory_failed:
                return f"the memory of {row.method} could not be measured: {row.cost.memory_failed}"
        return "a process's peak memory is of all that ran before, so it compares no methods; run with --memory"
    if name == "memory_bytes":
        return "measured of batches that differ, on two machines or under 1 MiB; run again with --memory"
    if name.endswith("_ms") and min(_cost_of(row, name) or 0.0 for row in (arm, base)) < SHORTEST_MS:
        return f"a stage of less than {SHORTEST_MS:g} ms has no ratio worth gating"
    said = "not measured in this run for both methods (images from the cache keep the times they were made with)"
    return f"{said}; run with --no-cache into another --runs folder"


def _verdict(
    rule: Rule,
    of: Subject,
    *,
    outcome: Outcome,
    sentence: str,
    found: Interval | None = None,
    level: float | None = None,
    resolves: float | None = None,
) -> Verdict:
    bounds: dict[str, Any] = {"estimate": found.estimate, "low": found.low, "high": found.high} if found else {}
    fields = replace(of, metric=of.metric or rule.metric).fields() | bounds
    return Verdict(check="rule", rule=str(rule), outcome=outcome, sentence=sentence, level=level, resolves=resolves,
                   **fields | {"quantity": rule.kind})  # fmt: skip


def _cannot(rule: Rule, of: Subject, sentence: str) -> Verdict:
    return _verdict(rule, of, outcome="not comparable", sentence=sentence)
