"""Ledger -> results: every number that a report, a gate or a person reads, as one JSON document.

All comparisons are on pairs (same model, protocol, prompt and seed) and clustered by prompt text. `"*"` in place
of a prompt set means all sets pooled.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from bench import registry, stats
from bench.arms import POOLED, Key, MeasuredArm, cost_of, expected, read_arms, with_pooled
from bench.errors import UserError
from bench.methods.base import Chain
from bench.metrics.base import MetricEntry
from bench.metrics.geneval_rules import TASKS
from bench.plan import build_method
from bench.store import Ledger, write_atomically
from bench.suite import Suite

SCHEMA = 1
SHOWN_PAIRS = 12
Optimised = Callable[[MeasuredArm], Sequence[str]]
"""The metrics that are no evidence for an arm."""
CONTROL_ALPHA = 0.01
"""A control of zero effect fails below this Holm-adjusted p: one harness in a hundred looks broken by chance."""


def load_suite(ledger: Ledger) -> Suite:
    """The suite that the run was made for, as it was after its overrides."""
    written = ledger.get("suite")
    if written is None:
        raise UserError(f"{ledger.folder}: its run was stopped before it began; run the suite again")
    return Suite.model_validate(written)


def compute(ledger: Ledger) -> dict[str, Any]:
    """All results of a run; raises nothing for an unfinished one, which says so in itself."""
    suite = load_suite(ledger)
    entries: dict[str, MetricEntry] = {m: registry.get("metrics", m) for m in suite.metrics}
    optimised = _optimised(ledger, suite)
    arms = with_pooled(read_arms(ledger, suite, entries))
    comparisons = list(_compare(arms, suite, entries, optimised))
    _adjust(comparisons)
    rows = [_arm_row(a, suite, entries, optimised) for a in arms]
    metrics = {m: _metric(e, ledger) for m, e in entries.items()}
    run = _run(ledger)
    run["finished"] = all(r["complete"] for r in rows)
    return {
        "schema": SCHEMA,
        "suite": {
            "name": suite.name,
            "title": suite.title,
            "id": suite.id,
            "reproduces": suite.reproduces or None,
            "twin": suite.twin,
            "baseline": suite.baseline,
            "limit": suite.limit,
            "command": run["provenance"].get("command"),
        },
        "run": run,
        "notes": [*suite.notes, *_notes(arms, ledger, metrics)],
        "metrics": metrics,
        "arms": rows,
        "comparisons": comparisons,
        "tasks": [t for a in arms for m in entries if (t := _tasks(a, m))],
        "controls": list(_controls(comparisons, suite)),
        "pairs": list(_pairs(arms, suite)),
    }


def write(ledger: Ledger) -> dict[str, Any]:
    """Compute, and keep as `results.json` in the run folder."""
    results = compute(ledger)
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(ledger.folder / "results.json", text.encode())
    return results


def _optimised(ledger: Ledger, suite: Suite) -> Optimised:
    """As the run's plan found it, whatever lies on this machine now; for older ledgers, what the methods say."""
    planned = ledger.get("optimises")
    if planned is not None:
        return lambda arm: planned[arm.method][arm.setting[0]]
    said = {
        spec.label: Chain(links=tuple(build_method(link.use, link.params) for link in spec.chain)).optimises()
        for spec in suite.methods
    }
    return lambda arm: said[arm.method]


def _arm_row(arm: MeasuredArm, suite: Suite, entries: dict[str, MetricEntry], optimised: Optimised) -> dict[str, Any]:
    metrics: dict[str, dict[str, Any]] = {}
    for name in entries:
        values = arm.scores[name]
        if not values:
            metrics[name] = {"mean": None, "low": None, "high": None, "n": 0}
            continue
        keys = sorted(values)
        interval = stats.cluster_bootstrap([values[k] for k in keys], [arm.cells[k] for k in keys])
        metrics[name] = {"mean": interval.estimate, **_bounds(interval), "n": len(keys)}
    return {
        **arm.labels,
        "n_expected": len(arm.cells),
        "n": len(arm.images),
        "complete": _complete(arm, entries),
        "is_baseline": arm.method == suite.baseline,
        "metrics": metrics,
        "optimises": list(optimised(arm)),
        "cost": cost_of(arm),
    }


def _complete(arm: MeasuredArm, entries: dict[str, MetricEntry]) -> bool:
    return len(arm.images) == len(arm.cells) and all(len(arm.scores[n]) == expected(arm, e) for n, e in entries.items())


def _bounds(interval: stats.Interval) -> dict[str, float | None]:
    """JSON has no infinity; an interval that says nothing (one prompt) has no bounds."""
    return {
        "low": interval.low if np.isfinite(interval.low) else None,
        "high": interval.high if np.isfinite(interval.high) else None,
    }


def _compare(
    arms: list[MeasuredArm], suite: Suite, entries: dict[str, MetricEntry], optimised: Optimised
) -> Iterator[dict[str, Any]]:
    bases = {(a.setting, a.prompts): a for a in arms if a.method == suite.baseline}
    for arm in arms:
        if arm.method == suite.baseline:
            continue
        base = bases[arm.setting, arm.prompts]
        for name, entry in entries.items():
            if entry.needs_metadata and not arm.described:
                continue
            yield _comparison(arm, base, entry, marked=name in optimised(arm))


def _comparison(arm: MeasuredArm, base: MeasuredArm, entry: MetricEntry, *, marked: bool) -> dict[str, Any]:
    ours, theirs = arm.scores[entry.name], base.scores[entry.name]
    keys = sorted(ours.keys() & theirs.keys())
    complete = bool(keys) and len(keys) == max(expected(arm, entry), expected(base, entry))
    row: dict[str, Any] = {
        **arm.labels,
        "baseline": base.method,
        "metric": entry.name,
        "n": len(keys),
        "complete": complete,
        "marked": marked,
    }
    empty = ("n_prompts", "delta", "low", "high", "p", "p_holm", "win", "tie", "loss")
    row |= dict.fromkeys((*empty, "win_rate", "win_low", "win_high", "detectable"))
    if not keys:
        return row
    treated, baseline = np.array([ours[k] for k in keys]), np.array([theirs[k] for k in keys])
    clusters = [arm.cells[k] for k in keys]
    sign = 1.0 if entry.higher_is_better else -1.0
    delta = stats.paired_delta(treated, baseline, clusters)
    count = stats.outcomes(sign * treated, sign * baseline)
    rate = stats.win_rate(sign * treated, sign * baseline, clusters)
    detectable = stats.smallest_detectable(treated - baseline, clusters)
    return row | {
        "n_prompts": len(set(clusters)),
        "delta": delta.estimate,
        **_bounds(delta),
        "p": stats.sign_flip_p(treated - baseline, clusters) if complete else None,
        "win": count.win,
        "tie": count.tie,
        "loss": count.loss,
        "win_rate": rate.estimate,
        "win_low": rate.low,
        "win_high": rate.high,
        "detectable": detectable if np.isfinite(detectable) else None,
    }


def _adjust(comparisons: list[dict[str, Any]]) -> None:
    """Holm's correction over two families: all pooled comparisons, and all on single prompt sets.

    Marked comparisons and incomplete ones are no evidence and belong to neither.
    """
    for pooled in (True, False):
        family = [
            c
            for c in comparisons
            if (c["prompts"] == POOLED) is pooled and not c["marked"] and c["complete"] and c["p"] is not None
        ]
        if not family:
            continue
        for row, p in zip(family, stats.holm([c["p"] for c in family]), strict=True):
            row["p_holm"] = float(p)


def _tasks(arm: MeasuredArm, metric: str) -> dict[str, Any] | None:
    """GenEval's six task means and their mean, for a metric that judges by metadata."""
    values = arm.scores[metric]
    groups: dict[str, list[Key]] = defaultdict(list)
    for key in sorted(values):
        if arm.tags[key] in TASKS:
            groups[arm.tags[key]].append(key)
    if not groups or not registry.get("metrics", metric).needs_metadata:
        return None
    keys = [k for tag in groups for k in groups[tag]]
    # A mean of task means is the mean of values that are weighted by their task's share.
    weighted = [values[k] * len(keys) / (len(groups) * len(groups[tag])) for tag in groups for k in groups[tag]]
    overall = stats.cluster_bootstrap(weighted, [arm.cells[k] for k in keys])
    return {
        **arm.labels,
        "metric": metric,
        "overall": overall.estimate,
        "overall_low": overall.low if np.isfinite(overall.low) else None,
        "overall_high": overall.high if np.isfinite(overall.high) else None,
        "tasks": {
            t: {"mean": float(np.mean([values[k] for k in groups[t]])), "n": len(groups[t])}
            for t in TASKS
            if t in groups
        },
    }


def _controls(comparisons: list[dict[str, Any]], suite: Suite) -> Iterator[dict[str, Any]]:
    """Whether methods of known effect were seen to have it: a harness that fails this is not to be believed."""
    for label, control in suite.controls.items():
        rows = [
            c
            for c in comparisons
            if c["method"] == label and c["prompts"] == POOLED and control.metric in (None, c["metric"])
        ]
        usable = [c for c in rows if c["complete"] and c["p"] is not None]
        adjusted: Any = stats.holm([c["p"] for c in usable]) if usable else []
        for row in rows:
            where = next((i for i, c in enumerate(usable) if c is row), None)
            p = None if where is None else float(adjusted[where])
            yield _control(row, control.effect, p)


def _control(row: dict[str, Any], effect: str, p: float | None) -> dict[str, Any]:
    told = {"method": row["method"], "metric": row["metric"], "expect": effect}
    if p is None or row["low"] is None:
        return told | {"ok": None, "sentence": f"{row['method']} on {row['metric']}: not measured, so not checked"}
    seen = f"{row['delta']:+.4g} [{row['low']:+.4g}, {row['high']:+.4g}], Holm p = {p:.2g}"
    if effect == "zero":
        ok = p >= CONTROL_ALPHA
        said = "as it must be" if ok else "the harness or the baseline is not to be believed"
        return told | {"ok": ok, "sentence": f"{row['method']} on {row['metric']} must show nothing: {seen}: {said}"}
    sign = 1 if registry.get("metrics", row["metric"]).higher_is_better else -1
    ok = min(sign * row["low"], sign * row["high"]) > 0 and p < CONTROL_ALPHA
    said = "as it must be" if ok else "the harness misses an effect that is there, or n is too small"
    return told | {"ok": ok, "sentence": f"{row['method']} on {row['metric']} must show a gain: {seen}: {said}"}


def _pairs(arms: list[MeasuredArm], suite: Suite) -> Iterator[dict[str, Any]]:
    """Evenly spaced prompts of the first setting, not picked by looking."""
    pooled = [a for a in arms if a.prompts == POOLED and a.setting == arms[0].setting]
    base = next(a for a in pooled if a.method == suite.baseline)
    keys = sorted(k for k in base.cells if all(k in a.images for a in pooled))
    for i in dict.fromkeys(np.linspace(0, len(keys) - 1, min(SHOWN_PAIRS, len(keys))).astype(int).tolist()):
        key = keys[i]
        yield {
            "prompt": base.cells[key],
            "prompts": key[0],
            "index": key[1],
            "seed": key[2],
            "images": {a.method: a.images[key].file for a in pooled},
            "scores": {a.method: {m: v[key] for m, v in a.scores.items() if key in v} for a in pooled},
        }


def _metric(entry: MetricEntry, ledger: Ledger) -> dict[str, Any]:
    query = "SELECT AVG(ms) FROM scores WHERE metric = ? AND scorer = ?"
    return {
        "title": entry.title,
        "unit": entry.unit,
        "higher_is_better": entry.higher_is_better,
        "scale": entry.scale,
        "digest": entry.digest(),
        "twin_of": list(entry.twin_of),
        "score_ms": ledger.db.execute(query, (entry.name, entry.digest())).fetchone()[0],
    }


def _run(ledger: Ledger) -> dict[str, Any]:
    rows = ledger.db.execute("SELECT started, provenance, stages FROM sessions ORDER BY id").fetchall()
    stages = [json.loads(s) for _, _, s in rows if s]
    return {
        "folder": ledger.folder.name,
        "created": rows[0][0] if rows else datetime.now(UTC).isoformat(timespec="seconds"),
        "provenance": json.loads(rows[-1][1]) if rows else {},
        "sessions": len(rows),
        "stages": stages[-1] if stages else {},
    }


def _notes(arms: list[MeasuredArm], ledger: Ledger, metrics: dict[str, dict[str, Any]]) -> Iterator[str]:
    images = [i for a in arms if a.prompts != POOLED for i in a.images.values()]
    yield (
        "Times are milliseconds an image, the share of a batch; one throwaway batch a model warms up and is left out. "
        "A chosen image (best_of_n) is charged for all its candidates and their judging, wherever they were made."
    )
    told = ", ".join(f"{m['title']} {m['score_ms']:.1f}" for m in metrics.values() if m["score_ms"] is not None)
    if told:
        yield (
            f"Scoring took, in milliseconds an image: {told}. "
            "It is no part of a method's time unless the method chooses."
        )
    hardware = {i.hardware for i in images}
    if len(hardware) > 1:
        yield (
            f"Images come from {len(hardware)} kinds of hardware; "
            f"times count only the most frequent: {sorted(hardware)}"
        )
    cached = sum(i.from_cache for i in images)
    if cached:
        yield f"{cached} of {len(images)} images came from the cache, with the times measured when they were made."
    sessions = ledger.db.execute("SELECT COUNT(*) FROM sessions").fetchone()[0]
    if sessions > 1:
        yield f"The run was made in {sessions} sessions; provenance is the last one's."
