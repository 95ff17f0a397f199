"""The words of a report: how a number is printed, what a comparison is called, when an effect counts as shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, TypeVar

from bench import registry
from bench.records import ArmRow
from bench.report.parts import AnyLabelled, Bounded, Compared, Counted, Delta, Marked, Sampled
from bench.store import ELSEWHERE
from bench.suite import EVERY_PROMPT_SET

T = TypeVar("T")

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


def interval(low: float | None, high: float | None, places: int, *, sign: bool = False) -> str:
    """`[low, high]`, or nothing where no interval is known."""
    if low is None or high is None:
        return ""
    return f"[{number(low, places, sign=sign)}, {number(high, places, sign=sign)}]"


def percent(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A share as `51.2 % [48.0, 54.3]`."""
    share, low, high = (None if part is None else 100 * part for part in (value, low, high))
    if share is None:
        return MISSING
    return f"{number(share, 1)} % {interval(low, high, 1)}".rstrip()


def all_known(first: float | None, second: float | None, third: float | None) -> tuple[float, float, float] | None:
    """Three numbers, such as a delta and its bounds; None where one of them was not measured."""
    return None if first is None or second is None or third is None else (first, second, third)


def p_value(value: float | None) -> str:
    """`p < 0.001`, `p = 0.012`, or nothing where none is known."""
    if value is None:
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def places(of: Compared, metric: str) -> int:
    """Decimals for a metric: two significant digits of its typical half-width, the same throughout the report."""
    rows: list[Bounded] = [row for row in of.comparisons if row.metric == metric]
    rows += [arm.metrics[metric] for arm in of.arms if isinstance(arm, ArmRow) and metric in arm.metrics]
    bounds = [(row.low, row.high) for row in rows]
    widths = [(high - low) / 2 for low, high in bounds if low is not None and high is not None and high > low]
    return min(6, max(0, 1 - math.floor(math.log10(median(widths))))) if widths else 3


# What was compared ---------------------------------------------------------------------------------------------------


def distinct(rows: Iterable[T]) -> list[T]:
    """Each value once, in the order of its first appearance."""
    return list(dict.fromkeys(rows))


def setting_key(row: Sampled) -> tuple[str, str, int, float]:
    """What is kept fixed between a method and its baseline, apart from the prompts."""
    return row.model, row.sampler, row.steps, row.guidance


def setting(row: Sampled) -> str:
    """`ddim, 50 steps, g 5.5`: the sampler's side of a setting in words."""
    if row.sampler == ELSEWHERE:
        return "images made elsewhere"
    return f"{row.sampler}, {row.steps} steps, g {row.guidance}"


def prompts_name(prompts: str) -> str:
    """A prompt set's name; the pooled sets are called all sets."""
    return "all sets" if prompts == POOLED else prompts


OPTIMISED, SIBLING = " †", " ‡"
"""The marks of a value that is no evidence for its method, and of one that is no independent evidence."""
OPTIMISED_NOTE = "† Chosen using this score, so a gain here does not count."
SIBLING_NOTE = (
    "‡ The method was chosen or tuned by a metric with which this one shares labels, a detector or a rule: no "
    "independent evidence."
)


def mark(row: Marked | None) -> str:
    """What stands behind a comparison's numbers: ` †`, ` ‡` or nothing."""
    return "" if row is None else OPTIMISED if row.marked else SIBLING if row.sibling else ""


def mark_of(arm: ArmRow | None, metric: str) -> str:
    """The same for a metric of an arm."""
    if arm is None:
        return ""
    if metric in arm.optimises:
        return OPTIMISED
    return SIBLING if any(one.metric == metric for one in arm.siblings) else ""


def higher_is_better(of: Compared, metric: str) -> bool:
    """A metric's direction."""
    return of.metrics[metric].higher_is_better


def metric_title(of: Compared, name: str) -> str:
    """A metric's one name for readers; as it is where the run has no such metric, as of one that chose a method."""
    if name not in of.metrics:
        return name
    title = of.metrics[name].title
    shared = sum(metric.title == title for metric in of.metrics.values()) > 1
    return f"{title} ({name})" if shared else title


def mixed(metric: str) -> bool:
    """Whether a mean of the metric over its categories is no quantity of its own: they have scores of other kinds."""
    return metric in registry.names("metrics") and registry.get("metrics", metric).overall == "none"


def categories(metrics: Iterable[str]) -> list[str]:
    """The categories by which metrics are reported, in their sources' order; of those that are installed here."""
    known = registry.names("metrics")
    return distinct(
        name for metric in metrics if metric in known for name in registry.get("metrics", metric).categories
    )


def kind(of: Compared, metric: str) -> str:
    """What a metric is of: `image`, `pair` or `set`."""
    return of.metrics[metric].kind


def pooled(rows: Sequence[AnyLabelled]) -> list[AnyLabelled]:
    """The rows over all prompt sets; where a setting has no such row, those of its single sets."""
    with_pool = {setting_key(row) for row in rows if row.prompts == POOLED}
    return [row for row in rows if row.prompts == POOLED or setting_key(row) not in with_pool]


def lacking(arm: Counted, what: str = "") -> str:
    """What an incomplete arm has: `3 of 4 images`, or that it is scores that are missing."""
    if arm.n == arm.n_expected:
        return "scores are missing"
    return f"{arm.n} of {arm.n_expected} {what}".rstrip()


def effect(of: Compared, row: Delta) -> str:
    """`better`, `worse`, `none` shown, or `unknown`: shown means an interval without zero and a Holm p <= 0.05."""
    low, high, p = row.low, row.high, row.p_holm
    if not row.complete or low is None or high is None:
        return "unknown"
    if p is None or p > ALPHA or low <= 0 <= high:
        return "none"
    return "better" if (low > 0) == higher_is_better(of, row.metric) else "worse"
