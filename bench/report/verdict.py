"""The verdict in plain words, and how far to trust it."""

from __future__ import annotations

from typing import Any

from bench.report.about import differences, folder_name, runs
from bench.report.words import (
    ALPHA,
    MISSING,
    Results,
    Row,
    baseline_name,
    distinct,
    effect,
    finite,
    higher_is_better,
    interval,
    lacking,
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
    """The whole verdict as one sentence with its interval, by the first metric that a method does not optimise."""
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
    found_elsewhere = {word: [other["metric"] for other in fair[1:] if effect(results, other) == word]
                       for word in ("better", "worse")}  # fmt: skip
    clauses = [f"clearly {word} on {', '.join(names)}" for word, names in found_elsewhere.items() if names]
    elsewhere = f" ({'; '.join(clauses)})" if clauses else ""
    where = f"on {row['metric']}{place}"
    if found == "better":
        return f"{row['method']} is clearly better than {baseline} {where}: {said}{elsewhere}"
    none = f"by the first metric that it does not optimise, no method is shown to be better than {baseline}"
    if found == "worse":
        return f"{none}, and {row['method']} is clearly worse, {where}: {said}{elsewhere}"
    first = "has the highest win rate" if _win_rate(row) else "for one"
    return f"{none}; {row['method']} {first}, {where}: {said}{elsewhere}"


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
    """The verdict in plain words: one sentence a method on pooled prompts, by the first metric it does not optimise."""
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
    """A method's comparisons that are evidence: none where one is incomplete, and no metric that it optimises."""
    return [row for row in rows if not row.get("marked")] if all(row.get("complete") for row in rows) else []


def _sentence(results: Results, rows: list[Row], *, place: bool) -> str:
    method, baseline = rows[0]["method"], rows[0].get("baseline") or baseline_name(results)
    where = f"{rows[0]['model']} ({setting(rows[0])}), {prompts_name(rows[0]['prompts'])}: " if place else ""
    start = f"{where}{method} against {baseline}"
    if not all(row.get("complete") for row in rows):
        return f"{start}: incomplete, not judged."
    fair = [row for row in rows if not row.get("marked")]
    if not fair:
        return f"{start}: judged only by what it optimises ({', '.join(row['metric'] for row in rows)}); no evidence."
    expected = {(control.get("method"), control.get("metric")): control for control in results.get("controls") or []}
    control = expected.get((method, fair[0]["metric"]))
    start += f" on {fair[0]['metric']}" + (f" (a control, expected {control['expect']})" if control else "")
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
    found = {word: [row["metric"] for row in rows if effect(results, row) == word] for word in ("better", "worse")}
    clauses = [f"clearly {word} on {', '.join(names)}" for word, names in found.items() if names]
    silent = len(rows) - sum(map(len, found.values()))
    if silent:
        clauses.append(f"nothing shown on {silent} other{'s' if silent > 1 else ''}")
    return f" Elsewhere: {'; '.join(clauses)}." if clauses else ""


REASONS = 5
"""Reasons of failed images that a report tells."""

# How far to trust it -------------------------------------------------------------------------------------------------


def trust(results: Results) -> list[tuple[str, str]]:
    """(`alarm` | `caution` | `fact`, sentence) pairs; a control that does not behave comes first."""
    return [*_controls(results), *_cautions(results), *_power(results)]


def _controls(results: Results) -> list[tuple[str, str]]:
    said = results.get("controls") or []
    alarms = [("alarm", f"A control does not behave: {row['sentence']}") for row in said if row.get("ok") is False]
    unclear = [
        ("caution", f"A control could not be judged: {row['sentence']}") for row in said if row.get("ok") is None
    ]
    behave = sum(row.get("ok") is True for row in said)
    judged = sum(row.get("ok") is not None for row in said)
    facts = [("fact", f"{behave} of {judged} controls that could be judged behave as expected.")] if said else []
    return [*alarms, *unclear, *(facts or [("caution", "No control was run.")])]


def _cautions(results: Results) -> list[tuple[str, str]]:
    suite, known = results.get("suite", {}), runs(results)
    open_runs = [run for run in [results.get("run") or {}, *known] if run.get("finished") is False]
    found = []
    if open_runs and len(known) > 1:
        names = ", ".join(distinct(folder_name(run) for run in open_runs))
        found.append(f"Not all merged runs are finished ({names}); these are results so far.")
    elif open_runs:
        found.append("The run is not finished; these are results so far.")
    if len(known) > 1:
        differ = differences(results)
        found.append(f"Merged from {len(known)} runs that differ in {', '.join(differ)}; see Provenance." if differ else
                     f"Merged from {len(known)} runs; nothing that was recorded of them differs.")  # fmt: skip
        if "hardware" in differ:
            found.append("Times are those of the most frequent hardware; they say nothing of the other.")
    if suite.get("twin"):
        found.append("Embedded stand-ins (twins) ran in place of the paper's models, prompts and scorers.")
    if suite.get("limit") is not None:
        found.append(f"Limited to {suite['limit']} prompts a set.")
    if any((run.get("provenance") or {}).get("dirty") for run in known):
        found.append("The code had uncommitted changes.")
    for arm in pooled(results.get("arms") or []):
        if not arm.get("complete"):
            where = f"{arm['model']} ({setting(arm)}), {prompts_name(arm['prompts'])}"
            found.append(f"Incomplete, shown but not ranked: {arm['method']} on {where}: {lacking(arm, 'images')}.")
    found += _failed(results)
    marks = distinct((row["method"], row["metric"]) for row in results.get("comparisons") or [] if row.get("marked"))
    found += [f"{method} optimises {metric}: its {metric} is marked † and no evidence." for method, metric in marks]
    return [("caution", text) for text in found]


def _failed(results: Results) -> list[str]:
    """One sentence a reason for images that could not be made, the most frequent reasons first."""
    rows = sorted(results.get("failed") or [], key=lambda row: -row["n"])
    found = []
    for row in rows[:REASONS]:
        first, where = row["images"][0], f"{row['model']}, {setting(row)}"
        images = "1 image" if row["n"] == 1 else f"{row['n']:,} images"
        place = f"{first['prompts']} {first['index']}, seed {first['seed']}"
        found.append(
            f"{images} of {row['method']} ({where}) could not be made: {row['reason'].rstrip('.')}; "
            f"{'it is' if row['n'] == 1 else 'the first is'} {place}."
        )
    more = rows[REASONS:]
    if more:
        n = sum(row["n"] for row in more)
        found.append(f"{n:,} more images could not be made, for {len(more)} other reasons; see results.json.")
    return found


def _power(results: Results) -> list[tuple[str, str]]:
    rows = [row for row in pooled(results.get("comparisons") or []) if row.get("complete")]
    if not rows:
        return [("caution", "Nothing was compared.")]
    pairs, prompts = [sorted({row[key] for row in rows if row.get(key) is not None}) for key in ("n", "n_prompts")]
    facts = [
        f"{_span(pairs)} pairs on {_span(prompts)} prompts a comparison; intervals are 95 %, paired and clustered by "
        f"prompt; an effect counts as shown when its interval excludes zero and its Holm-adjusted p is at most {ALPHA}."
    ]
    sizes = {}
    for name in distinct(row["metric"] for row in rows):
        known = [
            row["detectable"] for row in rows if row["metric"] == name and finite(row.get("detectable")) is not None
        ]
        if known:
            sizes[name] = max(known)
    if sizes:
        listed = ", ".join(f"{name} {size:.2g}" for name, size in sizes.items())
        facts.append(f"Smallest delta found with 80 % power, in the least certain comparison: {listed}.")
    return [("fact", text) for text in facts]


def _span(values: list[Any]) -> str:
    """`400`, or `200 to 400`."""
    return MISSING if not values else str(values[0]) if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
