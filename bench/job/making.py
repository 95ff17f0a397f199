"""The images of a run: how they are asked for, who makes them, and the stages up to the last of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import provenance, registry
from bench.backoff import BatchSize
from bench.job import resuming
from bench.job.recording import record_suite
from bench.job.resuming import OtherCode
from bench.runner.executors import Wanted, opened
from bench.runner.executors.base import Executor, torch_threads
from bench.runner.plan import Plan
from bench.store import Ledger
from bench.store.cache import ImageCache
from bench.store.whole import whole_images


def likely_device() -> str:
    """`cuda` or `cpu`, as a run without --device chooses; torch is asked only where there is a driver to find."""
    if not any(Path(place).exists() for place in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class How:
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
    spread: Wanted


def images_there(plan: Plan, ledger: Ledger, by: str | None) -> bool:
    """Whether a plan's images, as far as they were made, are whole in the folder and, with `by`, all of that origin."""
    jobs = {*plan.jobs, *(cell.job_id for cell in plan.cells)}
    images = [image for job, image in ledger.images().items() if job in jobs]
    ours = all(by is None or not image.from_cache or image.origin == by for image in images)
    return ours and len(whole_images(ledger, jobs, quiet=True)) == len(images)


def to_measure(plan: Plan, ledger: Ledger, how: How) -> bool:
    """Whether memory is asked for that was not measured yet."""
    if not how.memory or (how.device or likely_device()) != "cpu":
        return False
    from bench.runner import memory

    return bool(memory.lacking(plan, ledger, how.batch_size))


@contextmanager
def executor_for(plan: Plan, how: How) -> Iterator[tuple[str, Executor]]:
    """The device, and who works on it."""
    # Only here does a run need torch.
    from bench.runner import generate

    chosen = generate.choose_device(how.device)
    suite = plan.suite
    with (
        opened(
            how.spread, device=chosen, threads=how.threads, suite=suite, models=suite.models, metrics=suite.metrics
        ) as executor,
        torch_threads(executor.threads),
    ):
        yield chosen, executor


def have_images(
    plan: Plan,
    ledger: Ledger,
    how: How,
    codes: resuming.Codes,
    weights: dict[str, str],
    chosen: str,
    executor: Executor,
) -> tuple[int, dict[str, Any]]:
    """Have every image of a plan in its ledger; returns the session's number, and stages so far."""
    from bench.runner import generate, score

    record_suite(ledger, plan)
    weights = {name: registry.get("models", name).digest() for name in plan.suite.models} | weights
    session = ledger.begin_session(provenance.collect(chosen, weights, codes))
    made = generate.generate(
        plan,
        ledger,
        how.cache,
        device=chosen,
        batch_size=how.batch_size,
        by=how.by,
        job_seconds=how.job_seconds,
        executor=executor,
    )
    stages: dict[str, Any] = {"generate": made}
    stages["judge_seconds"] = score.score(
        score.judges(plan), ledger, device=chosen, limit=how.score_seconds, executor=executor
    )
    score.choose(plan, ledger)
    if how.memory:
        from bench.runner import memory

        started = time.perf_counter()
        memory.measure(plan, ledger, device=chosen, batch_size=how.batch_size)
        stages["memory_seconds"] = time.perf_counter() - started
    return session, stages
