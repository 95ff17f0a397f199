"""Jobs -> PNG files and ledger rows: batched, atomic, resumable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.fitting import AUTO, DEFAULT_BATCH, BatchSize, size_of
from bench.progress import Progress
from bench.runner.plan import Job, Plan
from bench.sampling.records import SINGLE
from bench.store import Ledger
from bench.store.cache import ImageCache

if TYPE_CHECKING:
    pass


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
) -> dict[str, Any]:
    """Make every image of the plan that the run does not have yet; returns counts and seconds by stage.

    `by`: take no image of the cache, now or before, but those of one origin, as a gate does.
    """
    images = ledger.folder / "images"
    images.mkdir(exist_ok=True)
    there = {i: image for i, image in ledger.images().items() if (ledger.folder / image.file).is_file()}
    have = {i for i, image in there.items() if by is None or not image.from_cache or image.origin == by}
    todo = [j for j in plan.jobs.values() if j.id not in have]
    if cache is not None and todo:
        todo = _bring(todo, ledger, cache, by)
    totals: dict[str, Any] = {"made": len(todo), "found": len(plan.jobs) - len(todo)}
    if not todo:
        return totals
    # Only here does a run need torch.
    from bench.runner.maker import Maker

    size = size_of(batch_size or plan.suite.batch_size, device)
    with Progress("generate", len(todo)) as progress:
        maker = Maker(ledger, cache, device=device)
        maker.expect(todo)
        prompts = [j.prompt for j in plan.jobs.values()]
        for of_model in by_model(todo):
            most = maker.largest(of_model[0]) if size == AUTO else size
            for group in batches(of_model, most, prompts=prompts):
                maker.make(group)
                progress.advance(len(group))
    failed = {i: reason for i, reason in ledger.failures().items() if i in plan.jobs}
    return {**totals, "made": totals["made"] - len(failed), "failed": len(failed), **maker.totals()}


def _bring(todo: list[Job], ledger: Ledger, cache: ImageCache, by: str | None) -> list[Job]:
    """Take from the cache what it has; returns the jobs that remain."""
    found, remain = [], []
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


def batches(jobs: Sequence[Job], size: int, *, prompts: Iterable[str]) -> list[list[Job]]:
    """Jobs of one group each; a model's arms take turns, in the order of `prompts` as far as whole batches allow.

    A machine grows slower or faster while a run goes on; made one arm after the other, that would pass for a
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
