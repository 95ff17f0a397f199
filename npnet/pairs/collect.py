"""Collect noise pairs: prompts x seeds -> source noise, target noise, both images' scores (paper, 3.1 and A.4).

What is in memory is one batch of every worker and the shards that they are of, however large the collection.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench import registry
from bench.errors import UserError
from bench.runner.executors.base import Lost
from npnet.pairs import dataset
from npnet.pairs.collection import CollectConfig, Planned, plan
from npnet.pairs.collector import Collecting, Pairs, Task, joined
from npnet.pairs.folders import write_file
from npnet.teachers import base as teachers

if TYPE_CHECKING:
    from bench.runner.executors import Wanted

__all__ = ["CollectConfig", "run"]

ABANDONED_SECONDS = 86_400
"""No file takes a day to write."""
Shard = tuple[int, int]
"""What this process makes: (3, 16) is the third of sixteen."""


def run(
    config: CollectConfig,
    *,
    out: Path,
    shard: Shard = (1, 1),
    device: str | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    say: Callable[[str], None] = print,
    spread: Wanted | None = None,
) -> int:
    """Make the pairs of a collection that `out` does not have yet; returns how many were made.

    `shard` (i, n) makes the shards whose number modulo n is i - 1, so that n processes share the work; their folders
    may be one or merge later. A killed run resumes where it was, shard by shard, to the same bytes. `spread` says who
    makes them: this process, worker processes, or actors of Ray. UserError where `out` holds another collection or a
    broken shard.
    """
    from bench.backoff import DEFAULT_BATCH
    from bench.progress import Progress
    from bench.runner.executors import Wanted, opened
    from bench.runner.generate import choose_device

    device = choose_device(device)
    planned = plan(config)
    protocol = planned.protocol
    dataset.write_manifest(out, protocol)
    mine = [c for c in range(protocol.chunks) if c % shard[1] == shard[0] - 1]
    if not mine:
        shards = f"{protocol.chunks} shards of {protocol.chunk} pairs"
        say(f"shard {shard[0]}/{shard[1]} is empty: the collection has {shards}")
    _clean(out, mine, protocol)
    digests = {name: registry.get("metrics", name).digest() for name in config.metrics}
    todo = [c for c in mine if not _have(out, c, planned, digests)]
    have = sum(len(protocol.members(c)) for c in mine) - sum(len(protocol.members(c)) for c in todo)
    if have:
        say(f"{have} pairs were there already")
    if not todo:
        return 0
    total = sum(len(protocol.members(c)) for c in todo)
    size = batch_size or DEFAULT_BATCH[device.split(":")[0]]
    if teachers.one_by_one(planned.teacher):
        size = 1
    recipe = Collecting(config, device, tuple(digests.items()))
    collected = _Collected(planned, out, digests, say, first=None if have else todo[0])
    with (
        Progress("collect", total, "pairs") as progress,
        opened(
            spread or Wanted(), device=device, threads=threads, models=(config.model,), metrics=config.metrics
        ) as executor,
    ):
        for task, parts in executor.run(recipe, _tasks(protocol, todo, size), price=float(total * protocol.steps * 4)):
            collected.add(task, parts)
            progress.fleet = executor.workers
            progress.advance(len(task.numbers))
    say(f"{total} pairs made, {collected.calls:g} denoiser calls a pair")
    if collected.broken:
        say(f"{collected.broken} of them with NaN or infinity in their target noise, which selection drops")
    collected.say_given_up()
    return total


def _tasks(protocol: dataset.Protocol, chunks: Iterable[int], size: int) -> Iterator[Task]:
    """The batches of shards, in order; none is of two."""
    for chunk in chunks:
        members = protocol.members(chunk)
        for start in range(members.start, members.stop, size):
            yield Task(chunk, range(start, min(start + size, members.stop)))


def _have(out: Path, chunk: int, planned: Planned, digests: Mapping[str, str]) -> bool:
    """Whether a shard is there, whole, scored by all metrics, and has its images where they are to be kept."""
    path = dataset.shard_path(out, chunk)
    if not path.exists():
        return False
    shard = dataset.read_shard(path, planned.protocol)
    missing = [m for m in planned.config.metrics if m not in shard.scores]
    if missing:
        raise UserError(
            f"{path}: not scored by {', '.join(missing)}; add scores with npnet score where images were kept, or give "
            "another --out"
        )
    for name, digest in digests.items():
        if shard.metric_digests[name] != digest:
            raise UserError(
                f"{path}: scored by another {name} ({shard.metric_digests[name]} there, {digest} here); score it again "
                f"with npnet score {out} --metric {name} where images were kept, or give another --out"
            )
    files = (dataset.image_path(out, k, side) for k in shard.index.tolist() for side in dataset.SIDES)
    return not planned.config.keep_images or all(file.is_file() for file in files)


def _clean(out: Path, chunks: Iterable[int], protocol: dataset.Protocol) -> None:
    """Remove what killed runs left of these shards and images half-written; what may still be written stays.

    Processes of several machines may share a folder, so a process number says nothing of who lives; the age does.
    """
    names = {dataset.shard_path(out, c).name for c in chunks}
    for path in [*out.glob(".*.tmp"), *out.glob("images/.*.tmp")]:
        name = path.name[1:].removesuffix(".tmp").rpartition(".")[0]
        number = name.partition("-")[0]
        image = number.isdigit() and dataset.shard_path(out, int(number) // protocol.chunk).name in names
        with suppress(FileNotFoundError):
            old = time.time() - path.stat().st_mtime > ABANDONED_SECONDS
            if old and (name in names or image or name == dataset.MANIFEST):
                path.unlink()


class _Collected:
    """What comes of batches: images are written as they come, a shard when it is whole."""

    def __init__(
        self,
        planned: Planned,
        out: Path,
        digests: Mapping[str, str],
        say: Callable[[str], None],
        *,
        first: int | None,
    ):
        """`first` is the shard that shows whether the collection can be made at all; None where that is known."""
        self.planned, self.out, self.digests, self.say, self.first = planned, out, digests, say, first
        self.waiting: dict[int, dict[int, list[Pairs]]] = {}
        """By shard and first pair, the batches of shards that are not whole."""
        self.broken, self.first_broken = 0, ""
        """Pairs so far whose target noise is not finite, and what is said of the first."""
        self.given_up: Counter[str] = Counter()
        """Images so far that the teacher gave up, by its reason."""
        self.calls = 0.0
        """Denoiser calls a pair, of the last shard."""

    def add(self, task: Task, parts: list[Pairs] | Lost) -> None:
        """Keep a batch, in the parts that fitted the memory; UserError for one that no worker survives."""
        if isinstance(parts, Lost):
            raise UserError(f"pairs {task.numbers[0]} to {task.numbers[-1]}: {parts.reason}")
        for part in parts:
            self._note(part)
            for side, pngs in part.pngs.items():
                for k, png in zip(part.shard.index.tolist(), pngs, strict=True):
                    write_file(dataset.image_path(self.out, k, side), png)
        shard = self.waiting.setdefault(task.chunk, {})
        shard[task.numbers[0]] = parts
        members = self.planned.protocol.members(task.chunk)
        if sum(len(part.shard) for batch in shard.values() for part in batch) == len(members):
            self._write(task.chunk, [part for start in sorted(shard) for part in shard[start]])
            del self.waiting[task.chunk]

    def _note(self, part: Pairs) -> None:
        if part.broken and not self.broken:
            self.first_broken = part.first_broken
            self.say(f"target noise that is not finite is kept as it is ({self.first_broken})")
        self.broken += part.broken
        self.given_up.update(part.given_up)

    def _write(self, chunk: int, parts: Sequence[Pairs]) -> None:
        n = sum(len(part.shard) for part in parts)
        if chunk == self.first and sum(part.broken for part in parts) == n > 1:
            self.say_given_up()
            raise UserError(
                f"none of the first {n} pairs has finite target noise; try another guidance, or look at "
                f"the model ({self.first_broken})"
            )
        shard = joined([part.shard for part in parts], self.planned.config.metrics, self.digests)
        self.calls = shard.calls or 0.0
        dataset.write_shard(self.out, self.planned.protocol, chunk, shard)

    def say_given_up(self) -> None:
        """One line a reason, the most frequent first."""
        for reason, n in self.given_up.most_common():
            self.say(f"the teacher gave up {n} image{'s' * (n > 1)}: {reason}")
