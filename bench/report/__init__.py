"""Results as a report: one dict in, report.md and report.html out.

This module holds what both forms say in the same words: how a number is printed, when an effect counts as shown,
the verdict, and how far to trust it. `markdown` lays the tables out, `html` and `figures` draw them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from bench.suite import EVERY_PROMPT_SET as POOLED

Results = dict[str, Any]
Row = dict[str, Any]

ALPHA = 0.05
MISSING = "n/a"


def write(results: Results, folder: Path) -> list[Path]:
    """Write report.md and report.html into `folder`, each whole or not at all; returns their paths."""
    # Imported here: both submodules use this module's words, and jinja2 is only needed when a report is written.
    from bench.report import html, markdown
    from bench.store import write_atomically

    folder.mkdir(parents=True, exist_ok=True)
    texts = {"report.md": markdown.render(results), "report.html": html.render(results, folder)}
    for name, text in texts.items():
        # A prompt may hold half a surrogate pair, which UTF-8 cannot.
        write_atomically(folder / name, text.encode("utf-8", "replace"))
    return [folder / name for name in texts]


# Numbers ------------------------------------------------------------------------------------------------------------


def finite(value: Any) -> float | None:
    """The number, or None where nothing was measured (null, NaN, infinity)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def number(value: Any, places: int, *, sign: bool = False) -> str:
    """A number to `places` decimals, `n/a` where it was not measured; never a negative zero."""
    known = finite(value)
    if known is None:
        return MISSING
    rounded = round(known, places) + 0.0
    return f"{rounded:+,.{places}f}" if sign and rounded else f"{rounded:,.{places}f}"


def interval(low: Any, high: Any, places: int, *, sign: bool = False) -> str:
    """`[low, high]`, or nothing where no interval is known."""
    if finite(low) is None or finite(high) is None:
        return ""
    return f"[{number(low, places, sign=sign)}, {number(high, places, sign=sign)}]"


def percent(value: Any, low: Any = None, high: Any = None) -> str:
    """A share as `51.2 % [48.0, 54.3]`."""
    share, low, high = (None if finite(part) is None else 100 * part for part in (value, low, high))
    if share is None:
        return MISSING
    return f"{number(share, 1)} % {interval(low, high, 1)}".rstrip()


def p_value(value: Any) -> str:
    """`p < 0.001`, `p = 0.012`, or nothing where none is known."""
    known = finite(value)
    if known is None:
        return ""
    return "p < 0.001" if known < 0.001 else f"p = {known:.3f}" if known < 0.1 else f"p = {known:.2f}"


def places(results: Results, metric: str) -> int:
    """Decimals for a metric: two significant digits of its typical half-width, the same throughout the report."""
    rows = [row for row in results.get("comparisons") or [] if row.get("metric") == metric]
    rows += [arm["metrics"][metric] for arm in results.get("arms") or [] if (arm.get("metrics") or {}).get(metric)]
    bounds = [(finite(row.get("low")), finite(row.get("high"))) for row in rows]
    widths = [(high - low) / 2 for low, high in bounds if low is not None and high is not None and high > low]
    return min(6, max(0, 1 - math.floor(math.log10(median(widths))))) if widths else 3


# What was compared ---------------------------------------------------------------------------------------------------


def distinct(rows: Iterable[Any]) -> list[Any]:
    """Each value once, in the order of its first appearance."""
    return list(dict.fromkeys(rows))


def setting_key(row: Row) -> tuple[Any, ...]:
    """What is held fixed between a method and its baseline, apart from the prompts."""
    return row.get("model"), row.get("sampler"), row.get("steps"), row.get("guidance")


def setting(row: Row) -> str:
    """`ddim, 50 steps, g 5.5`: the sampler's side of a setting in words."""
    return f"{row.get('sampler')}, {row.get('steps')} steps, g {row.get('guidance')}"


def prompts_name(prompts: str) -> str:
    """A prompt set's name; the pooled sets are called all sets."""
    return "all sets" if prompts == POOLED else prompts


def baseline_name(results: Results) -> str:
    """The method that all others are paired with."""
    return str(results.get("suite", {}).get("baseline") or "standard")


def higher_is_better(results: Results, metric: str) -> bool:
    """A metric's direction; True unless it says otherwise."""
    return (results.get("metrics", {}).get(metric) or {}).get("higher_is_better") is not False


def pooled(rows: list[Row]) -> list[Row]:
    """The rows over all prompt sets; where a setting has no such row, those of its single sets."""
    with_pool = {setting_key(row) for row in rows if row.get("prompts") == POOLED}
    return [row for row in rows if row.get("prompts") == POOLED or setting_key(row) not in with_pool]


def effect(results: Results, row: Row) -> str:
    """`better`, `worse`, `none` shown, or `unknown`: shown means an interval without zero and a Holm p <= 0.05."""
    low, high, p = finite(row.get("low")), finite(row.get("high")), finite(row.get("p_holm"))
    if not row.get("complete") or low is None or high is None:
        return "unknown"
    if p is None or p > ALPHA or low <= 0 <= high:
        return "none"
    return "better" if (low > 0) == higher_is_better(results, str(row["metric"])) else "worse"


# The verdict ---------------------------------------------------------------------------------------------------------


def sentences(results: Results) -> list[str]:
    """The verdict in plain words: one sentence a method on pooled prompts, by the first metric it does not optimise."""
    order = {name: index for index, name in enumerate(results.get("metrics") or {})}
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in pooled(results.get("comparisons") or []):
        groups.setdefault((setting_key(row), row.get("prompts"), row.get("method")), []).append(row)
    many = len({key[:2] for key in groups}) > 1
    return [
        _sentence(results, sorted(rows, key=lambda row: order.get(str(row["metric"]), len(order))), place=many)
        for rows in groups.values()
    ]


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
        f"win rate {percent(row.get('win_rate'), row.get('win_low'), row.get('win_high'))}",
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
    facts = [("fact", f"{behave} of {len(said)} controls behave as expected.")] if said else []
    return [*alarms, *unclear, *(facts or [("caution", "No control was run.")])]


def _cautions(results: Results) -> list[tuple[str, str]]:
    suite, run = results.get("suite", {}), results.get("run", {})
    found = []
    if run.get("finished") is False:
        found.append("The run is not finished; these are results so far.")
    if suite.get("twin"):
        found.append("Embedded stand-ins (twins) ran in place of the paper's models, prompts and scorers.")
    if suite.get("limit") is not None:
        found.append(f"Limited to {suite['limit']} prompts a set.")
    if (run.get("provenance") or {}).get("dirty"):
        found.append("The code had uncommitted changes.")
    for arm in pooled(results.get("arms") or []):
        if not arm.get("complete"):
            where = f"{arm['model']} ({setting(arm)}), {prompts_name(arm['prompts'])}"
            found.append(f"Incomplete, shown but not ranked: {arm['method']} on {where}: {arm['n']} of "
                         f"{arm['n_expected']} images.")  # fmt: skip
    marks = distinct((row["method"], row["metric"]) for row in results.get("comparisons") or [] if row.get("marked"))
    found += [f"{method} optimises {metric}: its {metric} is marked † and no evidence." for method, metric in marks]
    return [("caution", text) for text in found]


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
