"""The verdict on every method, in plain words.

A method is judged by the headline's metric where that is independent evidence for it, else by the first that is; where
there is none, by the first that it does not optimise, which is then said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench.records import ControlRow, Results
from bench.report.parts import Against, Compared, Delta
from bench.report.strongest import headline_metric
from bench.report.words import (
    effect,
    higher_is_better,
    interval,
    mark,
    metric_title,
    number,
    p_value,
    percent,
    places,
    pooled,
    prompts_name,
    setting,
    setting_key,
)


def _named(of: Compared, row: Delta) -> str:
    """A comparison's metric with its mark."""
    return f"{metric_title(of, row.metric)}{mark(row)}"


def _dependent(row: Delta) -> str:
    return " (no independent evidence, ‡)" if row.sibling else ""


def _win_rate(row: Delta) -> list[str]:
    """A comparison's win rate in words; nothing where the metric judges whole sets and has none."""
    return [] if row.win_rate is None else [f"win rate {percent(row.win_rate, row.win_low, row.win_high)}"]


def sentences(results: Results) -> list[str]:
    """The verdict in plain words: one sentence a method on pooled prompts."""
    return method_sentences(results, results.comparisons, first=headline_metric(results), controls=results.controls)


def method_sentences(
    of: Compared, rows: Sequence[Against], *, first: str | None, controls: Iterable[ControlRow] = ()
) -> list[str]:
    """One sentence for each method of some comparisons, by the metric `first` where that judges it."""
    groups = _by_method(of, rows)
    many = len({(setting_key(group[0]), group[0].prompts) for group in groups}) > 1
    expected = {(control.method, control.metric): control.expect for control in controls}
    return [_sentence(of, group, place=many, first=first, expected=expected) for group in groups]


def _by_method(of: Compared, rows: Sequence[Against]) -> list[list[Against]]:
    """Comparisons on pooled prompts by (setting, prompts, method), each group in the order of the metrics."""
    order = {name: index for index, name in enumerate(of.metrics)}
    groups: dict[tuple[object, ...], list[Against]] = {}
    for row in pooled(rows):
        groups.setdefault((setting_key(row), row.prompts, row.method), []).append(row)
    return [sorted(group, key=lambda row: order[row.metric]) for group in groups.values()]


def _evidence(rows: list[Against], *, first: str | None) -> list[Against]:
    """Comparisons on metrics that the method does not optimise: those with no sibling of one, then `first`, first."""
    fair = [row for row in rows if not row.marked]
    return sorted(fair, key=lambda row: (row.sibling, row.metric != first))


def _sentence(
    of: Compared, rows: list[Against], *, place: bool, first: str | None, expected: Mapping[tuple[str, str], str]
) -> str:
    method, baseline = rows[0].method, rows[0].baseline
    where = f"{rows[0].model} ({setting(rows[0])}), {prompts_name(rows[0].prompts)}: " if place else ""
    start = f"{where}{method} against {baseline}"
    if not all(row.complete for row in rows):
        return f"{start}: incomplete, not judged."
    fair = _evidence(rows, first=first)
    if not fair:
        judges = ", ".join(metric_title(of, row.metric) for row in rows)
        return f"{start}: chosen using every score that judges it ({judges}), so a gain does not count."
    effect_known = expected.get((method, fair[0].metric))
    control = f" (a control, expected {effect_known})" if effect_known else ""
    start += f" on {metric_title(of, fair[0].metric)}{_dependent(fair[0])}{control}"
    return f"{start}: {_finding(of, fair[0])}.{_elsewhere(of, fair[1:])}"


def _finding(of: Compared, row: Delta) -> str:
    if row.delta is None:
        return "not measured"
    digits = places(of, row.metric)
    direction = "" if higher_is_better(of, row.metric) else " (lower is better)"
    p = p_value(row.p_holm)
    parts = [
        f"{number(row.delta, digits, sign=True)} {interval(row.low, row.high, digits, sign=True)}{direction}",
        *([f"adjusted {p}"] if p else []),
        *_win_rate(row),
        f"n = {row.n} pairs on {row.n_prompts} prompts",
    ]
    return f"{', '.join(part.strip() for part in parts)}; {_conclusion(of, row)}"


def _conclusion(of: Compared, row: Delta) -> str:
    found = effect(of, row)
    if found in ("better", "worse"):
        return "a clear improvement" if found == "better" else "a clear harm"
    if found == "unknown":
        return "no interval, not judged"
    reasons = []
    if row.p_holm is None and row.low is not None and row.high is not None and not row.low <= 0 <= row.high:
        reasons.append("no adjusted p-value")
    if row.detectable == 0:
        reasons.append("n and variance give no smallest effect: all differences are exactly 0")
    elif row.detectable is not None:
        reasons.append(f"only changes of about {row.detectable:.2g} or more could be detected")
    return f"no effect shown ({'; '.join(reasons)})" if reasons else "no effect shown"


def _elsewhere(of: Compared, rows: Sequence[Delta]) -> str:
    """What the other metrics show, so that the headline metric does not hide a harm."""
    found = {word: [_named(of, row) for row in rows if effect(of, row) == word] for word in ("better", "worse")}
    clauses = [f"clearly {word} on {', '.join(names)}" for word, names in found.items() if names]
    silent = len(rows) - sum(map(len, found.values()))
    if silent:
        clauses.append(f"nothing shown on {silent} other{'s' if silent > 1 else ''}")
    return f" Elsewhere: {'; '.join(clauses)}." if clauses else ""
