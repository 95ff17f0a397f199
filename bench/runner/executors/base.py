"""What executors share: a recipe opens a station, a station does tasks, and an executor hands tasks to stations.

    for task, done in executor.run(recipe, tasks): ...

A task is what nothing smaller is made of, such as a batch of images: its members are the same whichever executor
runs it, so its results are too. Only the process that runs this loop writes anything. Imports no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

T = TypeVar("T")


class Station(Protocol):
    """What a worker works with, loaded once for many tasks: a model, or the scorers of a group."""

    def do(self, task: Any) -> Callable[[], Any]:
        """Do a task; returns what gives the result: it may run beside the next task, as encoding a PNG may."""

    def close(self) -> None:
        """Let go what is loaded."""


class Recipe(Protocol):
    """How a station is opened: a small record that can be sent to another process. Equal ones open equal stations."""

    @property
    def device(self) -> str:
        """`cpu` or a GPU, as torch names it."""

    def open(self) -> Station:
        """The station, in the process that works with it."""


@dataclass(frozen=True)
class Lost:
    """Stands for the result of a task that ended every worker it was given to."""

    reason: str


class Executor(ABC):
    """Runs tasks by a recipe, in this process or in workers."""

    name: ClassVar[str]
    """As `--executor` has it."""
    threads: int | None = None
    """CPU threads of torch that each process has; None: as many as it takes."""
    start_seconds = 0.0
    """Time that runs have waited for the first worker to be ready."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """Processes that tasks are handed to."""

    @abstractmethod
    def run(self, recipe: Recipe, tasks: Iterable[T], *, price: float = 0.0) -> Iterator[tuple[T, Any]]:
        """Each task with its result, or with `Lost`, as they are done; an error of a station is raised here.

        Tasks are handed out in their order. `price` is about how much work they are, in evaluations of a network for
        one image. The station stays open for a next run by an equal recipe.
        """

    def rest(self) -> None:  # noqa: B027  # an executor without stations of its own has none to close
        """Close the stations, so that others have their memory."""

    def close(self) -> None:
        """End the workers."""
        self.rest()

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Bench:
    """The station in work; that of another recipe takes its place."""

    def __init__(self) -> None:
        self.recipe: Recipe | None = None
        self.station: Station | None = None

    def at(self, recipe: Recipe) -> Station:
        """The recipe's station, opened if another, or none, is open."""
        if self.station is None or self.recipe != recipe:
            self.clear()
            self.station, self.recipe = recipe.open(), recipe
        return self.station

    def clear(self) -> None:
        """Close the open station."""
        station, self.station, self.recipe = self.station, None, None
        if station is not None:
            station.close()


class InProcess(Executor):
    """No worker: tasks are done here, one after the other, by `threads` CPU threads or as many as torch has."""

    name = "local"

    def __init__(self, *, threads: int | None = None):
        self.threads = threads
        self.bench = Bench()

    @property
    def workers(self) -> int:
        return 0

    def run(self, recipe: Recipe, tasks: Iterable[T], *, price: float = 0.0) -> Iterator[tuple[T, Any]]:
        with torch_threads(self.threads), ExitStack() as stack:
            beside = Beside(recipe.device, stack)
            for task in tasks:
                yield from beside.put(task, self.bench.at(recipe).do(task))
            yield from beside.left()

    def rest(self) -> None:
        self.bench.clear()


class Beside:
    """Finishes results: on a GPU in a thread beside the next task, on a CPU at once, for a thread would slow that."""

    def __init__(self, device: str, stack: ExitStack):
        self.pool = stack.enter_context(ThreadPoolExecutor(1)) if device.startswith("cuda") else None
        self.waiting: tuple[Any, Future[Any]] | None = None

    def put(self, task: T, finish: Callable[[], Any]) -> list[tuple[T, Any]]:
        """Have a result finished; returns those that are, with their tasks: one at most is not yet."""
        if self.pool is None:
            return [(task, finish())]
        before, self.waiting = self.left(), (task, self.pool.submit(finish))
        return before

    def left(self) -> list[Any]:
        """What is not given out yet, finished."""
        waiting, self.waiting = self.waiting, None
        return [(waiting[0], waiting[1].result())] if waiting else []


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """Within, torch uses so many CPU threads; None: as many as it does."""
    if number is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
