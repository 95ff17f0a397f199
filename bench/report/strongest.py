"""The headline: the strongest effect that is evidence, and what it costs, on one metric for all methods.

The metric is the one that the suite names (`headline:`), else the first of the suite's that is independent evidence
for the most methods; no result plays a part in the choice. Controls and `reseed` do not compete, nor does a method
where it optimises the metric. A sibling (‡) of what chose a method counts for it only where no metric is independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.records import ArmRow, ComparisonRow, Results
from bench.report.parts import AnyDelta, Compared, Delta, Labelled
from bench.report.words import (
    SIBLING,
    all_known,
    distinct,
    effect,
    higher_is_better,
    interval,
    kind,
    mark,
    metric_title,
    mixed,
    number,
    percent,
    places,
    pooled,
    prompts_name,
    setting,
    setting_key,
)

LISTED = 2
"""Further methods with an effect that the headline names one by one; more are counted."""


def headline(results: Results) -> str:
    """The whole verdict as one sentence: who moves the one metric most, at what cost, and what else was seen."""
    if not pooled(results.comparisons):
        return "Nothing was compared."
    metric = headline_metric(results)
    rows = counted(results, competing(results), metric) if metric else []
    if not rows:
        by = f" by {metric_title(results, metric)}" if metric else ""
        why = "no complete comparison of a method, other than controls, on a metric that it does not optimise"
        return f"Nothing can be judged{by}: {why}."
    start = "So far: " if not results.run.finished else ""
    if any(row.ok is False for row in results.controls):
        start += "A sanity check failed, so nothing below is to be believed yet; as it stands: "
    said = f"{start}{_said(results, rows)}."
    # A method's label keeps its case.
    return said if start or not said.startswith("no method") else said[0].upper() + said[1:]


def leading(results: Results) -> ComparisonRow | None:
    """The comparison that the headline names first, else the first that it is about; None where nothing is judged."""
    metric = headline_metric(results)
    rows = counted(results, competing(results), metric) if metric else []
    return _ranked(results, rows)[0] or next(iter(rows), None)


# The one metric ------------------------------------------------------------------------------------------------------


def headline_metric(results: Results) -> str | None:
    """The metric of the headline; None where no metric can judge any competing method."""
    return named_metric(results) or most_independent(results, competing(results))


def most_independent(of: Compared, rows: Sequence[Delta]) -> str | None:
    """The first metric that is independent evidence for the most comparisons of `rows`, whatever they show."""
    judging = {name: counted(of, rows, name) for name in of.metrics}
    usable = [name for name in of.metrics if judging[name]]
    # A mean over kinds of scores is a headline only where there is no other.
    usable = [name for name in usable if not mixed(name)] or usable
    # `max` keeps the first of equals, so that the suite's order decides between them.
    return max(usable, key=lambda name: _weight(judging[name]), default=None)


def named_metric(results: Results) -> str | None:
    """The headline's metric as the suite names it, where the run has it."""
    named = results.suite.headline
    return named if named in results.metrics else None


def chosen_by(results: Results) -> str:
    """How the headline's metric was chosen, in words; nothing where there is none."""
    metric = headline_metric(results)
    if metric is None:
        return ""
    if named_metric(results):
        return f"The headline is by {metric_title(results, metric)}, which the suite names for it."
    rows = competing(results)
    judged, all_methods = counted(results, rows, metric), distinct(row.method for row in rows)
    independent = distinct(row.method for row in judged if not row.sibling)
    return (
        f"The headline is by {metric_title(results, metric)}: the first metric of the suite that is independent "
        f"evidence for the most methods ({len(independent)} of {len(all_methods)}); no result plays a part in the "
        "choice."
    )


def competing(results: Results) -> list[ComparisonRow]:
    """Comparisons on pooled prompts of all methods but controls."""
    out = controls(results)
    return [row for row in pooled(results.comparisons) if row.method not in out]


def controls(results: Results) -> set[str]:
    """Labels of the methods whose effect is known beforehand, whether the suite lists them or not."""
    return {*(row.method for row in results.controls), *results.suite.controls}


def counted(of: Compared, rows: Sequence[AnyDelta], metric: str) -> list[AnyDelta]:
    """Those of the rows on a metric that count as evidence for their methods."""
    # A method that lacks images is judged by nothing.
    lacking = {_arm(row) for row in rows if not row.complete}
    usable = [row for row in rows if effect(of, row) != "unknown" and not row.marked]
    independent = {_arm(row) for row in usable if not row.sibling and not mixed(row.metric)}
    return [
        row
        for row in usable
        if row.metric == metric and _arm(row) not in lacking and not (row.sibling and _arm(row) in independent)
    ]


def _weight(rows: Sequence[Delta]) -> tuple[int, int]:
    """For how many comparisons a metric is independent evidence, then for how many it is any."""
    return sum(not row.sibling for row in rows), len(rows)


def _arm(row: Labelled) -> tuple[object, ...]:
    return (*setting_key(row), row.prompts, row.method)


# What it says --------------------------------------------------------------------------------------------------------


def _said(results: Results, rows: list[ComparisonRow]) -> str:
    metric = rows[0].metric
    first, gains, harms, silent = _ranked(results, rows)
    if first is None:
        dependent = _DEPENDENT if all(row.sibling for row in rows) else ""
        parts = [f"no method shows a change on {metric_title(results, metric)}{dependent}"]
    else:
        parts = [_moves(results, first) + _also(results, first)]
        parts += [part for group in (gains, harms) for part in _further(results, [r for r in group if r is not first])]
        parts += ["no other method shows a change"] if silent else []
        parts += [] if gains or silent else ["no method is shown to be better"]
    size = _least_certain(silent)
    if size == 0:
        parts.append("all of its differences are exactly 0, so n and variance give no smallest effect")
    elif size is not None:
        parts.append(f"this run could only detect changes of about {size:.2g} or more")
    return "; ".join([*parts, *_not_judged(results, metric, rows)])


def detectable(results: Results, metric: str) -> float | None:
    """The smallest change by a metric that this run could detect of any competing method; None where none is known.

    It is of the methods that show nothing, where there are any, as in the headline.
    """
    rows = counted(results, competing(results), metric)
    silent = _ranked(results, rows)[3]
    return _least_certain(
        silent or rows or [row for row in competing(results) if row.metric == metric and row.complete]
    )


def _least_certain(rows: Sequence[ComparisonRow]) -> float | None:
    """The largest of the smallest changes that comparisons could detect."""
    return max((row.detectable for row in rows if row.detectable is not None), default=None)


def _ranked(
    results: Results, rows: list[ComparisonRow]
) -> tuple[ComparisonRow | None, list[ComparisonRow], list[ComparisonRow], list[ComparisonRow]]:
    """(the strongest shown effect, gains, harms, what shows nothing), the largest first."""
    by_size = sorted(rows, key=lambda row: abs(_delta(row)), reverse=True)
    gains, harms, silent = ([row for row in by_size if effect(results, row) == word] for word in _EFFECTS)
    return next(iter([*gains, *harms]), None), gains, harms, silent


_EFFECTS = ("better", "worse", "none")
_DEPENDENT = f"{SIBLING} (no independent evidence)"


def _moves(results: Results, row: ComparisonRow) -> str:
    """`best_of_4 raises GenEval by 0.107 [0.077, 0.140] at 4.1 times the time`."""
    metric = row.metric
    name = metric_title(results, metric) + (_DEPENDENT if row.sibling else "")
    direction = "" if higher_is_better(results, metric) else " (lower is better)"
    where = f"{_cost(results, row)}{_place(results, row)}"
    if kind(results, metric) == "pair":
        return f"{row.method} is preferred to {results.suite.baseline} by {name} {_by(results, row)}{where}"
    return f"{row.method} {_verb(row)} {name}{direction} {_by(results, row)}{where}"


def _verb(row: ComparisonRow) -> str:
    return "raises" if _delta(row) > 0 else "lowers"


def _delta(row: ComparisonRow) -> float:
    """Of a row that shows an effect or none: its delta is known."""
    return row.delta or 0.0


def _by(results: Results, row: ComparisonRow) -> str:
    """The size of an effect with its interval: without a sign, as the verb says the direction."""
    if kind(results, row.metric) == "pair":
        only = "" if _delta(row) > 0 else "only "
        return f"in {only}{percent(row.win_rate, row.win_low, row.win_high)} of pairs"
    digits, known = places(results, row.metric), all_known(row.delta, row.low, row.high)
    delta, low, high = known or (0.0, 0.0, 0.0)
    if delta <= 0:
        delta, low, high = -delta, -high, -low
    return f"by {number(delta, digits)} {interval(low, high, digits)}"


def _cost(results: Results, row: ComparisonRow) -> str:
    """What the method takes: times the baseline's time where that was measured, else times its denoiser calls."""
    arm: ArmRow | None = next((arm for arm in results.arms if _arm(arm) == _arm(row)), None)
    if arm is None:
        return ""
    for known, what in ((arm.cost.ratios.total_ms, "time"), (arm.cost.ratios.calls_total, "denoiser calls")):
        if known is not None:
            value = known.ratio
            return f" at {number(value, 0 if value >= 10 else 1 if value >= 1 else 2)} times the {what}"
    return ""


def _also(results: Results, row: ComparisonRow) -> str:
    """What other metrics show of the same method, short; those that it optimises are left out."""
    said = []
    for other in competing(results):
        name = other.metric
        if _arm(other) != _arm(row) or name == row.metric or other.marked:
            continue
        if effect(results, other) in ("better", "worse"):
            pair = kind(results, name) == "pair"
            size = percent(other.win_rate) if pair else number(other.delta, places(results, name), sign=True)
            said.append(f"{metric_title(results, name)} {size}{mark(other)}")
    return f" (also shown: {', '.join(said)})" if said else ""


def _further(results: Results, rows: list[ComparisonRow]) -> list[str]:
    """More methods with a shown effect of one direction: the largest with their size, the rest counted."""
    pair = bool(rows) and kind(results, rows[0].metric) == "pair"
    parts = [
        f"{row.method} {'is preferred' if pair else f'{_verb(row)} it'} {_by(results, row)}{mark(row)}"
        f"{_place(results, row)}"
        for row in rows[:LISTED]
    ]
    more = len(rows) - LISTED
    are = "is" if more == 1 else "are"
    return [*parts, f"{more} more {are} {effect(results, rows[0])} by less"] if more > 0 else parts


def _not_judged(results: Results, metric: str, rows: list[ComparisonRow]) -> list[str]:
    """The methods that the metric is no evidence for, as it or a sibling of it chose them; none, or one clause."""
    judged = {_arm(row) for row in rows}
    out = distinct(
        f"{row.method}{mark(row)}"
        for row in competing(results)
        if row.metric == metric and mark(row) and _arm(row) not in judged
    )
    return [f"not judged by it: {', '.join(out)}"] if out else []


def _place(results: Results, row: ComparisonRow) -> str:
    """Where an effect is: what of model, setting and prompts differs within the run."""
    rows = pooled(results.comparisons)
    parts = [say(row) for say in _PLACES if len({say(one) for one in rows}) > 1]
    return f" ({', '.join(parts)})" if parts else ""


_PLACES: tuple[Callable[[ComparisonRow], str], ...] = (
    lambda row: row.model,
    setting,
    lambda row: prompts_name(row.prompts),
)
