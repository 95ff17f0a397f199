"""The verdict on every method, in plain words.

A method is judged by the headline's metric where that is independent evidence for it, else by the first that is; where
there is none, by the first that it does not optimise, which is then said.
"""

from __future__ import annotations

from typing import Any

from bench.report.strongest import headline_metric
from bench.report.words import (
    Results,
    Row,
    baseline_name,
    effect,
    finite,
    higher_is_better,
    interval,
    mark,
    number,
    p_value,
    percent,
    places,
    pooled,
    prompts_name,
    setting,
    setting_key,
)


def _named(row: Row) -> str:
    """A comparison's metric with its mark."""
    return f"{row['metric']}{mark(row)}"


def _dependent(row: Row) -> str:
    return " (no independent evidence, ‡)" if row.get("sibling") else ""


def _win_rate(row: Row) -> list[str]:
    """A comparison's win rate in words; nothing where the metric judges whole sets and has none."""
    known = finite(row.get("win_rate")) is not None
    return [f"win rate {percent(row['win_rate'], row.get('win_low'), row.get('win_high'))}"] if known else []


def sentences(results: Results) -> list[str]:
    """The verdict in plain words: one sentence a method on pooled prompts."""
    groups = _keyed(results)
    many = len({key[:2] for key, _ in groups}) > 1
    first = headline_metric(results)
    return [_sentence(results, rows, place=many, first=first) for _, rows in groups]


def _keyed(results: Results) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """Comparisons on pooled prompts by (setting, prompts, method), each group in the order of the metrics."""
    order = {name: index for index, name in enumerate(results.get("metrics") or {})}
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in pooled(results.get("comparisons") or []):
        groups.setdefault((setting_key(row), row.get("prompts"), row.get("method")), []).append(row)
    return [
        (key, sorted(rows, key=lambda row: order.get(str(row["metric"]), len(order)))) for key, rows in groups.items()
    ]


def _evidence(rows: list[Row], *, first: str | None) -> list[Row]:
    """Comparisons on metrics that the method does not optimise: those with no sibling of one, then `first`, first."""
    fair = [row for row in rows if not row.get("marked")]
    return sorted(fair, key=lambda row: (bool(row.get("sibling")), row["metric"] != first))


def _sentence(results: Results, rows: list[Row], *, place: bool, first: str | None) -> str:
    method, baseline = rows[0]["method"], rows[0].get("baseline") or baseline_name(results)
    where = f"{rows[0]['model']} ({setting(rows[0])}), {prompts_name(rows[0]['prompts'])}: " if place else ""
    start = f"{where}{method} against {baseline}"
    if not all(row.get("complete") for row in rows):
        return f"{start}: incomplete, not judged."
    fair = _evidence(rows, first=first)
    if not fair:
        return f"{start}: judged only by what it optimises ({', '.join(row['metric'] for row in rows)}); no evidence."
    expected = {(control.get("method"), control.get("metric")): control for control in results.get("controls") or []}
    control = expected.get((method, fair[0]["metric"]))
    start += f" on {fair[0]['metric']}{_dependent(fair[0])}" + (
        f" (a control, expected {control['expect']})" if control else ""
    )
    return f"{start}: {_finding(results, fair[0])}.{_elsewhere(results, fair[1:])}"


def _finding(results: Results, row: Row) -> str:
    if finite(row.get("delta")) is None:
        return "not measured"
    digits = places(results, row["metric"])
    direction = "" if higher_is_better(results, row["metric"]) else " (lower is better)"
    parts = [
        f"{number(row['delta'], digits, sign=True)} {interval(row['low'], row['high'], digits, sign=True)}{direction}",
        *_win_rate(row),
        f"n = {row.get('n')} pairs on {row.get('n_prompts')} prompts",
    ]
    return f"{', '.join(part.strip() for part in parts)}; {_conclusion(results, row)}"


def _conclusion(results: Results, row: Row) -> str:
    found, p = effect(results, row), p_value(row.get("p_holm"))
    adjusted = f"adjusted {p}" if p else ""
    if found in ("better", "worse"):
        return f"{'a clear improvement' if found == 'better' else 'a clear harm'} ({adjusted})"
    if found == "unknown":
        return "no interval, not judged"
    reasons = []
    if not row["low"] <= 0 <= row["high"]:
        reasons.append(adjusted or "no adjusted p-value")
    size = finite(row.get("detectable"))
    if size == 0:
        reasons.append("n and variance give no smallest effect: all differences are exactly 0")
    elif size is not None:
        reasons.append(f"a delta of {size:.2g} would have been found with 80 % power")
    return f"no effect shown ({'; '.join(reasons)})" if reasons else "no effect shown"


def _elsewhere(results: Results, rows: list[Row]) -> str:
    """What the other metrics show, so that the headline metric does not hide a harm."""
    found = {word: [_named(row) for row in rows if effect(results, row) == word] for word in ("better", "worse")}
    clauses = [f"clearly {word} on {', '.join(names)}" for word, names in found.items() if names]
    silent = len(rows) - sum(map(len, found.values()))
    if silent:
        clauses.append(f"nothing shown on {silent} other{'s' if silent > 1 else ''}")
    return f" Elsewhere: {'; '.join(clauses)}." if clauses else ""
