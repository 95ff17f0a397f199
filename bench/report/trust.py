"""How far to trust a report: controls, what is incomplete or failed, which metrics are no evidence, and power."""

from __future__ import annotations

from collections.abc import Sequence

from bench.kinship import KINDS
from bench.records import Results, Sibling
from bench.report.about import differences
from bench.report.strongest import chosen_by
from bench.report.words import (
    ALPHA,
    MISSING,
    distinct,
    lacking,
    metric_title,
    pooled,
    prompts_name,
    setting,
)

REASONS = 5
"""Reasons of failed images that a report tells."""


def trust(results: Results) -> list[tuple[str, str]]:
    """(`alarm` | `caution` | `fact`, sentence) pairs; a control that does not behave comes first."""
    said = chosen_by(results)
    return [*_controls(results), *_cautions(results), *([("fact", said)] if said else []), *_power(results)]


def _controls(results: Results) -> list[tuple[str, str]]:
    said = results.controls
    alarms = [("alarm", f"A control does not behave: {row.sentence}") for row in said if row.ok is False]
    unclear = [("caution", f"A control could not be judged: {row.sentence}") for row in said if row.ok is None]
    behave = sum(row.ok is True for row in said)
    judged = sum(row.ok is not None for row in said)
    facts = [("fact", f"{behave} of {judged} controls that could be judged behave as expected.")] if said else []
    return [*alarms, *unclear, *(facts or [("caution", "No control was run.")])]


def _cautions(results: Results) -> list[tuple[str, str]]:
    suite, known = results.suite, results.runs
    open_runs = [run for run in [results.run, *known] if not run.finished]
    found = []
    if open_runs and len(known) > 1:
        names = ", ".join(distinct(run.folder for run in open_runs))
        found.append(f"Not all merged runs are finished ({names}); these are results so far.")
    elif open_runs:
        found.append("The run is not finished; these are results so far.")
    if len(known) > 1:
        differ = differences(results)
        found.append(f"Merged from {len(known)} runs that differ in {', '.join(differ)}; see Provenance." if differ else
                     f"Merged from {len(known)} runs; nothing that was recorded of them differs.")  # fmt: skip
        if "hardware" in differ:
            found.append("Times are those of the most frequent hardware; they say nothing of the other.")
    if suite.twin:
        found.append("Embedded stand-ins (twins) ran in place of the paper's models, prompts and scorers.")
    if suite.limit is not None:
        found.append(f"Limited to {suite.limit} prompts a set.")
    if any(run.provenance.dirty for run in known):
        found.append("The code had uncommitted changes.")
    for arm in pooled(results.arms):
        if not arm.complete:
            where = f"{arm.model} ({setting(arm)}), {prompts_name(arm.prompts)}"
            found.append(f"Incomplete, shown but not ranked: {arm.method} on {where}: {lacking(arm, 'images')}.")
    found += _failed(results)
    marks = distinct((row.method, row.metric) for row in results.comparisons if row.marked)
    found += [f"{method} optimises {metric}: its {metric} is marked † and no evidence." for method, metric in marks]
    found += _siblings(results)
    return [("caution", text) for text in found]


def _siblings(results: Results) -> list[str]:
    """One sentence for each metric that chose or tuned methods: which others are no independent evidence, and why."""
    shown = {(row.model, row.method, row.metric)
             for row in results.comparisons if row.sibling}  # fmt: skip
    groups: dict[tuple[str, tuple[str, ...]], dict[str, None]] = {}
    for arm in results.arms:
        by: dict[str, list[str]] = {}
        for one in arm.siblings:
            if (arm.model, arm.method, one.metric) in shown:
                by.setdefault(one.of, []).append(f"{metric_title(results, one.metric)} ({_shared(one)})")
        for of, metrics in by.items():
            groups.setdefault((of, tuple(metrics)), {})[arm.method] = None
    return [_dependence(results, of, metrics, list(methods)) for (of, metrics), methods in groups.items()]


def _dependence(results: Results, of: str, metrics: Sequence[str], methods: Sequence[str]) -> str:
    them = "it" if len(methods) == 1 else "them"
    they = ("is", "it shares") if len(metrics) == 1 else ("are", "they share")
    why = f"{they[1]} what is in brackets with {metric_title(results, of)}, which chose or tuned {them}"
    if not of:
        why = f"the weights of {_and(methods)} were tuned on the same"
    return f"For {_and(methods)}, {_and(metrics)} {they[0]} no independent evidence (‡): {why}."


def _shared(one: Sibling) -> str:
    """`labels, detector`; with names where no metric stands between, as a reader then knows nothing of them."""
    if not one.of:
        return ", ".join(f"{KINDS[trait.kind]}: {trait.name}" for trait in one.shares)
    return ", ".join(distinct(KINDS[trait.kind] for trait in one.shares))


def _and(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _failed(results: Results) -> list[str]:
    """One sentence a reason for images that could not be made, the most frequent reasons first."""
    rows = sorted(results.failed, key=lambda row: -row.n)
    found = []
    for row in rows[:REASONS]:
        first, where = row.images[0], f"{row.model}, {setting(row)}"
        images = "1 image" if row.n == 1 else f"{row.n:,} images"
        place = f"{first.prompts} {first.index}, seed {first.seed}"
        found.append(
            f"{images} of {row.method} ({where}) could not be made: {row.reason.rstrip('.')}; "
            f"{'it is' if row.n == 1 else 'the first is'} {place}."
        )
    more = rows[REASONS:]
    if more:
        n = sum(row.n for row in more)
        found.append(f"{n:,} more images could not be made, for {len(more)} other reasons; see results.json.")
    return found


def _power(results: Results) -> list[tuple[str, str]]:
    rows = [row for row in pooled(results.comparisons) if row.complete]
    if not rows:
        return [("caution", "Nothing was compared.")]
    pairs = sorted({row.n for row in rows})
    prompts = sorted({row.n_prompts for row in rows if row.n_prompts is not None})
    facts = [
        f"{_span(pairs)} pairs on {_span(prompts)} prompts a comparison; intervals are 95 %, paired and clustered by "
        f"prompt; an effect counts as shown when its interval excludes zero and its Holm-adjusted p is at most {ALPHA}."
    ]
    sizes = {}
    for name in distinct(row.metric for row in rows):
        known = [row.detectable for row in rows if row.metric == name and row.detectable is not None]
        if known:
            sizes[name] = max(known)
    if sizes:
        listed = ", ".join(
            f"{name} {size:.2g}" if size else f"{name} none (all differences are exactly 0)"
            for name, size in sizes.items()
        )
        facts.append(f"Smallest delta found with 80 % power, in the least certain comparison: {listed}.")
    return [("fact", text) for text in facts]


def _span(values: Sequence[int]) -> str:
    """`400`, or `200 to 400`."""
    return MISSING if not values else str(values[0]) if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
