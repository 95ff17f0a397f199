"""What metrics are asked, in groups that share networks, handed to an executor batch by batch; what is said is kept.

So a network that several metrics need is loaded once and run once an image, and each group of scorers is freed before
the next one is loaded. A killed run keeps every finished batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bench.errors import UserError
from bench.metrics.base import MetricEntry
from bench.progress import Progress
from bench.prompts.base import Prompt
from bench.runner.executors.base import Executor, Lost
from bench.runner.panel import Ask, File, Item, Judging, Key, Said
from bench.store import Image, Ledger, inside

BATCH = 64

Shown = tuple[list[Image], Prompt]


@dataclass(frozen=True, eq=False)
class Asked:
    """A metric and what it has not judged yet."""

    entry: MetricEntry
    digest: str
    todo: dict[Key, Shown]


def place(key: Key) -> tuple[str, str, str]:
    """(image, baseline or nothing, prompt), as score failures are kept."""
    return (key[0], key[1], key[2]) if len(key) == 3 else (key[0], "", key[1])


def together(asked: Sequence[Asked]) -> Iterator[list[Asked]]:
    """Metrics in groups: whichever have a network in common, directly or by way of others, are in one group.

    Groups and their members come in the order in which they are asked for.
    """
    rest = [(one, set(one.entry.networks())) for one in asked]
    while rest:
        first, networks = rest.pop(0)
        group = [first]
        while found := next((pair for pair in rest if pair[1] & networks), None):
            rest.remove(found)
            group.append(found[0])
            networks |= found[1]
        yield [one for one in asked if one in group]


def judge(
    group: Sequence[Asked], ledger: Ledger, device: str, executor: Executor, limit: float | None = None
) -> dict[str, float]:
    """Judge all that a group of metrics is asked, and free its scorers; returns seconds by metric.

    `limit` is the most seconds that the score of an image may take.
    """
    started = time.perf_counter()
    for one in group:
        ledger.forget_score_failures((*place(key), one.entry.name, one.digest) for key in one.todo)
    seconds = _judge_all(group, ledger, Judging(tuple(one.entry.name for one in group), device, limit), executor)
    executor.rest()
    # Loading and reading serve all of them.
    rest = max(0.0, time.perf_counter() - started - sum(seconds.values())) / len(group)
    return {name: own + rest for name, own in seconds.items()}


def _judge_all(group: Sequence[Asked], ledger: Ledger, recipe: Judging, executor: Executor) -> dict[str, float]:
    names = {one.entry.name: one for one in group}
    todo: dict[Key, Shown] = {}
    for one in group:
        todo.update(one.todo)
    items = list(todo.items())
    seconds = dict.fromkeys(names, 0.0)
    asks = (_ask(items[i : i + BATCH], group, ledger) for i in range(0, len(items), BATCH))
    price = float(sum(len(one.todo) for one in group))
    with Progress(f"score {', '.join(names)}", len(items)) as progress:
        for ask, said in executor.run(recipe, asks, price=price):
            if isinstance(said, Lost):
                _keep_lost(ask, said.reason, names, ledger)
                said = []
            for one_said in said:
                _keep(one_said, names[one_said.metric], ledger)
                seconds[one_said.metric] += one_said.seconds / max(1, executor.workers)
            progress.fleet = executor.workers
            progress.advance(len(ask.items))
    return seconds


def _ask(batch: Sequence[tuple[Key, Shown]], group: Sequence[Asked], ledger: Ledger) -> Ask:
    """A batch with its images' files, each read once."""
    items = tuple(
        Item(key, tuple(image.digest for image in shown), prompt, _asked_of(key, group))
        for key, (shown, prompt) in batch
    )
    images = {image.digest: image for _, (shown, _) in batch for image in shown}
    return Ask(items, {digest: _file(image, ledger) for digest, image in images.items()})


def _asked_of(key: Key, group: Iterable[Asked]) -> tuple[str, ...]:
    return tuple(one.entry.name for one in group if key in one.todo)


def _file(image: Image, ledger: Ledger) -> File:
    path = inside(ledger.folder, image.file)
    try:
        return File(str(path), path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run the suite again, which makes it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _keep(said: Said, one: Asked, ledger: Ledger) -> None:
    """Keep what a metric says of a batch."""
    name, now = one.entry.name, datetime.now(UTC).isoformat(timespec="seconds")
    put: Any = {"image": ledger.put_scores, "pair": ledger.put_pair_scores, "set": ledger.put_features}[one.entry.kind]
    put((*key, name, one.digest, *kept, said.ms) for key, kept in said.kept if not isinstance(kept, str))
    ledger.put_score_failures(
        (*place(key), name, one.digest, kept, now) for key, kept in said.kept if isinstance(kept, str)
    )


def _keep_lost(ask: Ask, reason: str, names: dict[str, Asked], ledger: Ledger) -> None:
    """A batch that ended its workers has no scores, for that reason."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    ledger.put_score_failures(
        (*place(item.key), name, names[name].digest, reason, now) for item in ask.items for name in item.metrics
    )
