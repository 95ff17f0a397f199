"""The whole job: plan, generate, choose, score, results, report; each stage skips what is already there."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from bench import provenance, records, registry
from bench.analysis import results
from bench.analysis.failed import unvalued
from bench.backoff import AUTO, BatchSize, size_of
from bench.errors import UserError
from bench.job import preflight, resuming
from bench.job.making import How, executor_for, have_images, images_there, likely_device, to_measure
from bench.job.outcome import Outcome, failed_images
from bench.job.recording import end_session, record_suite
from bench.job.resuming import OtherCode
from bench.job.scoring import add_scores, record_scorers
from bench.job.writing import RESULTS, derived, merged_folder, write_report
from bench.models.base import default_dtype
from bench.remote.cache import image_cache_or_none
from bench.remote.mirror import mirrored
from bench.runner.executors import Wanted
from bench.runner.plan import Plan, content_hash
from bench.store import Ledger, exclusive, full_disk_is_said
from bench.store.files import writable
from bench.suite import Suite

if TYPE_CHECKING:
    from bench.runner.shards import Shard

PLAIN = Wanted()

__all__ = ["Outcome", "add_scores", "end_session", "failed_images", "fingerprint", "likely_device", "merged_folder",
           "record_scorers", "run", "write_report"]  # fmt: skip


def run(
    suite: Suite,
    *,
    runs: Path,
    cache: Path | None,
    device: str | None = None,
    batch_size: BatchSize | None = None,
    threads: int | None = None,
    generate_only: bool = False,
    named: str = "SUITE",
    gate: bool = False,
    other_code: OtherCode | None = None,
    memory: bool = False,
    job_seconds: float | None = None,
    score_seconds: float | None = None,
    shard: Shard | None = None,
    spread: Wanted = PLAIN,
) -> Outcome:
    """Make or finish a run of a suite; a finished one is only read. `named` is how the user names the suite.

    `other_code` says what becomes of images of this run that other code made: `ask` (UserError), `regenerate` or
    `keep`. With `gate` they are made again unless they are to be kept, and so is what the cache has from another
    commit or from uncommitted code: a gate makes what it judges.

    UserError, before anything is made, where something that it needs is not on this machine.

    `memory` also measures the memory of every arm in a process of its own, once.

    `job_seconds` and `score_seconds` are the most that an image and its score by one metric may take; what takes longer
    fails (`bench.runner.limits`).

    `generate_only` stops at the images, whatever becomes of the suite's scorers: this call again without it, or
    `add_scores`, resumes there, here or on another machine.

    `shard` makes one part of several, in a folder of its own (`bench.job.merging`). `spread` says who makes images
    and scores: this process, worker processes, or actors of Ray (docs/executors.md).
    """
    plan = preflight.planned(suite, dtype=default_dtype(device or likely_device()))
    if shard:
        plan = _part(plan, shard, size_of(batch_size or suite.batch_size, device or likely_device()))
    needs = preflight.needs(plan, metrics=preflight.choosers(plan) if generate_only else None)
    folder = runs / f"{suite.name}-{suite.id}{shard.suffix if shard else ''}"
    if folder.is_dir() and not writable(folder):
        with suite.configured():
            return _only_read(plan, folder, generate_only=generate_only)
    if generate_only or not (folder / RESULTS).is_file():
        preflight.check(needs, suite=named)
    try:
        with (
            full_disk_is_said(folder),
            exclusive(folder),
            mirrored(folder, pulling=True),
            image_cache_or_none(cache) as images,
            suite.configured(),
        ):
            other = other_code or ("regenerate" if gate else "ask")
            how = How(
                cache=images,
                device=device,
                batch_size=batch_size,
                threads=threads,
                other_code=other,
                by=provenance.trusted() if gate and other != "keep" else None,
                memory=memory,
                job_seconds=job_seconds,
                score_seconds=score_seconds,
                spread=spread,
            )
            with closing(Ledger(folder, create=True)) as ledger:
                if generate_only:
                    return _generated(plan, ledger, how)
                return _run(plan, ledger, how, lambda: preflight.check(needs, suite=named))
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{error.filename or folder}: a file is in the way; give another --runs folder") from error
    except PermissionError as error:
        raise UserError(
            f"{error.filename or folder}: no permission to write there; give another --runs folder"
        ) from error


def _part(plan: Plan, shard: Shard, size: BatchSize) -> Plan:
    from bench.runner.shards import split

    if size == AUTO:
        raise UserError("--shard: `auto` may find another batch size on another machine; give --batch-size N to all")
    with plan.suite.configured():
        return split(plan, shard, batch=size, whole=fingerprint(plan))


def fingerprint(plan: Plan) -> str:
    """What a finished run must have been finished for: its cells, and the scorers that judged them."""
    scorers = {m: registry.get("metrics", m).digest() for m in plan.suite.metrics}
    return content_hash([[c.job_id for c in plan.cells], scorers, plan.suite.canonical(), records.SCHEMA])


def _only_read(plan: Plan, folder: Path, *, generate_only: bool) -> Outcome:
    """A finished run where nothing can be written; UserError for one that is not finished for this plan."""
    with closing(Ledger(folder, read_only=True)) as ledger:
        plan = resuming.decided(plan, ledger, resuming.codes(plan), "keep")
        images = ledger.images()
        if generate_only and all(cell.job_id in images for cell in plan.cells):
            return Outcome(folder, worked=False)
        if generate_only or ledger.get("finished") != fingerprint(plan):
            raise UserError(
                f"{folder}: cannot be written to, and its run is not finished for this suite; copy it to a folder that "
                "can be written to, or give another --runs folder"
            )
        return Outcome(folder, found=derived(ledger), worked=False)


def _run(plan: Plan, ledger: Ledger, how: How, check: Callable[[], None]) -> Outcome:
    """All stages; `check` raises UserError where something for them is not here, which a finished run does not need."""
    folder = ledger.folder
    codes, kept = resuming.codes(plan), ledger.get("kept")
    plan = resuming.decided(plan, ledger, codes, how.other_code)
    complete = fingerprint(plan)
    report = folder / RESULTS
    weights = {name: registry.get("metrics", name).digest() for name in plan.suite.metrics}
    before = ledger.images()
    whole = images_there(plan, ledger, how.by) and not to_measure(plan, ledger, how)
    scores = ledger.scores_of(weights)
    # Rows may have been lost since, such as broken ones that were dropped.
    whole = whole and all(cell.job_id in before for cell in plan.cells)
    whole = whole and ledger.get("finished_scores") in (None, scores)
    if ledger.get("finished") == complete and report.is_file() and whole:
        reuse = resuming.reuse(plan, ledger, before, scores=(scores, scores))
        recorded = [ledger.get("suite"), ledger.get("optimises"), ledger.get("learnt_from") or {}, kept]
        if recorded != [plan.suite.model_dump(mode="json"), plan.optimises, plan.learnt_from, ledger.get("kept")]:
            # The same images and scores under another title, before other gates, or by methods that now say more.
            record_suite(ledger, plan)
            return Outcome(folder, found=write_report(ledger), worked=False, reuse=reuse)
        return Outcome(folder, found=derived(ledger), worked=False, reuse=reuse)

    check()
    for name in preflight.judges(plan):
        registry.get("metrics", name).check_here()
    from bench.runner import score

    started = time.perf_counter()
    with executor_for(plan, how) as (chosen, executor):
        session, stages = have_images(plan, ledger, how, codes, weights, chosen, executor)
        scored = ledger.scores_of(weights)
        stages["score_seconds"] = score.score(
            score.arms(plan), ledger, device=chosen, limit=how.score_seconds, executor=executor
        )
    now = ledger.images()
    known = {job for job, image in before.items() if image == now.get(job)}
    reuse = resuming.reuse(plan, ledger, known, scores=(scored, ledger.scores_of(weights)))
    stages["seconds"] = time.perf_counter() - started
    end_session(ledger, session, stages)
    found = write_report(ledger)
    failed, unscored, unmeasured = failed_images(ledger), results.unscored(ledger), _unmeasured(ledger, how)
    if not failed and not unscored and not unvalued(found):
        ledger.set("finished", complete)
        ledger.set("finished_scores", ledger.scores_of(weights))
    ledger.close()
    return Outcome(
        folder, found=found, worked=True, failed=failed, unscored=unscored, unmeasured=unmeasured, reuse=reuse
    )


def _unmeasured(ledger: Ledger, how: How) -> dict[str, str]:
    """Why memory that is asked for is not known, by method."""
    return {row.method: row.reason for row in ledger.memory() if how.memory and row.reason is not None}


def _generated(plan: Plan, ledger: Ledger, how: How) -> Outcome:
    """The images of a run, chosen ones too, without its scores or a report."""
    folder = ledger.folder
    for name in preflight.choosers(plan):
        registry.get("metrics", name).check_here()
    codes = resuming.codes(plan)
    plan = resuming.decided(plan, ledger, codes, how.other_code)
    started = time.perf_counter()
    with executor_for(plan, how) as (chosen, executor):
        session, stages = have_images(plan, ledger, how, codes, {}, chosen, executor)
    end_session(ledger, session, {**stages, "seconds": time.perf_counter() - started})
    failed, unmeasured = failed_images(ledger), _unmeasured(ledger, how)
    ledger.close()
    return Outcome(folder, worked=bool(stages["generate"]["made"]), failed=failed, unmeasured=unmeasured)
