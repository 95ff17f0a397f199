"""The words of a report: how a number is printed, what a comparison is called, when an effect counts as shown."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median
from typing import Any

from bench import registry
from bench.store import ELSEWHERE
from bench.suite import EVERY_PROMPT_SET

Results = dict[str, Any]
Row = dict[str, Any]

POOLED = EVERY_PROMPT_SET
ALPHA = 0.05
MISSING = "n/a"

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
    if row.get("sampler") == ELSEWHERE:
        return "images made elsewhere"
    return f"{row.get('sampler')}, {row.get('steps')} steps, g {row.get('guidance')}"


def prompts_name(prompts: str) -> str:
    """A prompt set's name; the pooled sets are called all sets."""
    return "all sets" if prompts == POOLED else prompts


def baseline_name(results: Results) -> str:
    """The method that all others are paired with."""
    return str(results.get("suite", {}).get("baseline") or "standard")


OPTIMISED, SIBLING = " †", " ‡"
"""The marks of a value that is no evidence for its method, and of one that is no independent evidence."""
SIBLING_NOTE = (
    "‡ The method was chosen or tuned by a metric with which this one shares labels, a detector or a rule: no "
    "independent evidence."
)


def mark(row: Row | None) -> str:
    """What stands behind a comparison's numbers: ` †`, ` ‡` or nothing."""
    return "" if not row else OPTIMISED if row.get("marked") else SIBLING if row.get("sibling") else ""


def mark_of(arm: Row, metric: str) -> str:
    """The same for a metric of an arm."""
    if metric in (arm.get("optimises") or []):
        return OPTIMISED
    return SIBLING if any(one["metric"] == metric for one in arm.get("siblings") or []) else ""


def higher_is_better(results: Results, metric: str) -> bool:
    """A metric's direction; True unless it says otherwise."""
    return (results.get("metrics", {}).get(metric) or {}).get("higher_is_better") is not False


def metric_title(results: Results, name: str) -> str:
    """A metric's name for readers."""
    return str(((results.get("metrics") or {}).get(name) or {}).get("title") or name)


def mixed(metric: str) -> bool:
    """Whether a mean of the metric over its categories is no quantity of its own: they have scores of other kinds."""
    return metric in registry.names("metrics") and registry.get("metrics", metric).overall == "none"


def categories(metrics: Iterable[str]) -> list[str]:
    """The categories by which metrics are reported, in their sources' order; of those that are installed here."""
    known = registry.names("metrics")
    return distinct(
        name for metric in metrics if metric in known for name in registry.get("metrics", metric).categories
    )


def kind(results: Results, metric: str) -> str:
    """What a metric is of: `image`, `pair` or `set`; older results know images only."""
    return str((results.get("metrics", {}).get(metric) or {}).get("kind") or "image")


def pooled(rows: list[Row]) -> list[Row]:
    """The rows over all prompt sets; where a setting has no such row, those of its single sets."""
    with_pool = {setting_key(row) for row in rows if row.get("prompts") == POOLED}
    return [row for row in rows if row.get("prompts") == POOLED or setting_key(row) not in with_pool]


def lacking(arm: Row, what: str = "") -> str:
    """What an incomplete arm has: `3 of 4 images`, or that it is scores that are missing."""
    if arm.get("n") is not None and arm.get("n") == arm.get("n_expected"):
        return "scores are missing"
    return f"{arm.get('n')} of {arm.get('n_expected')} {what}".rstrip()


def effect(results: Results, row: Row) -> str:
    """`better`, `worse`, `none` shown, or `unknown`: shown means an interval without zero and a Holm p <= 0.05."""
    low, high, p = finite(row.get("low")), finite(row.get("high")), finite(row.get("p_holm"))
    if not row.get("complete") or low is None or high is None:
        return "unknown"
    if p is None or p > ALPHA or low <= 0 <= high:
        return "none"
    return "better" if (low > 0) == higher_is_better(results, str(row["metric"])) else "worse"
