"""Ledgers -> results: every number that a report, a gate or a person reads, as one JSON document.

All comparisons are on pairs (same model, protocol, prompt and seed) and clustered by prompt text. `"*"` in place
of a prompt set means all sets pooled. `bench.records` describes every row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from bench import registry, stats
from bench.analysis import evidence, failed
from bench.analysis.arms import POOLED, Measured, MeasuredArm, read_arms, with_pooled
from bench.analysis.comparisons import Optimised, Tabulation
from bench.analysis.equal_compute import STANDARD, plain_labels
from bench.analysis.merging import check_baselines, check_weights, joined, joint_id
from bench.errors import UserError
from bench.methods.base import Chain
from bench.metrics.base import MetricEntry
from bench.records import (
    SCHEMA,
    ArmRow,
    ComparisonRow,
    ControlRow,
    MetricRow,
    PairRow,
    Provenance,
    Results,
    RunRecord,
    Setting,
    Stages,
    SuiteRecord,
)
from bench.runner.outline import no_collection
from bench.runner.plan import build_method
from bench.stats.intervals import FEW
from bench.store import Ledger, columns, lost_images, write_atomically
from bench.suite import MethodSpec, Suite

BROWSABLE_PAIRS = 2_000
"""Pairs that results carry for a person to look at, evenly spaced over all; `bench serve` shows every one."""
CONTROL_ALPHA = 0.01
"""A control of zero effect fails below this Holm-adjusted p: one harness in a hundred looks broken by chance."""


def load_suite(ledger: Ledger) -> Suite:
    """The suite that the run was made for, as it was after its overrides."""
    written = ledger.get("suite")
    if written is None:
        raise UserError(f"{ledger.folder}: its run was stopped before it began; run the suite again")
    try:
        return Suite.model_validate(written)
    except ValidationError as error:
        raise UserError(
            f"{ledger.folder}: its suite is not one that this version reads ({_place(error)}); "
            "upgrade, or run the suite again"
        ) from error


def _place(error: ValidationError) -> str:
    """What is not as it should be, and where: of the first of its errors."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg'].lower()}"


def metrics_of(ledger: Ledger, suite: Suite) -> list[str]:
    """The suite's metrics, and those that `bench score` added to the run since."""
    return list(dict.fromkeys([*suite.metrics, *(ledger.get("added_metrics") or [])]))


def scorer_digests(ledgers: Sequence[Ledger], entries: Mapping[str, MetricEntry]) -> dict[str, str]:
    """The scorer whose scores count, by metric: as a run recorded it, else today's.

    Of ledgers from before the code was in a scorer's digest: the one without it, where there are such scores.
    """
    recorded: dict[str, str] = {}
    for ledger in reversed(ledgers):
        recorded |= ledger.get("scorers") or {}
    return {name: recorded.get(name) or _scorer(ledgers, entry) for name, entry in entries.items()}


def _scorer(ledgers: Sequence[Ledger], entry: MetricEntry) -> str:
    def judged(scorer: str) -> bool:
        return any(ledger.judged_by(entry.name, scorer) for ledger in ledgers)

    digest, old = entry.digest(), entry.identify()
    return old if not judged(digest) and judged(old) else digest


def unscored(ledger: Ledger) -> dict[str, list[str]]:
    """Why scores of a run failed, a line each, by metric."""
    asked = metrics_of(ledger, load_suite(ledger))
    return failed.unscored(ledger, scorer_digests([ledger], {name: registry.get("metrics", name) for name in asked}))


def compute(*ledgers: Ledger, folder: Path | None = None) -> Results:
    """All results of one run, or of several that are comparable; an unfinished one says so in itself.

    `folder` is where the report will lie (default: the run's own folder); the images' places are told from there.
    Raises NotComparable where runs differ in what a common table must hold fixed.
    """
    with no_collection():
        return _computed(ledgers, folder)


def _computed(ledgers: Sequence[Ledger], folder: Path | None) -> Results:
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
    ms = _score_ms(ledgers, scorers)
    metrics = {m: _metric(e, scorers[m], ms.get(m)) for m, e in entries.items()}
    finished, here = all(row.complete for row in found.arms), folder or ledgers[0].folder
    runs = tuple(_run(ledger, s, here, finished=finished) for ledger, s in zip(ledgers, suites, strict=True))
    check_weights(suites, [run.provenance.weights for run in runs])
    settings = list(dict.fromkeys(a.setting for a in arms))
    return Results(
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
            controls=tuple(_known_effects(suite)),
            command=runs[0].provenance.command,
        ),
        run=runs[0].summary(),
        runs=runs,
        notes=(*suite.notes, *_notes(measured, ledgers, metrics), *_refused(found.arms, entries)),
        metrics=metrics,
        arms=found.arms,
        comparisons=found.comparisons,
        equal_compute=found.equal_compute,
        tasks=found.tasks,
        controls=tuple(_controls(found.comparisons, suite)),
        seeds=found.seeds,
        categories=found.categories,
        settings=tuple(Setting(model=m, sampler=s, steps=n, guidance=g) for m, s, n, g in settings),
        failed=tuple(failed.rows(ledgers)),
        pairs=tuple(_pairs(measured, settings, suite.baseline)),
        pairs_total=sum(len({*np.concatenate([a.pair for a in measured.arms if a.setting == s])}) for s in settings),
    )


def write(*ledgers: Ledger, folder: Path | None = None) -> Results:
    """Compute, and keep as `results.json` in `folder`, or in the run's own."""
    results = compute(*ledgers, folder=folder)
    target = folder or ledgers[0].folder
    target.mkdir(parents=True, exist_ok=True)
    write_atomically(target / "results.json", results.text().encode())
    return results


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


def _known_effects(suite: Suite) -> list[str]:
    """Labels of the methods that no headline may name: the suite's controls, and fresh noise whether listed or not."""
    fresh = [spec.label for spec in suite.methods if {link.use for link in spec.chain} - {STANDARD} == {"reseed"}]
    return list(dict.fromkeys([*suite.controls, *fresh]))


def _controls(comparisons: Sequence[ComparisonRow], suite: Suite) -> Iterator[ControlRow]:
    """Whether methods of known effect were seen to have it: a harness that fails this is not to be believed."""
    for label, control in suite.controls.items():
        rows = [
            c for c in comparisons if c.method == label and c.prompts == POOLED and control.metric in (None, c.metric)
        ]
        usable = [c for c in rows if c.complete and c.p is not None]
        adjusted: Any = stats.holm([c.p for c in usable if c.p is not None]) if usable else []
        for row in rows:
            where = next((i for i, c in enumerate(usable) if c is row), None)
            p = None if where is None else float(adjusted[where])
            yield _control(row, control.effect, p)


def _control(row: ComparisonRow, effect: Literal["zero", "positive"], p: float | None) -> ControlRow:
    def finding(ok: bool | None, said: str) -> ControlRow:
        sentence = f"{row.method} on {row.metric}{said}"
        return ControlRow(method=row.method, metric=row.metric, expect=effect, ok=ok, sentence=sentence)

    if p is None or row.delta is None or row.low is None or row.high is None:
        return finding(None, ": not measured, so not checked")
    seen = f"{row.delta:+.4g} [{row.low:+.4g}, {row.high:+.4g}], Holm p = {p:.2g}"
    if effect == "zero":
        ok = p >= CONTROL_ALPHA
        said = "as it must be" if ok else "the harness or the baseline is not to be believed"
        return finding(ok, f" must show nothing: {seen}: {said}")
    sign = registry.get("metrics", row.metric).sign
    ok = min(sign * row.low, sign * row.high) > 0 and p < CONTROL_ALPHA
    few = row.n_prompts is not None and row.n_prompts < FEW
    if few and not ok and max(sign * row.low, sign * row.high) > 0:
        return finding(None, f" must show a gain: {seen}: too few prompts ({row.n_prompts}) to show one")
    said = "as it must be" if ok else "the harness misses an effect that is there"
    return finding(ok, f" must show a gain: {seen}: {said}")


def _pairs(measured: Measured, settings: Sequence[Any], baseline: str) -> Iterator[PairRow]:
    """Evenly spaced pairs of every setting, not picked by looking; those whose images are all there.

    Where there is none, as while a method is still to be made, those of the baseline and at least one method.
    """
    share = max(1, BROWSABLE_PAIRS // max(len(settings), 1))
    for number, setting in enumerate(settings):
        # One method's arms over all sets, as image rows by pair.
        rows: dict[str, dict[int, tuple[int, Any]]] = {}
        for arm in (a for a in measured.arms if a.setting == setting):
            columns = arm.pair.tolist(), arm.image.tolist(), arm.scores.T
            rows.setdefault(arm.method, {}).update((p, (i, v)) for p, i, v in zip(*columns, strict=True))
        there = {name: {p: row for p, row in m.items() if row[0] >= 0} for name, m in rows.items()}
        shown = sorted(set.intersection(*map(set, there.values())))
        if not shown:
            others = set().union(*(m for name, m in there.items() if name != baseline))
            shown = sorted(others & there.get(baseline, {}).keys())
        for i in dict.fromkeys(np.linspace(0, len(shown) - 1, min(share, len(shown))).astype(int).tolist()):
            images = {name: m[shown[i]] for name, m in there.items() if shown[i] in m}
            yield _pair(measured, number, shown[i], images)


def _pair(measured: Measured, setting: int, number: int, shown: dict[str, tuple[int, Any]]) -> PairRow:
    pair, images = measured.pairs[number], measured.images
    return PairRow(
        setting=setting,
        prompt=pair.text,
        prompts=pair.prompts,
        index=pair.index,
        seed=pair.seed,
        category=pair.category,
        images={name: images.words["file"][row] for name, (row, _) in shown.items()},
        runs={name: images.run[row] for name, (row, _) in shown.items()},
        scores={
            name: {m: float(v) for m, v in zip(measured.metrics, values, strict=True) if not np.isnan(v)}
            for name, (_, values) in shown.items()
        },
    )


def _score_ms(ledgers: Sequence[Ledger], scorers: Mapping[str, str]) -> dict[str, float]:
    """Mean milliseconds an image, or a pair of images, by metric."""
    read = [columns.mean_ms(ledger, scorers) for ledger in ledgers]
    sums = {name: (sum(one[name][0] for one in read), sum(one[name][1] for one in read)) for name in scorers}
    return {name: ms / timed for name, (ms, timed) in sums.items() if timed}


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
        raise UserError(f"{ledger.folder}: its session is not one that this version reads ({_place(error)})") from error


def _kept(ledger: Ledger) -> dict[str, Any]:
    """What the ledger knows of all sessions: images of other code that the run keeps, and sizes of batches."""
    kept = ledger.get("kept")
    found = {"kept_images": {key: value for key, value in kept.items() if key != "under"}} if kept else {}
    sizes = ledger.get("batch_sizes")
    return {**found, "batch_sizes": sizes} if sizes else found


def kept_sentence(kept: Mapping[str, Any]) -> str:
    """What a report and a gate say of images of other code that a run keeps; `kept` is as the ledger has it."""
    return (
        f"{kept['images']} of {kept['of']} images were made by other code than today's "
        f"({', '.join(kept['made_by'])}) and kept (--keep-images); changed since: {', '.join(kept['changed'])}."
    )


def shard_sentence(shard: Mapping[str, Any]) -> str:
    """What a report and a gate say of a part of a run; `shard` is as its ledger has it."""
    return f"This is shard {shard['index']} of {shard['of']} of a run, not the whole: `bench merge` joins the shards."


def _refused(arms: Sequence[ArmRow], entries: dict[str, MetricEntry]) -> Iterator[str]:
    """One sentence for each set metric that has no value somewhere."""
    for name, entry in entries.items():
        if reasons := [why for arm in arms if (why := arm.metrics[name].refused)]:
            yield f"{entry.title} has no value in {len(reasons)} of {len(arms)} rows of the table: it {reasons[0]}."


def _notes(measured: Measured, ledgers: Sequence[Ledger], metrics: dict[str, MetricRow]) -> Iterator[str]:
    images = measured.images
    for ledger in ledgers:
        if shard := ledger.get("shard"):
            yield shard_sentence(shard)
    yield (
        "Times are milliseconds an image, the share of a batch; one throwaway batch a model warms up and is left out. "
        "A chosen image (best_of_n) is charged for all its candidates and their judging, wherever they were made."
    )
    told = ", ".join(f"{m.title} {m.score_ms:.1f}" for m in metrics.values() if m.score_ms is not None)
    if told:
        yield (
            f"Scoring took, in milliseconds an image: {told}. "
            "It is no part of a method's time unless the method chooses."
        )
    for ledger in ledgers:
        yield from ledger.get("left_out") or ()
        if kept := ledger.get("kept"):
            yield kept_sentence(kept)
        sizes = ledger.get("batch_sizes") or ()
        if len(sizes) > 1:
            yield (
                f"Images of {ledger.folder.name} were made in batches of {' and '.join(map(str, sizes))}: low bits of "
                "pixels depend on the batch, and scores with them."
            )
    for name, n in measured.unused.items():
        yield f"{n} scores of {metrics[name].title} are by another version of its scorer and count for nothing."
    for ledger in ledgers:
        for name, reasons in failed.unscored(ledger, {name: m.digest for name, m in metrics.items()}).items():
            yield f"{len(reasons)} scores of {metrics[name].title} failed; the first: {reasons[0]}."
    used = np.unique(np.concatenate([a.made() for a in measured.arms])) if measured.arms else np.array([], int)
    hardware = {images.words["hardware"][i] for i in used}
    if len(hardware) > 1:
        yield (
            f"Images come from {len(hardware)} kinds of hardware; "
            f"times count only the most frequent: {sorted(hardware)}"
        )
    cells = np.concatenate([a.made() for a in measured.arms]) if measured.arms else used
    cached = int(images.numbers["from_cache"][cells].sum()) if len(cells) else 0
    if cached:
        yield f"{cached} of {len(cells)} images came from the cache, with the times measured when they were made."
    for ledger in ledgers:
        lost = lost_images(ledger)
        if lost:
            yield (
                f"{lost} image files of {ledger.folder.name} are gone from its folder and cannot be shown; their "
                "scores and times are still in its ledger."
            )
        sessions = len(ledger.sessions())
        if sessions > 1:
            yield f"{ledger.folder.name} was made in {sessions} sessions; provenance is the last one's."
