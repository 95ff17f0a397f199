"""Jobs -> PNG files and ledger rows: batched, atomic, resumable."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.backoff import AUTO, DEFAULT_BATCH, BatchSize, size_of
from bench.errors import UserError
from bench.progress import Progress
from bench.runner.executors.base import Executor, InProcess, Lost
from bench.runner.plan import Job, Plan
from bench.sampling.records import SINGLE
from bench.store import Ledger, write_atomically
from bench.store.cache import ImageCache
from bench.store.whole import whole_images

if TYPE_CHECKING:
    from bench.runner.generator import Making
    from bench.runner.parcel import Parcel


def choose_device(asked: str | None) -> str:
    """`asked`, else a GPU where there is one, else the CPU."""
    import torch

    if asked and asked.split(":")[0] not in DEFAULT_BATCH:
        raise UserError(f"--device {asked}: expected cpu, cuda or cuda:N")
    if asked and asked.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {asked}: torch sees no CUDA device here; use --device cpu")
    if asked and asked.startswith("cuda:") and not asked[5:].isdecimal():
        raise UserError(f"--device {asked}: expected cpu, cuda or cuda:N")
    if asked and asked.startswith("cuda:") and int(asked[5:]) >= torch.cuda.device_count():
        raise UserError(f"--device {asked}: this machine has {torch.cuda.device_count()} CUDA devices, from cuda:0")
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


def generate(
    plan: Plan,
    ledger: Ledger,
    cache: ImageCache | None,
    *,
    device: str,
    batch_size: BatchSize | None = None,
    by: str | None = None,
    executor: Executor | None = None,
    job_seconds: float | None = None,
) -> dict[str, Any]:
    """Make every image of the plan that the run does not have yet; returns counts and seconds by stage.

    `by`: take no image of the cache, now or before, but those of one origin, as a gate does. Without an `executor`
    they are made in this process.
    """
    images = ledger.folder / "images"
    images.mkdir(exist_ok=True)
    there = whole_images(ledger)
    have = {i for i, image in there.items() if by is None or not image.from_cache or image.origin == by}
    todo = [j for j in plan.jobs.values() if j.id not in have]
    if cache is not None and todo:
        todo = _bring(todo, ledger, cache, by)
    totals: dict[str, Any] = {"made": len(todo), "found": len(plan.jobs) - len(todo)}
    if not todo:
        return totals
    # Only here does a run need torch.
    from bench.runner.generator import Making

    size = size_of(batch_size or plan.suite.batch_size, device)
    executor = executor or InProcess()
    with Progress("generate", len(todo)) as progress:
        made = _Made(ledger, cache, executor, progress)
        for of_model in by_model(todo):
            recipe = Making(device, tuple(of_model) if device.startswith("cuda") else (), job_seconds)
            most = _largest(of_model[0], executor, recipe) if size == AUTO else size
            _keep_size(ledger, most)
            made.all(recipe, _groups(plan, of_model, most), price=sum(calls(job) for job in of_model))
        executor.rest()
    failed = {i: reason for i, reason in ledger.failures().items() if i in plan.jobs}
    return {**totals, "made": totals["made"] - len(failed), "failed": len(failed), **made.totals(device)}


def _keep_size(ledger: Ledger, size: int) -> None:
    """Keep with a run how many images its batches have; where others of its images had other batches, say so.

    An image's low bits depend on the batch that it is made in: matrix products of other shapes round otherwise.
    """
    known: list[int] = ledger.get("batch_sizes") or []
    if size in known:
        return
    if known:
        before = " and ".join(map(str, known))
        said = f"note: this run has images of batches of {before}; batches of {size} give other low bits"
        print(f"{said}, which the report then states", file=sys.stderr)
    ledger.set("batch_sizes", sorted([*known, size]))


def calls(job: Job) -> int:
    """About how many evaluations of the denoiser a job's sampling has: one a step, two with guidance."""
    return job.steps * (2 if job.guidance > 1 else 1)


def _largest(job: Job, executor: Executor, recipe: Making) -> int:
    """The size of batches that fit a GPU and pay, as one worker finds it."""
    from bench.runner.parcel import Largest

    ((_, size),) = executor.run(recipe, [Largest(job)])
    if isinstance(size, Lost):
        return 1
    print(f"batch size: {size} images of {job.model}, the most that fit and pay", file=sys.stderr)
    return int(size)


class _Made:
    """What comes of batches: written as it comes, and counted."""

    def __init__(self, ledger: Ledger, cache: ImageCache | None, executor: Executor, progress: Progress):
        self.ledger, self.cache, self.executor, self.progress = ledger, cache, executor, progress
        self.spent: dict[str, float] = {}
        self.seconds = self.waited = 0.0

    def all(self, recipe: Making, groups: Sequence[Sequence[Job]], *, price: float) -> None:
        """Have batches made and keep every one of them."""
        started, waited = time.perf_counter(), self.executor.start_seconds
        for group, parcel in self.executor.run(recipe, groups, price=price):
            if isinstance(parcel, Lost):
                now = datetime.now(UTC).isoformat(timespec="seconds")
                self.ledger.put_failures((job.id, parcel.reason, now) for job in group)
            else:
                keep(parcel, self.ledger, self.cache)
                self._count(parcel.spent)
            self.progress.fleet = self.executor.workers
            self.progress.advance(len(group))
        waited = self.executor.start_seconds - waited
        self.seconds, self.waited = self.seconds + time.perf_counter() - started - waited, self.waited + waited

    def _count(self, spent: Mapping[str, float]) -> None:
        for name, seconds in spent.items():
            self.spent[name] = self.spent.get(name, 0.0) + seconds

    def _of(self, kind: str) -> dict[str, float]:
        return {name.removeprefix(kind): s for name, s in self.spent.items() if name.startswith(kind)}

    def totals(self, device: str) -> dict[str, Any]:
        """Seconds: the whole stage, its parts summed over workers, and the share spent inside the models' networks."""
        workers = max(1, self.executor.workers)
        stages, inside = self._of("stage "), self._of("inside ")
        load, warmup = self.spent.get("load", 0.0) + stages.pop("prepare", 0.0), self.spent.get("warmup", 0.0)
        # Workers load beside one another.
        wall = max(self.seconds - (load + warmup) / workers, 1e-9)
        found = {"seconds": wall, "load_seconds": load, "warmup_seconds": warmup, "stages": stages, "device": device}
        if "compile" in self.spent:
            found["compile_seconds"] = self.spent["compile"]
        found |= {"executor": self.executor.name, "workers": self.executor.workers, "start_seconds": self.waited}
        if device == "cpu":
            found |= {"inside": inside, "efficiency": sum(inside.values()) / (wall * workers)}
        return found


def keep(parcel: Parcel, ledger: Ledger, cache: ImageCache | None) -> None:
    """Write what comes of a batch: each image whole, then all rows. The one place where an image is written."""
    for row, png in zip(parcel.rows, parcel.pngs, strict=True):
        write_atomically(ledger.folder / row.file, png)
    ledger.put_failures(parcel.failures)
    ledger.put_images(parcel.rows)
    if cache is not None:
        for row in parcel.rows:
            cache.put(row, ledger.folder / row.file)


def _bring(todo: list[Job], ledger: Ledger, cache: ImageCache, by: str | None) -> list[Job]:
    """Take from the cache what it has; returns the jobs that remain."""
    found, remain = [], []
    cache.near(job.id for job in todo)
    for job in todo:
        file = f"images/{job.id}.png"
        image = cache.get(job.id, ledger.folder / file, file, by=by) if cache.has(job.id) else None
        found.append(image) if image else remain.append(job)
    ledger.put_images(i for i in found if i)
    return remain


def by_model(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs of one model each, in the models' first order: one is loaded at a time."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.model, []).append(job)
    return list(found.values())


def _groups(plan: Plan, todo: Sequence[Job], size: int) -> list[list[Job]]:
    """The batches of a model that are still to make, each as it is in a run that is made in one go.

    So what is left of a run that was stopped has the batches, and thereby the pixels, that it would have had.
    """
    left = {job.id for job in todo}
    of_model = [job for job in plan.batched.values() if job.model == todo[0].model]
    whole = batches(of_model, size, prompts=(job.prompt for job in plan.batched.values()))
    found = [[job for job in group if job.id in left] for group in whole]
    return [group for group in found if group]


def batches(jobs: Sequence[Job], size: int, *, prompts: Iterable[str]) -> list[list[Job]]:
    """Jobs of one group each; a model's arms take turns, in the order of `prompts` as far as whole batches allow.

    A machine grows slower or faster during a run; made one arm after the other, that would pass for a
    difference in cost between methods. It also leaves a run that was stopped with something of every arm. No batch
    holds the end of one arm and the beginning of another: an image of a larger batch takes less time, so what is left
    over has to be as few images for every method.
    """
    models = {name: i for i, name in enumerate(dict.fromkeys(j.model for j in jobs))}
    places = {text: i for i, text in enumerate(dict.fromkeys(prompts))}
    found: list[list[Job]] = []
    before: Job | None = None
    for job in jobs:
        # An arm goes through the prompts once, so a prompt from further up begins the next arm.
        goes_on = before is not None and job.group == before.group and places[job.prompt] >= places[before.prompt]
        most = 1 if SINGLE in job.chain.all_needs() else size
        if goes_on and len(found[-1]) < most:
            found[-1].append(job)
        else:
            found.append([job])
        before = job
    return sorted(found, key=lambda b: (models[b[0].model], fmean(places[j.prompt] for j in b)))
