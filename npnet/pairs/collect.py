"""Collect noise pairs: prompts x seeds -> source noise, target noise, both images' scores (paper, 3.1 and A.4).

What is in memory is one batch and one shard, however large the collection.
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench import registry
from bench.errors import UserError
from bench.prompts.base import Prompt
from bench.sampling.session import Memory
from npnet.pairs import dataset
from npnet.pairs.collection import CollectConfig, Planned, plan
from npnet.pairs.folders import write_file
from npnet.teachers import base as teachers
from npnet.teachers.work import Work

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CollectConfig", "run"]

ABANDONED_SECONDS = 86_400
"""Nobody writes one file for a day."""
Shares = tuple[int, int]
"""This process's share: (3, 16) is the third of sixteen."""


def run(
    config: CollectConfig,
    *,
    out: Path,
    share: Shares = (1, 1),
    device: str | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Make the pairs of a collection that `out` does not have yet; returns how many were made.

    `share` (i, n) makes the shards whose number modulo n is i - 1, so that n processes share the work; their folders
    may be one or merge later. A killed run goes on where it was, shard by shard, to the same bytes. UserError where
    `out` holds another collection or a broken shard.
    """
    import torch

    from bench.fitting import DEFAULT_BATCH
    from bench.progress import Progress
    from bench.runner.generate import choose_device

    if threads:
        torch.set_num_threads(threads)
    device = choose_device(device)
    planned = plan(config)
    protocol = planned.protocol
    dataset.write_manifest(out, protocol)
    mine = [c for c in range(protocol.chunks) if c % share[1] == share[0] - 1]
    if not mine:
        shards = f"{protocol.chunks} shards of {protocol.chunk} pairs"
        say(f"share {share[0]}/{share[1]} is empty: the collection has {shards}")
    _clean(out, mine, protocol)
    digests = {name: registry.get("metrics", name).digest() for name in config.metrics}
    todo = [c for c in mine if not _have(out, c, planned, digests)]
    have = sum(len(protocol.members(c)) for c in mine) - sum(len(protocol.members(c)) for c in todo)
    if have:
        say(f"{have} pairs were there already")
    if not todo:
        return 0
    total = sum(len(protocol.members(c)) for c in todo)
    collector = _Collector(planned, out, device, digests, say)
    size = batch_size or DEFAULT_BATCH[device.split(":")[0]]
    if teachers.one_by_one(planned.teacher):
        size = 1
    with Progress("collect", total, "pairs") as progress:
        for chunk in todo:
            shard = collector.shard(protocol.members(chunk), size, progress.advance)
            if not have and chunk == todo[0] and collector.broken == len(shard) > 1:
                collector.say_given_up()
                raise UserError(
                    f"none of the first {len(shard)} pairs has finite target noise; try another guidance, or look at "
                    f"the model ({collector.first_broken})"
                )
            dataset.write_shard(out, protocol, chunk, shard)
    say(f"{total} pairs made, {shard.calls:g} denoiser calls a pair")
    if collector.broken:
        say(f"{collector.broken} of them with NaN or infinity in their target noise, which selection drops")
    collector.say_given_up()
    return total


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


class _Collector:
    """Batches of pairs and what became of them, by the harness's engine: model and scorers are loaded once."""

    def __init__(
        self, planned: Planned, out: Path, device: str, digests: Mapping[str, str], say: Callable[[str], None]
    ):
        from bench.runner.engine import Engine
        from bench.sampling.records import Sampling

        self.planned, self.out, self.digests, self.say = planned, out, digests, say
        self.broken, self.first_broken = 0, ""
        """Pairs so far whose target noise is not finite, and what is said of the first."""
        self.given_up: Counter[str] = Counter()
        """Images so far that the teacher gave up, by its reason."""
        self.engine = Engine(device)
        # Scorers first: one that is missing shall be told before a large model has been loaded.
        for name in dict.fromkeys([*planned.config.metrics, *teachers.metrics(planned.teacher)]):
            self.engine.scorer(name)
        teachers.check_scorers(planned.teacher, self.engine.scorers)
        family, _ = self.engine.load(planned.entry)
        protocol = planned.protocol
        self.sampling = Sampling(protocol.sampler, protocol.steps, protocol.guidance, planned.entry.size, family.dtype)

    def shard(self, members: range, batch: int, advance: Callable[[int], None]) -> dataset.Shard:
        """The pairs of one shard, batch by batch."""
        import numpy as np

        parts: list[dataset.Shard] = []
        for start in range(members.start, members.stop, batch):
            numbers = range(start, min(start + batch, members.stop))
            self.engine.fitting.each(
                numbers, lambda part: parts.append(self.batch(part)), model=self.planned.entry.name, one="pair"
            )
            advance(len(numbers))
        metrics = self.planned.config.metrics
        return dataset.Shard(
            index=np.concatenate([p.index for p in parts]),
            seed=np.concatenate([p.seed for p in parts]),
            prompts=tuple(text for p in parts for text in p.prompts),
            source=np.concatenate([p.source for p in parts]),
            target=np.concatenate([p.target for p in parts]),
            scores={m: np.concatenate([p.scores[m] for p in parts]) for m in metrics},
            metric_digests=self.digests,
            calls=sum((p.calls or 0) * len(p) for p in parts) / len(members),
        )

    def batch(self, numbers: Sequence[int]) -> dataset.Shard:
        """Both arms of a batch of pairs; what they begin with in common is computed once."""
        import numpy as np
        import torch

        with torch.no_grad():
            work = self.work([self.planned.pair(k) for k in numbers])
            images = work.images(work.source, work.seeds, work.steps)
            target, target_images = self.planned.teacher.teach(work, images)
        if target.shape != work.source.shape:
            raise UserError(f"the teacher made noise {tuple(target.shape)}; expected {tuple(work.source.shape)}")
        arms = {"source": images, "target": target_images}
        scores = {
            m: np.stack([work.score(m, arms[side]) for side in dataset.SIDES], 1) for m in self.planned.config.metrics
        }
        if self.planned.config.keep_images:
            self.keep(numbers, arms)
        dtype = self.planned.protocol.dtype
        with np.errstate(over="ignore"):  # what is too large for the disk's precision becomes infinity, and is counted
            stored = target.cpu().numpy().astype(dtype)
        self.count_broken(numbers, work, stored)
        self.given_up.update(work.given_up)
        return dataset.Shard(
            index=np.array(numbers),
            seed=np.array(work.seeds),
            prompts=tuple(p.text for p in work.prompts),
            source=work.source.cpu().numpy().astype(dtype),
            target=stored,
            scores=scores,
            metric_digests=self.digests,
            calls=work.calls,
        )

    def work(self, pairs: Sequence[tuple[Prompt, int]]) -> Work:
        """Embeddings and source noise of a batch."""
        prompts, seeds = [p for p, _ in pairs], [s for _, s in pairs]
        cond, uncond = self.engine.embed([p.text for p in prompts])
        return Work(self.engine, self.sampling, prompts, seeds, cond, uncond, memory=Memory())

    def count_broken(self, numbers: Sequence[int], work: Work, target: np.ndarray) -> None:
        """Count the pairs whose target noise is not finite, and say of the first which it is."""
        import numpy as np

        bad = np.flatnonzero(~np.isfinite(target).all((1, 2, 3))).tolist()
        if bad and not self.broken:
            k = bad[0]
            self.first_broken = f"pair {numbers[k]}: {work.prompts[k].text!r}, seed {work.seeds[k]}"
            self.say(f"target noise that is not finite is kept as it is ({self.first_broken})")
        self.broken += len(bad)

    def say_given_up(self) -> None:
        """One line a reason, the most frequent first."""
        for reason, n in self.given_up.most_common():
            self.say(f"the teacher gave up {n} image{'s' * (n > 1)}: {reason}")

    def keep(self, numbers: Sequence[int], arms: Mapping[str, np.ndarray]) -> None:
        """Write both images of every pair; each appears whole or not at all."""
        from PIL import Image

        for side, images in arms.items():
            for k, image in zip(numbers, images, strict=True):
                file = io.BytesIO()
                Image.fromarray(image).save(file, format="PNG")
                write_file(dataset.image_path(self.out, k, side), file.getvalue())
