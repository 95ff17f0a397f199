"""How far to trust a report: controls, what is incomplete or failed, which metrics are no evidence, and power."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.kinship import KINDS
from bench.records import Results, Sibling
from bench.report.about import differences, toy
from bench.report.strongest import chosen_by, detectable, headline_metric
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


class Said(NamedTuple):
    """A sentence, `alarm`, `caution` or `fact`, and whether it stands on the first screen."""

    level: str
    text: str
    brief: bool = False


def trust(results: Results) -> list[tuple[str, str]]:
    """(`alarm` | `caution` | `fact`, sentence) pairs; a sanity check that failed comes first."""
    return [(line.level, line.text) for line in _said(results)]


def brief(results: Results) -> list[tuple[str, str]]:
    """Those of the first screen: what is wrong, the sanity checks, what could be detected, what sort of run it is."""
    return [(line.level, line.text) for line in _said(results) if line.brief]


def _said(results: Results) -> list[Said]:
    chosen = chosen_by(results)
    return [
        *_controls(results),
        *_cautions(results),
        *([Said("fact", chosen)] if chosen else []),
        *_power(results),
    ]


def _controls(results: Results) -> list[Said]:
    found = results.controls
    failed, unclear = ([row.sentence for row in found if row.ok is ok] for ok in (False, None))
    if not found:
        return [Said("caution", "No sanity check was run.", brief=True)]
    passed, judged = sum(row.ok is True for row in found), sum(row.ok is not None for row in found)
    of_them = "" if judged == len(found) else " that could be judged"
    if passed < judged or not judged:
        summary = f"{passed} of {judged} sanity checks{of_them} passed."
    elif judged == 1:
        summary = f"The one sanity check{of_them} passed."
    else:
        summary = f"All {judged} sanity checks{of_them} passed."
    return [
        *(Said("alarm", f"A sanity check failed: {why}", brief=True) for why in failed),
        *(Said("caution", f"A sanity check could not be judged: {why}") for why in unclear),
        Said("fact", summary, brief=True),
    ]


def _cautions(results: Results) -> list[Said]:
    suite, known = results.suite, results.runs
    open_runs = [run for run in [results.run, *known] if not run.finished]
    first, found = list[str](), list[str]()
    if open_runs and len(known) > 1:
        names = ", ".join(distinct(run.folder for run in open_runs))
        first.append(f"Not all merged runs are finished ({names}); these are results so far.")
    elif open_runs:
        first.append("The run is not finished; these are results so far.")
    if len(known) > 1:
        differ = differences(results)
        found.append(f"Merged from {len(known)} runs that differ in {', '.join(differ)}; see Provenance." if differ else
                     f"Merged from {len(known)} runs; nothing that was recorded of them differs.")  # fmt: skip
        if "hardware" in differ:
            found.append("Times are those of the most frequent hardware; they say nothing of the other.")
    if suite.twin:
        first.append(toy(results))
    if suite.limit is not None:
        first.append(f"Limited to {suite.limit} prompts a set.")
    if any(run.provenance.dirty for run in known):
        found.append("The code had uncommitted changes.")
    for arm in pooled(results.arms):
        if not arm.complete:
            where = f"{arm.model} ({setting(arm)}), {prompts_name(arm.prompts)}"
            found.append(f"Incomplete, shown but not ranked: {arm.method} on {where}: {lacking(arm, 'images')}.")
    first += _failed(results)
    found += [*_chosen(results), *_siblings(results)]
    return [*(Said("caution", text, brief=True) for text in first), *(Said("caution", text) for text in found)]


def _chosen(results: Results) -> list[str]:
    """One sentence for the methods that were chosen using the same scores."""
    by: dict[str, list[str]] = {}
    for method, metric in distinct((row.method, row.metric) for row in results.comparisons if row.marked):
        by.setdefault(method, []).append(metric_title(results, metric))
    groups: dict[tuple[str, ...], list[str]] = {}
    for method, metrics in by.items():
        groups.setdefault(tuple(metrics), []).append(method)
    return [
        f"{_and(names)} {'was' if len(names) == 1 else 'were'} chosen using {_and(metrics)} (†), so a gain there does "
        "not count."
        for metrics, names in groups.items()
    ]


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


def _power(results: Results) -> list[Said]:
    rows = [row for row in pooled(results.comparisons) if row.complete]
    if not rows:
        return [Said("caution", "Nothing was compared.", brief=True)]
    pairs = sorted({row.n for row in rows})
    prompts = sorted({row.n_prompts for row in rows if row.n_prompts is not None})
    facts = [
        f"{_span(pairs)} pairs on {_span(prompts)} prompts a comparison; intervals are 95 %, paired and clustered by "
        f"prompt; an effect counts as shown when its interval excludes zero and its Holm-adjusted p is at most {ALPHA}."
    ]
    return [*_detectable(results), *(Said("fact", text) for text in facts)]


def _detectable(results: Results) -> list[Said]:
    """The smallest change that this run could detect: by the headline's metric, and by the others."""
    known = {name: size for name in results.metrics if (size := detectable(results, name)) is not None}
    first = headline_metric(results)
    size = known.pop(first, None) if first else None
    found = []
    if first and size:
        by = metric_title(results, first)
        said = f"This run could only detect changes of about {size:.2g} or more on {by}; a true change of that size is "
        found.append(Said("fact", f"{said}found in 80 % of such runs.", brief=True))
    elif first and size == 0:
        known[first] = size
    listed = ", ".join(
        f"{metric_title(results, name)} {f'{size:.2g}' if size else 'none (all differences are exactly 0)'}"
        for name, size in known.items()
    )
    if listed:
        where = " on others" if found else ""
        found.append(Said("fact", f"The smallest changes that it could detect{where}: {listed}."))
    return found


def _span(values: Sequence[int]) -> str:
    """`400`, or `200 to 400`."""
    return MISSING if not values else str(values[0]) if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
