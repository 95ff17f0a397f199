"""A suite's rules on the results of one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench import direction
from bench.costs import of_means
from bench.errors import nearest
from bench.gate.looks import Look, Looks, too_few
from bench.gate.samples import Samples
from bench.gate.verdicts import (
    Limits,
    Results,
    Row,
    Verdict,
    finite,
    higher_is_better,
    interval,
    kind_of,
    labels_of,
    range_of,
    setting_of,
    span,
    turned,
    where,
)
from bench.intervals import FEW, Interval
from bench.measure import PROCESS
from bench.paired import SHORTEST_MS, delta_range
from bench.stats import FEWEST_BATCHES
from bench.suite_gates import COSTS
from bench.suite_gates import Gate as Rule

Pending = Callable[[], Verdict]
"""A verdict that waits for the interval of its look."""


def check(results: Results, rules: Sequence[Rule], samples: Samples | None = None) -> list[Verdict]:
    """Every rule on every comparison or arm that it names; a rule that finds none is not comparable.

    With `samples` the intervals are taken anew from the pairs, at Bonferroni's level for as many looks as there are
    (a rule that names no method is a look for each method and setting); without, and for a metric of sets, the 95 %
    intervals of the results are widened as Student's t is. A cost without an interval is a number, not a look.
    """
    looks = Looks()
    pending = [one for rule in rules for one in _pending(results, rule, samples, looks)]
    looks.run()
    return [verdict() for verdict in pending]


def _pending(results: Results, rule: Rule, samples: Samples | None, looks: Looks) -> list[Pending]:
    rows = _rows_for(results, rule)
    if not rows:
        verdict = _cannot(rule, {"method": rule.method or "any method"}, _absent(results, rule))
        return [lambda: verdict]
    if rule.kind == "ratio":
        return [_cost(results, rule, row, looks) for row in rows]
    return [_bound(results, rule, row, samples, looks) for row in rows]


def _rows_for(results: Results, rule: Rule) -> list[Row]:
    """The comparisons, or for a ratio the arms, that a rule speaks of."""
    rows = [
        row
        for row in results.get("arms" if rule.kind == "ratio" else "comparisons") or []
        if row.get("prompts") == rule.prompts and rule.method in (None, row.get("method"))
    ]
    if rule.kind == "ratio":
        return [row for row in rows if not row.get("is_baseline")]
    if rule.metric is not None:
        return [row for row in rows if row.get("metric") == rule.metric]
    first: dict[Any, Row] = {}
    order = list(results.get("metrics") or {})
    for row in sorted(rows, key=lambda row: order.index(row["metric"])):
        if not row.get("marked") and kind_of(results, row["metric"]) != "set":
            first.setdefault((setting_of(row), row["method"]), row)
    return list(first.values())


def _absent(results: Results, rule: Rule) -> str:
    rows = results.get("arms" if rule.kind == "ratio" else "comparisons") or []
    for name, wanted in (("method", rule.method), ("prompts", rule.prompts), ("metric", rule.metric)):
        known = {str(row.get(name)) for row in rows if row.get(name) is not None}
        if known and wanted is not None and wanted not in known and (name != "metric" or rule.kind != "ratio"):
            if name == "metric" and (why := _refused(results, rule)):
                return why
            return f"there is no comparison with {name} {wanted!r}{nearest(wanted, known)}"
    if rule.metric is None and rows:
        return "there is no comparison on a metric that the method does not optimise"
    return "there is no such comparison in these results"


def _refused(results: Results, rule: Rule) -> str | None:
    """Why a set metric has no value, where that is why there is no comparison."""
    said = [(row.get("metrics") or {}).get(str(rule.metric)) or {} for row in results.get("arms") or []]
    return next((f"{rule.metric} {value['refused']}" for value in said if value.get("refused")), None)


def _bound(results: Results, rule: Rule, row: Row, samples: Samples | None, looks: Looks) -> Pending:
    """A delta or win rate, decided on the bound of its interval."""
    look = _look(results, rule, row, samples, looks)
    most = {"delta": abs(rule.threshold), "win_rate": 1 - rule.threshold}[rule.kind] if rule.two_sided else None
    limits = Limits(rule.threshold, most, rule.require)
    flipped = rule.kind == "delta" and not higher_is_better(results, row["metric"])

    def verdict() -> Verdict:
        found = look.answer if look else None
        if not row.get("complete"):
            return _cannot(rule, row, f"{where(row)}: incomplete, n = {row.get('n')}")
        if rule.kind == "win_rate" and kind_of(results, row["metric"]) == "set":
            return _cannot(rule, row, f"{where(row)}: a metric of whole sets has no win rate; gate its delta")
        if found is None:
            return _cannot(rule, row, f"{where(row)}: no {rule.kind} with an interval was measured")
        outcome, said = limits.decide(found)
        if look and look.few and outcome == "passed":
            if rule.require == "shown":
                return _cannot(rule, row, f"{where(row)}: {too_few(look)}")
            outcome, said = "inconclusive", too_few(look)
        value = f"delta {found.estimate:+.4g}" if rule.kind == "delta" else f"win rate {found.estimate:.4g}"
        notes = (" (sign turned: lower is better)" if flipped else "") + (
            " († the method optimises it)" if row.get("marked") else ""
        )
        spread = span(found).partition(" ")[2] if rule.kind == "delta" else f"[{found.low:.4g}, {found.high:.4g}]"
        sentence = f"{where(row)}: {value} {spread}{looks.said}{notes}, {said}; n = {row.get('n')}"
        resolves = finite(found.estimate - found.low)
        if outcome == "inconclusive":
            least = "no loss at all" if resolves is None else f"a loss of {resolves:.3g} at the least"
            sentence += f"; this n could have ruled out {least}"
        return _verdict(
            rule, row, outcome=outcome, sentence=sentence, found=found, level=looks.level, resolves=resolves
        )

    return verdict


def _look(results: Results, rule: Rule, row: Row, samples: Samples | None, looks: Looks) -> Look | None:
    """What decides: an interval from the pairs themselves where they are at hand, else the results' own, widened."""
    if not row.get("complete"):
        return None
    sign = direction.sign(higher_is_better(results, row["metric"]))
    kind = kind_of(results, row["metric"])
    if samples is not None and kind != "set":
        pairs = samples.paired(row)
        if pairs is None:
            return None
        if rule.kind == "delta":
            bounds = delta_range(kind, range_of(results, row["metric"]), pairs.treated, pairs.baseline)
            return looks.mean(sign * (pairs.treated - pairs.baseline), pairs.clusters, bounds)
        treated, baseline = sign * pairs.treated, sign * pairs.baseline
        return looks.win_rate(treated, baseline, pairs.clusters, preferences=kind == "pair")
    if rule.kind == "win_rate":
        found = interval(row, "win_rate", "win_low", "win_high")
    else:
        found = interval(row, "delta", "low", "high")
        found = turned(found) if found and sign < 0 else found
    if found is None:
        return None
    prompts = row.get("n_prompts") if isinstance(row.get("n_prompts"), int) else None
    look = looks.known(found, prompts)
    ranged = rule.kind == "win_rate" or kind == "set" or range_of(results, row["metric"]) is not None
    look.few = prompts is not None and prompts < FEW and not ranged
    return look


# Costs ---------------------------------------------------------------------------------------------------------------


def _cost(results: Results, rule: Rule, arm: Row, looks: Looks) -> Pending:
    """A cost as a multiple of the baseline arm's in the same run, decided on the bound of its interval.

    Calls are counts, which need none, and a peak of memory has none; a time without one is not comparable.
    """
    metric = str(rule.metric)
    name, place = COSTS[metric], where(arm, metric)
    base = next((row for row in results.get("arms") or [] if row.get("is_baseline") and _same(row, arm)), None)
    if name == "peak_bytes" and base is not None and _apart(arm, base):
        name = "memory_bytes"
    problem = _no_ratio(name, arm, base)
    if problem or base is None:
        verdict = _cannot(rule, arm, f"{place}: {problem}")
        return lambda: verdict
    ours, theirs = (finite(row["cost"][name]) or 0.0 for row in (arm, base))
    ratios = arm["cost"].get("ratios") or {}
    if ratios.get(name) is None and (name in ratios or name == "memory_bytes"):
        # The two means are still there, but of other days: an image from the cache was timed when it was made.
        verdict = _cannot(rule, arm, f"{place}: {_no_measure(name, arm, base)}")
        return lambda: verdict
    given = ratios.get(name) or {}
    measured = interval(given, "ratio", "low", "high")
    point = finite(given.get("ratio")) or of_means(ours, theirs) or 0.0
    if measured is None and name.endswith("_ms"):
        why = f"{point:.3g} times {base['method']}, without an interval, of fewer than {FEWEST_BATCHES} batches a side"
        verdict = _cannot(rule, arm, f"{place}: {why}; run more batches (a smaller --batch-size), or gate calls")
        return lambda: verdict
    found = measured or Interval(point, point, point)
    look = looks.known(found, None, logarithmic=True)
    limits = Limits(None, rule.threshold, rule.require)
    said = f"times {base['method']} ({ours:.4g} against {theirs:.4g})"

    def decided() -> Verdict:
        bounds = look.answer or found
        if rule.require == "shown" and measured is None and not name.startswith("calls_"):
            return _cannot(rule, arm, f"{place}: {found.estimate:.3g} {said}, without an interval, so nothing is shown")
        outcome, why = limits.decide(bounds)
        if bounds.low == bounds.high:
            why = f"{'within' if outcome == 'passed' else 'above'} {rule.threshold:g}"
            return _verdict(rule, arm, outcome=outcome, sentence=f"{place}: {bounds.estimate:.3g} {said}, {why}",
                            found=bounds)  # fmt: skip
        spread = f"[{bounds.low:.3g}, {bounds.high:.3g}]"
        sentence = f"{place}: {bounds.estimate:.3g} {spread}{looks.said} {said}, {why}"
        resolves = bounds.high / bounds.estimate
        if outcome == "inconclusive":
            sentence += f"; so many batches could have ruled out a factor of {resolves:.3g} at the least"
        return _verdict(
            rule, arm, outcome=outcome, sentence=sentence, found=bounds, level=looks.level, resolves=resolves
        )

    return decided


def _apart(arm: Row, base: Row) -> bool:
    """Whether a CPU's memory was measured apart for both, where a run's own peaks are of its whole process."""
    costs = [row.get("cost") or {} for row in (arm, base)]
    return all(cost.get("peak_kind") == PROCESS and "memory_bytes" in cost for cost in costs)


def _no_ratio(name: str, arm: Row, base: Row | None) -> str | None:
    """Why there is no ratio of two arms' costs; None where there is one."""
    if base is None:
        return "there is no baseline arm in this setting"
    for row in (arm, base):
        # Missing scores do not make a time another one.
        if not row.get("complete") and row.get("n") != row.get("n_expected"):
            return f"{row['method']} is incomplete, n = {row.get('n')}"
    costs = [row.get("cost") or {} for row in (arm, base)]
    value, reference = (finite(cost.get(name)) for cost in costs)
    if value is None:
        return f"{arm['method']} has no {name}, so there is no ratio"
    if not reference or reference < 0:
        return f"the baseline's {name} is {reference}, so there is no ratio"
    hardware = [cost.get("hardware") for cost in costs]
    if hardware[0] != hardware[1] and not name.startswith(("calls_", "memory_")):
        return f"measured on {hardware[0]}, the baseline on {hardware[1]}; only one machine's times are compared"
    return None


def _no_measure(name: str, arm: Row, base: Row) -> str:
    """Why two costs that are known have no ratio."""
    if name == "peak_bytes" and PROCESS in (arm["cost"].get("peak_kind"), base["cost"].get("peak_kind")):
        for row in (arm, base):
            if reason := row["cost"].get("memory_failed"):
                return f"the memory of {row['method']} could not be measured: {reason}"
        return "a process's peak memory is of all that ran before, so it compares no methods; run with --memory"
    if name == "memory_bytes":
        return "measured of batches that differ, on two machines or under 1 MiB; run again with --memory"
    if name.endswith("_ms") and min(finite(row["cost"][name]) or 0.0 for row in (arm, base)) < SHORTEST_MS:
        return f"a stage of less than {SHORTEST_MS:g} ms has no ratio worth gating"
    said = "not measured in this run for both methods (images from the cache keep the times they were made with)"
    return f"{said}; run with --no-cache into another --runs folder"


def _same(left: Row, right: Row) -> bool:
    return setting_of(left) == setting_of(right) and left.get("prompts") == right.get("prompts")


def _verdict(
    rule: Rule,
    row: Row,
    *,
    outcome: Any,
    sentence: str,
    found: Interval | None = None,
    level: float | None = None,
    resolves: float | None = None,
) -> Verdict:
    bounds = {"estimate": found.estimate, "low": found.low, "high": found.high, "level": level} if found else {}
    bounds |= {"resolves": resolves}
    return Verdict(
        **{
            "check": "rule",
            "rule": str(rule),
            "method": row["method"],
            "outcome": outcome,
            "sentence": sentence,
            "quantity": rule.kind,
            **labels_of(row),
            "metric": row.get("metric") or rule.metric,
            **bounds,
        }
    )


def _cannot(rule: Rule, row: Row, sentence: str) -> Verdict:
    return _verdict(rule, row, outcome="not comparable", sentence=sentence)
