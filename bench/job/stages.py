"""The whole job: plan, generate, choose, score, results, report; each stage skips what is already there."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import provenance, records, registry
from bench.analysis import results
from bench.errors import UserError
from bench.fitting import AUTO, BatchSize, size_of
from bench.job import preflight, resuming
from bench.job.outcome import Outcome, failed_images
from bench.job.resuming import OtherCode
from bench.job.scoring import add_scores, record_scorers
from bench.job.writing import RESULTS, derived, merged_folder, write_report
from bench.models.base import default_dtype
from bench.remote.cache import image_cache_or_none
from bench.remote.mirror import mirrored
from bench.runner.plan import Plan, content_hash
from bench.store import Cell as StoredCell
from bench.store import Ledger, as_json, exclusive, full_disk_is_said, write_atomically
from bench.store.cache import ImageCache
from bench.store.files import writable
from bench.store.whole import whole_images
from bench.suite import Suite

if TYPE_CHECKING:
    from bench.runner.shards import Shard

__all__ = ["Outcome", "add_scores", "failed_images", "fingerprint", "merged_folder", "run", "write_report"]


def likely_device() -> str:
    """`cuda` or `cpu`, as a run without --device chooses; torch is asked only where there is a driver to find."""
    if not any(Path(place).exists() for place in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


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

    `shard` makes one part of several, in a folder of its own (`bench.job.merging`).
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
            how = _How(
                cache=images,
                device=device,
                batch_size=batch_size,
                threads=threads,
                other_code=other,
                by=provenance.trusted() if gate and other != "keep" else None,
                memory=memory,
                job_seconds=job_seconds,
                score_seconds=score_seconds,
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


@dataclass(frozen=True)
class _How:
    """How the images of a run are made."""

    cache: ImageCache | None
    device: str | None
    batch_size: BatchSize | None
    threads: int | None
    other_code: OtherCode
    by: str | None
    """The one origin whose images are taken from the cache; None: any."""
    memory: bool
    """Whether the memory of every arm is measured apart."""
    job_seconds: float | None
    score_seconds: float | None


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


def _run(plan: Plan, ledger: Ledger, how: _How, check: Callable[[], None]) -> Outcome:
    """All stages; `check` raises UserError where something for them is not here, which a finished run does not need."""
    folder = ledger.folder
    codes, kept = resuming.codes(plan), ledger.get("kept")
    plan = resuming.decided(plan, ledger, codes, how.other_code)
    complete = fingerprint(plan)
    report = folder / RESULTS
    weights = {name: registry.get("metrics", name).digest() for name in plan.suite.metrics}
    before = ledger.images()
    whole = _images_there(plan, ledger, how.by) and not _to_measure(plan, ledger, how)
    if ledger.get("finished") == complete and report.is_file() and whole:
        scores = ledger.scores_of(weights)
        reuse = resuming.reuse(plan, ledger, before, scores=(scores, scores))
        recorded = [ledger.get("suite"), ledger.get("optimises"), ledger.get("learnt_from") or {}, kept]
        if recorded != [plan.suite.model_dump(mode="json"), plan.optimises, plan.learnt_from, ledger.get("kept")]:
            # The same images and scores under another title, before other gates, or by methods that now say more.
            _record_suite(ledger, plan)
            return Outcome(folder, found=write_report(ledger), worked=False, reuse=reuse)
        return Outcome(folder, found=derived(ledger), worked=False, reuse=reuse)

    check()
    for name in preflight.judges(plan):
        registry.get("metrics", name).check_here()
    from bench.runner import score

    started = time.perf_counter()
    chosen, session, stages = _images(plan, ledger, how, codes, weights)
    scored = ledger.scores_of(weights)
    stages["score_seconds"] = score.score(score.arms(plan), ledger, device=chosen, limit=how.score_seconds)
    now = ledger.images()
    known = {job for job, image in before.items() if image == now.get(job)}
    reuse = resuming.reuse(plan, ledger, known, scores=(scored, ledger.scores_of(weights)))
    stages["seconds"] = time.perf_counter() - started
    end_session(ledger, session, stages)
    found = write_report(ledger)
    failed, unscored, unmeasured = failed_images(ledger), results.unscored(ledger), _unmeasured(ledger, how)
    if not failed and not unscored:
        ledger.set("finished", complete)
    ledger.close()
    return Outcome(
        folder, found=found, worked=True, failed=failed, unscored=unscored, unmeasured=unmeasured, reuse=reuse
    )


def _to_measure(plan: Plan, ledger: Ledger, how: _How) -> bool:
    """Whether memory is asked for that was not measured yet."""
    if not how.memory or (how.device or likely_device()) != "cpu":
        return False
    from bench.runner import memory

    return bool(memory.lacking(plan, ledger, how.batch_size))


def _unmeasured(ledger: Ledger, how: _How) -> dict[str, str]:
    """Why memory that is asked for is not known, by method."""
    return {row.method: row.reason for row in ledger.memory() if how.memory and row.reason is not None}


def _generated(plan: Plan, ledger: Ledger, how: _How) -> Outcome:
    """The images of a run, chosen ones too, without its scores or a report."""
    folder = ledger.folder
    for name in preflight.choosers(plan):
        registry.get("metrics", name).check_here()
    codes = resuming.codes(plan)
    plan = resuming.decided(plan, ledger, codes, how.other_code)
    started = time.perf_counter()
    _, session, stages = _images(plan, ledger, how, codes, {})
    end_session(ledger, session, {**stages, "seconds": time.perf_counter() - started})
    failed, unmeasured = failed_images(ledger), _unmeasured(ledger, how)
    ledger.close()
    return Outcome(folder, worked=bool(stages["generate"]["made"]), failed=failed, unmeasured=unmeasured)


def _images(
    plan: Plan, ledger: Ledger, how: _How, codes: resuming.Codes, weights: dict[str, str]
) -> tuple[str, int, dict[str, Any]]:
    """Have every image of a plan in its ledger; returns the device, the session's number, and stages so far."""
    # Only here does a run need torch.
    from bench.runner import generate, score

    if how.threads:
        import torch

        torch.set_num_threads(how.threads)
    chosen = generate.choose_device(how.device)
    _record_suite(ledger, plan)
    weights = {name: registry.get("models", name).digest() for name in plan.suite.models} | weights
    session = ledger.begin_session(provenance.collect(chosen, weights, codes))
    made = generate.generate(
        plan, ledger, how.cache, device=chosen, batch_size=how.batch_size, by=how.by, job_seconds=how.job_seconds
    )
    stages: dict[str, Any] = {"generate": made}
    stages["judge_seconds"] = score.score(score.judges(plan), ledger, device=chosen, limit=how.score_seconds)
    score.choose(plan, ledger)
    if how.memory:
        from bench.runner import memory

        started = time.perf_counter()
        memory.measure(plan, ledger, device=chosen, batch_size=how.batch_size)
        stages["memory_seconds"] = time.perf_counter() - started
    return chosen, session, stages


def _images_there(plan: Plan, ledger: Ledger, by: str | None) -> bool:
    """Whether a plan's images, as far as they were made, are whole in the folder and, with `by`, all of that origin."""
    jobs = {*plan.jobs, *(cell.job_id for cell in plan.cells)}
    images = [image for job, image in ledger.images().items() if job in jobs]
    ours = all(by is None or not image.from_cache or image.origin == by for image in images)
    return ours and len(whole_images(ledger, jobs, quiet=True)) == len(images)


def _record_suite(ledger: Ledger, plan: Plan) -> None:
    """What the run is for, kept with it so that every later stage needs the folder only."""
    with ledger.transaction():
        ledger.set("suite", plan.suite.model_dump(mode="json"))
        ledger.set("optimises", plan.optimises)
        ledger.set("learnt_from", plan.learnt_from)
        ledger.set("left_out", plan.notes)
        if plan.part:
            ledger.set("shard", plan.part.record())
        record_scorers(ledger, plan.suite, plan.suite.metrics)
        ledger.forget_memory(plan.jobs.keys())
        ledger.put_cells(
            StoredCell(
                c.arm.method,
                c.arm.model,
                c.arm.prompts,
                c.arm.sampler,
                c.arm.steps,
                c.arm.guidance,
                c.prompt.index,
                c.seed,
                c.prompt.text,
                c.prompt.category,
                as_json(c.prompt.metadata),
                c.job_id,
            )
            for c in plan.cells
        )
    write_atomically(ledger.folder / "suite.yaml", plan.suite.source_text.encode())


def end_session(ledger: Ledger, session: int, stages: dict[str, Any]) -> None:
    """Keep what its stages took, and say how fast images were made if any were."""
    ledger.end_session(session, stages)
    generated = stages.get("generate") or {}
    if generated.get("made") and "efficiency" in generated:
        print(
            f"generate: {generated['made']} images in {generated['seconds']:.1f} s, "
            f"{100 * generated['efficiency']:.1f} % of it inside the model",
            file=sys.stderr,
        )
