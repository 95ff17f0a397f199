"""Ledgers -> results: every number that a report, a gate or a person reads, as one JSON document.

All comparisons are on pairs (same model, protocol, prompt and seed) and clustered by prompt text. `"*"` in place
of a prompt set means all sets pooled. `bench.records` describes every row.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from bench import registry
from bench.analysis import evidence, failed
from bench.analysis.arms import MeasuredArm, read_arms, with_pooled
from bench.analysis.asked import load_suite as load_suite
from bench.analysis.asked import metrics_of as metrics_of
from bench.analysis.asked import place_of
from bench.analysis.asked import scorer_digests as scorer_digests
from bench.analysis.browsable import BROWSABLE_PAIRS, browsable, share_of
from bench.analysis.comparisons import Optimised, Tabulation
from bench.analysis.controls import checked, known_effects
from bench.analysis.equal_compute import plain_labels
from bench.analysis.every_pair import EveryPair, every_pair
from bench.analysis.merging import check_baselines, check_weights, joined, joint_id
from bench.analysis.notes import kept_sentence as kept_sentence
from bench.analysis.notes import notes, refused
from bench.analysis.notes import shard_sentence as shard_sentence
from bench.errors import UserError
from bench.methods.base import Chain
from bench.metrics.base import MetricEntry
from bench.records import (
    SCHEMA,
    MetricRow,
    Provenance,
    Results,
    RunRecord,
    Setting,
    Stages,
    SuiteRecord,
)
from bench.runner.outline import no_collection
from bench.runner.plan import build_method
from bench.store import Ledger, write_atomically
from bench.suite import MethodSpec, Suite


def unscored(ledger: Ledger) -> dict[str, list[str]]:
    """Why scores of a run failed, a line each, by metric."""
    asked = metrics_of(ledger, load_suite(ledger))
    return failed.unscored(ledger, scorer_digests([ledger], {name: registry.get("metrics", name) for name in asked}))


class Computed(NamedTuple):
    """Results, and all pairs where those carry a part of them."""

    results: Results
    every: EveryPair | None
    """None where results carry no pair yet, or no setting has more pairs than they carry."""


def compute(*ledgers: Ledger, folder: Path | None = None) -> Results:
    """All results of one run, or of several that are comparable; an unfinished one says so in itself.

    `folder` is where the report will lie (default: the run's own folder); the images' places are given from there.
    Raises NotComparable where runs differ in what a common table must hold fixed.
    """
    return computed(*ledgers, folder=folder).results


def computed(*ledgers: Ledger, folder: Path | None = None, most: int = BROWSABLE_PAIRS) -> Computed:
    """As `compute`, with all pairs beside the at most `most` that results carry."""
    with no_collection():
        return _computed(ledgers, folder, most)


def _computed(ledgers: Sequence[Ledger], folder: Path | None, most: int) -> Computed:
    suites = [load_suite(ledger) for ledger in ledgers]
    suite = joined(suites)
    asked = [metrics_of(*run) for run in zip(ledgers, suites, strict=True)]
    entries: dict[str, MetricEntry] = {m: registry.get("metrics", m) for m in dict.fromkeys(chain.from_iterable(asked))}
    scorers = scorer_digests(ledgers, entries)
    measured = read_arms(list(zip(ledgers, suites, asked, strict=True)), entries, scorers)
    arms = with_pooled(measured.arms)
    check_baselines(arms, suite)
    optimised = _optimised(ledgers, suites)
    plain = plain_labels(suite.methods) - suite.controls.keys()
    found = Tabulation(
        measured,
        arms,
        entries,
        baseline=suite.baseline,
        optimised=optimised,
        siblings=evidence.siblings(ledgers, entries, optimised),
        plain=plain,
    ).tables()
    ms = {name: total / timed for name, (total, timed) in measured.ms.items() if timed}
    metrics = {m: _metric(e, scorers[m], ms.get(m)) for m, e in entries.items()}
    finished, here = all(row.complete for row in found.arms), folder or ledgers[0].folder
    runs = tuple(_run(ledger, s, here, finished=finished) for ledger, s in zip(ledgers, suites, strict=True))
    check_weights(suites, [run.provenance.weights for run in runs])
    settings = list(dict.fromkeys(a.setting for a in arms))
    every = every_pair(measured, settings)
    largest = int(np.bincount(every.settings).max(initial=0))
    results = Results(
        schema=SCHEMA,
        suite=SuiteRecord(
            name=suite.name,
            title=suite.title,
            id=suite.id if len(suites) == 1 else joint_id(suites),
            reproduces=suite.reproduces or None,
            twin=suite.twin,
            baseline=suite.baseline,
            limit=suite.limit,
            headline=suite.headline,
            controls=tuple(known_effects(suite)),
            command=runs[0].provenance.command,
        ),
        run=runs[0].summary(),
        runs=runs,
        notes=(*suite.notes, *notes(measured, ledgers, metrics), *refused(found.arms, entries)),
        metrics=metrics,
        arms=found.arms,
        comparisons=found.comparisons,
        equal_compute=found.equal_compute,
        tasks=found.tasks,
        controls=tuple(checked(found.comparisons, suite)),
        seeds=found.seeds,
        categories=found.categories,
        settings=tuple(Setting(model=m, sampler=s, steps=n, guidance=g) for m, s, n, g in settings),
        failed=tuple(failed.rows(ledgers)),
        pairs=tuple(browsable(measured, settings, suite.baseline, most=most)),
        pairs_total=len(every),
    )
    partly = len(results.pairs) > 0 and largest > share_of(most, len(settings))
    return Computed(results, every if partly else None)


def write(*ledgers: Ledger, folder: Path | None = None) -> Results:
    """Compute, and keep as `results.json` in `folder`, or in the run's own."""
    return written(*ledgers, folder=folder).results


def written(*ledgers: Ledger, folder: Path | None = None, most: int = BROWSABLE_PAIRS) -> Computed:
    """As `write`, with all pairs beside the at most `most` that results carry."""
    found = computed(*ledgers, folder=folder, most=most)
    target = folder or ledgers[0].folder
    target.mkdir(parents=True, exist_ok=True)
    write_atomically(target / "results.json", found.results.text().encode())
    return found


def _optimised(ledgers: Sequence[Ledger], suites: Sequence[Suite]) -> Optimised:
    """As each run's plan found it, whatever lies on this machine now; for older ledgers, what the methods say."""
    known: dict[str, dict[str, list[str]] | list[str]] = {}
    for ledger, suite in zip(ledgers, suites, strict=True):
        planned = ledger.get("optimises")
        for spec in suite.methods:
            said: Any = planned.get(spec.label, {}) if planned else _says(spec)
            before = known.setdefault(spec.label, said)
            if isinstance(before, dict) and isinstance(said, dict):
                # In the plan's order: what a method goes by itself stands before what is kin to it.
                known[spec.label] = {
                    m: [*dict.fromkeys([*before.get(m, []), *said.get(m, [])])] for m in {*before, *said}
                }

    def of(arm: MeasuredArm) -> Sequence[str]:
        said = known[arm.method]
        return said.get(arm.setting[0], []) if isinstance(said, dict) else said

    return of


def _says(spec: MethodSpec) -> list[str]:
    return list(Chain(links=tuple(build_method(link.use, link.params) for link in spec.chain)).optimises())


def _metric(entry: MetricEntry, digest: str, score_ms: float | None) -> MetricRow:
    return MetricRow(
        title=entry.title,
        kind=entry.kind,
        unit=entry.unit,
        higher_is_better=entry.higher_is_better,
        scale=entry.scale,
        bounds=entry.range,
        digest=digest,
        twin_of=tuple(entry.twin_of),
        score_ms=score_ms,
    )


def _run(ledger: Ledger, suite: Suite, folder: Path, *, finished: bool) -> RunRecord:
    sessions = ledger.sessions()
    stages = [one.stages for one in sessions if one.stages is not None]
    here = ledger.folder.resolve()
    try:
        return RunRecord(
            folder=ledger.folder.name,
            path=Path(os.path.relpath(here, folder.resolve())).as_posix(),
            suite=suite.name,
            id=suite.id,
            created=sessions[0].started if sessions else datetime.now(UTC).isoformat(timespec="seconds"),
            provenance=Provenance.model_validate({**(sessions[-1].provenance if sessions else {}), **_kept(ledger)}),
            sessions=len(sessions),
            stages=Stages.model_validate(stages[-1] if stages else {}),
            finished=finished,
        )
    except ValidationError as error:
        raise UserError(
            f"{ledger.folder}: its session is not one that this version reads ({place_of(error)})"
        ) from error


def _kept(ledger: Ledger) -> dict[str, Any]:
    """What the ledger knows of all sessions: images of other code that the run keeps, and sizes of batches."""
    kept = ledger.get("kept")
    found = {"kept_images": {key: value for key, value in kept.items() if key != "under"}} if kept else {}
    sizes = ledger.get("batch_sizes")
    return {**found, "batch_sizes": sizes} if sizes else found
