"""The verdict in plain words.

A method is judged by the first metric that is independent evidence for it; where there is none, by the first that it
does not optimise, which is then said.
"""

from __future__ import annotations

from typing import Any

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

# The verdict ---------------------------------------------------------------------------------------------------------


def headline(results: Results) -> str:
    """The whole verdict as one sentence with its interval, by the first metric that is evidence for a method."""
    groups = _groups(results)
    if not groups:
        return "Nothing was compared."
    controls = {row.get("method") for row in results.get("controls") or []}
    shown = [(effect(results, fair[0]), fair) for rows in groups if (fair := _fair(rows))]
    judged = [(found, fair) for found, fair in shown if found != "unknown" and fair[0]["method"] not in controls]
    if not judged:
        said = "no complete comparison of a method, other than controls, on a metric that it does not optimise"
        return f"Nothing can be judged: {said}."
    # Win rates have one scale on all metrics; deltas have not.
    judged.sort(key=lambda pair: -(finite(pair[1][0].get("win_rate")) or 0.0))
    chosen = next((pair for word in ("better", "worse", "none") for pair in judged if pair[0] == word), judged[0])
    start = "So far: " if (results.get("run") or {}).get("finished") is False else ""
    if any(row.get("ok") is False for row in results.get("controls") or []):
        start += "A control does not behave, so nothing below is to be believed yet; as it stands: "
    rest = [found for found, fair in judged if fair is not chosen[1]]
    said = f"{start}{_headline_of(results, *chosen)}{_others(rest)}."
    return said if said.startswith(chosen[1][0]["method"]) else said[0].upper() + said[1:]


def _headline_of(results: Results, found: str, fair: list[Row]) -> str:
    row, digits = fair[0], places(results, fair[0]["metric"])
    baseline = row.get("baseline") or baseline_name(results)
    place = f" ({row['model']}, {setting(row)})" if len({group[0][:2] for group in _keyed(results)}) > 1 else ""
    delta = f"{number(row['delta'], digits, sign=True)} {interval(row['low'], row['high'], digits, sign=True)}"
    said = ", ".join([delta.strip(), *_win_rate(row)])
    found_elsewhere = {word: [_named(other) for other in fair[1:] if effect(results, other) == word]
                       for word in ("better", "worse")}  # fmt: skip
    clauses = [f"clearly {word} on {', '.join(names)}" for word, names in found_elsewhere.items() if names]
    elsewhere = f" ({'; '.join(clauses)})" if clauses else ""
    where = f"on {row['metric']}{_dependent(row)}{place}"
    if found == "better":
        return f"{row['method']} is clearly better than {baseline} {where}: {said}{elsewhere}"
    any_near = any(one.get("sibling") for one in results.get("comparisons") or [])
    by = "is independent evidence for it" if any_near else "it does not optimise"
    none = f"by the first metric that {by}, no method is shown to be better than {baseline}"
    if found == "worse":
        return f"{none}, and {row['method']} is clearly worse, {where}: {said}{elsewhere}"
    first = "has the highest win rate" if _win_rate(row) else "for one"
    return f"{none}; {row['method']} {first}, {where}: {said}{elsewhere}"


def _named(row: Row) -> str:
    """A comparison's metric with its mark."""
    return f"{row['metric']}{mark(row)}"


def _dependent(row: Row) -> str:
    return " (no independent evidence, ‡)" if row.get("sibling") else ""


def _win_rate(row: Row) -> list[str]:
    """A comparison's win rate in words; nothing where the metric judges whole sets and has none."""
    known = finite(row.get("win_rate")) is not None
    return [f"win rate {percent(row['win_rate'], row.get('win_low'), row.get('win_high'))}"] if known else []


def _others(found: list[str]) -> str:
    """What the comparisons that the headline does not name show, as counts."""
    verbs = {"better": ("is", "are", " clearly better"), "worse": ("is", "are", " clearly worse"),
             "none": ("shows", "show", " no effect")}  # fmt: skip
    counts = {word: found.count(word) for word in verbs if word in found}
    said = [f"{count} {verbs[word][count > 1]}{verbs[word][2]}" for word, count in counts.items()]
    if len(counts) < 2:
        return "".join(f"; the other {words.removeprefix('1 ')}" for words in said)
    return f"; of the other {len(found)}, {', '.join(said[:-1])} and {said[-1]}"


def verdicts(results: Results) -> list[str]:
    """The verdicts that the results carry, else our own sentences, one a method."""
    return list(results.get("verdicts") or []) or sentences(results)


def sentences(results: Results) -> list[str]:
    """The verdict in plain words: one sentence a method on pooled prompts, by the first metric that is evidence."""
    groups = _keyed(results)
    many = len({key[:2] for key, _ in groups}) > 1
    return [_sentence(results, rows, place=many) for _, rows in groups]


def _keyed(results: Results) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """Comparisons on pooled prompts by (setting, prompts, method), each group in the order of the metrics."""
    order = {name: index for index, name in enumerate(results.get("metrics") or {})}
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in pooled(results.get("comparisons") or []):
        groups.setdefault((setting_key(row), row.get("prompts"), row.get("method")), []).append(row)
    return [
        (key, sorted(rows, key=lambda row: order.get(str(row["metric"]), len(order)))) for key, rows in groups.items()
    ]


def _groups(results: Results) -> list[list[Row]]:
    return [rows for _, rows in _keyed(results)]


def _fair(rows: list[Row]) -> list[Row]:
    """A method's comparisons that are evidence, independent ones first; none where one of all is incomplete."""
    return _evidence(rows) if all(row.get("complete") for row in rows) else []


def _evidence(rows: list[Row]) -> list[Row]:
    """Comparisons on metrics that the method does not optimise, those with no sibling of one first."""
    return sorted((row for row in rows if not row.get("marked")), key=lambda row: bool(row.get("sibling")))


def _sentence(results: Results, rows: list[Row], *, place: bool) -> str:
    method, baseline = rows[0]["method"], rows[0].get("baseline") or baseline_name(results)
    where = f"{rows[0]['model']} ({setting(rows[0])}), {prompts_name(rows[0]['prompts'])}: " if place else ""
    start = f"{where}{method} against {baseline}"
    if not all(row.get("complete") for row in rows):
        return f"{start}: incomplete, not judged."
    fair = _evidence(rows)
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
    if size is not None:
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
