"""A CPU without any wish: this process for little work, one worker a core where that is worth their start.

On two cores two processes of one thread make more images a second than one of two threads, and a busy neighbour takes
them a core's share, where it stops threads that wait for one another (docs/executors.md has the measurement). Each
process has one thread, whether there are workers or not, so that the same run has the same pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from bench import registry
from bench.metrics.base import MetricEntry
from bench.models.base import ModelEntry
from bench.needs.base import Package
from bench.runner.executors import Wanted, setting
from bench.runner.executors.base import Executor, InProcess, Recipe
from bench.runner.executors.fleet import Fleet
from bench.suite import Suite

T = TypeVar("T")

WORTH = 7_500.0
"""Evaluations of a small network for one image from which workers are worth their start.

Measured on two idle cores (docs/executors.md): 366 a second here, 630 by two workers that are ready after 2.0 s. So
their start is a tenth of what this process takes for as many (20 s), and they are done after 14 s."""
SMALL_BYTES = 500 * 2**20
"""Of a model's files: every worker holds one. Larger ones are worked on by this process and all of its threads."""
WORKER_BYTES = 2 * 2**30
"""Memory that is free for each worker at least: the libraries, the model, and a batch."""


class Thrifty(Executor):
    """This process until there is work that is worth workers, from then on those."""

    name = "local"

    def __init__(self, fleet: Fleet, threads: int):
        self.fleet, self.here = fleet, InProcess(threads=threads)
        self.threads = threads
        self.spread = False

    @property
    def workers(self) -> int:
        return self.fleet.workers if self.spread else 0

    def run(self, recipe: Recipe, tasks: Iterable[T], *, price: float = 0.0) -> Iterator[tuple[T, object]]:
        if not self.spread and price >= WORTH:
            self.here.rest()
            self.spread = True
        return (self.fleet if self.spread else self.here).run(recipe, tasks, price=price)

    def rest(self) -> None:
        (self.fleet if self.spread else self.here).rest()

    def close(self) -> None:
        self.here.close()
        self.fleet.close()


def chosen(
    models: Sequence[str],
    metrics: Sequence[str],
    suite: Suite | None,
    threads: int | None,
    kind: type[Fleet],
    *,
    alone: bool,
) -> Executor:
    """`Thrifty` where models and scorers are small and cores are free for it; this process and its threads otherwise.

    `alone`: something is known to this process only.
    """
    small = all(_is_small(registry.get("models", name)) for name in models)
    if not small or not all(_is_light(registry.get("metrics", name)) for name in metrics):
        return InProcess(threads=threads)
    each = threads or 1
    workers = min(cores() // each, fitting())
    if alone or workers < 2:
        return InProcess(threads=each)
    return Thrifty(kind.opened(Wanted(workers=workers), setting(suite, each), device="cpu"), each)


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _is_small(entry: ModelEntry) -> bool:
    """Whether a model's files are known to be small."""
    if entry.folder is None:
        return entry.about_bytes is not None and entry.about_bytes < SMALL_BYTES
    return sum(path.stat().st_size for path in entry.folder.rglob("*") if path.is_file()) < SMALL_BYTES


def _is_light(entry: MetricEntry) -> bool:
    """Whether a metric needs no files, as those of the embedded world, or small ones."""
    return all(
        isinstance(need.source, Package) or (need.about_bytes is not None and need.about_bytes < SMALL_BYTES)
        for need in entry.needs()
    )


def fitting() -> int:
    """Workers that the free memory has room for; where the system does not say, it does not limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return cores()
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    return cores() if free is None else free // WORKER_BYTES
