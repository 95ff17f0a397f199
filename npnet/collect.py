"""Collect noise pairs: prompts x seeds -> source noise, target noise, both images' scores (paper, 3.1 and A.4).

What is in memory is one batch and one shard, however large the collection.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import noise, registry
from bench.errors import UserError
from bench.prompts.base import Prompt
from bench.store import full_disk_is_said, write_atomically
from npnet import dataset, teachers
from npnet.collection import CollectConfig, Planned, plan

if TYPE_CHECKING:
    import numpy as np

    from bench.metrics.base import MetricEntry, Scorer
    from bench.models.base import Embeddings, Model

__all__ = ["CollectConfig", "run"]

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

    from bench.generate import DEFAULT_BATCH, choose_device
    from bench.progress import Progress

    if threads:
        torch.set_num_threads(threads)
    device = choose_device(device)
    planned = plan(config)
    protocol = planned.protocol
    dataset.write_manifest(out, protocol)
    mine = [c for c in range(protocol.chunks) if c % share[1] == share[0] - 1]
    _clean(out, mine, protocol)
    todo = [c for c in mine if not _have(out, c, planned)]
    have = sum(len(protocol.members(c)) for c in mine) - sum(len(protocol.members(c)) for c in todo)
    if have:
        say(f"{have} pairs were there already")
    if not todo:
        return 0
    total = sum(len(protocol.members(c)) for c in todo)
    maker = _Maker(planned, out, device)
    size = batch_size or DEFAULT_BATCH[device.split(":")[0]]
    with Progress("collect", total, "pairs") as progress:
        for chunk in todo:
            shard = maker.shard(protocol.members(chunk), size, progress.advance)
            dataset.write_shard(out, protocol, chunk, shard)
    say(f"{total} pairs made, {shard.calls:g} denoiser calls a pair")
    return total


def _have(out: Path, chunk: int, planned: Planned) -> bool:
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
    files = (dataset.image_path(out, k, side) for k in shard.index.tolist() for side in dataset.SIDES)
    return not planned.config.keep_images or all(file.is_file() for file in files)


def _clean(out: Path, chunks: Iterable[int], protocol: dataset.Protocol) -> None:
    """Remove what killed runs left of these shards and images half-written; what a living process writes stays."""
    names = {dataset.shard_path(out, c).name for c in chunks}
    for path in [*out.glob(".*.tmp"), *out.glob("images/.*.tmp")]:
        name, _, pid = path.name[1:].removesuffix(".tmp").rpartition(".")
        number = name.partition("-")[0]
        image = number.isdigit() and dataset.shard_path(out, int(number) // protocol.chunk).name in names
        if (name in names or image or name == dataset.MANIFEST) and not _lives(pid):
            path.unlink(missing_ok=True)


def _lives(pid: str) -> bool:
    with suppress(ValueError, ProcessLookupError):
        try:
            os.kill(int(pid), 0)
        except PermissionError:
            return True
        return int(pid) != os.getpid()
    return False


class _Maker:
    """Model, negative prompt and scorers, loaded once for all batches."""

    def __init__(self, planned: Planned, out: Path, device: str):
        self.planned, self.out, self.device = planned, out, device
        wanted = dict.fromkeys([*planned.config.metrics, *([planned.teacher.judge] if planned.teacher.judge else [])])
        entries: dict[str, MetricEntry] = {name: registry.get("metrics", name) for name in wanted}
        # Scorers first: one that is missing shall be told before a large model has been loaded.
        self.scorers: dict[str, Scorer] = {name: entry.scorer(device) for name, entry in entries.items()}
        self.digests = {name: entries[name].digest() for name in planned.config.metrics}
        self.model: Model = planned.entry.load(device)
        _check_fit(self.model)
        self.sampler = registry.get("samplers", planned.protocol.sampler)
        self.scheduler_config = self.model.pipeline.scheduler.config
        self.negative: Embeddings = self.model.encode_negative("")

    def shard(self, members: range, batch: int, advance: Callable[[int], None]) -> dataset.Shard:
        """The pairs of one shard, batch by batch."""
        import numpy as np

        parts: list[dataset.Shard] = []
        for start in range(members.start, members.stop, batch):
            numbers = range(start, min(start + batch, members.stop))
            parts += self.batches(numbers)
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

    def batches(self, numbers: range) -> list[dataset.Shard]:
        """One batch; two halves of it where a GPU's memory does not suffice."""
        import torch

        try:
            return [self.batch(numbers)]
        except torch.OutOfMemoryError as error:
            if len(numbers) == 1:
                raise UserError(
                    f"model {self.planned.entry.name!r}: one pair does not fit this GPU's memory"
                ) from error
            torch.cuda.empty_cache()
            middle = len(numbers) // 2
            return self.batches(numbers[:middle]) + self.batches(numbers[middle:])

    def batch(self, numbers: range) -> dataset.Shard:
        """Both arms of a batch of pairs; what they begin with in common is computed once."""
        import numpy as np
        import torch

        with torch.inference_mode(), self.model.remember_first() as memory:
            work = self.work([self.planned.pair(k) for k in numbers])
            images = work.images(work.source, work.seeds, work.steps)
            target, target_images = self.planned.teacher.teach(work, images)
        self.check(numbers, work, target)
        arms = {"source": images, "target": target_images}
        scores = {
            m: np.stack([work.score(m, arms[side]) for side in dataset.SIDES], 1) for m in self.planned.config.metrics
        }
        if self.planned.config.keep_images:
            self.keep(numbers, arms)
        dtype = self.planned.protocol.dtype
        return dataset.Shard(
            index=np.array(numbers),
            seed=np.array(work.seeds),
            prompts=tuple(p.text for p in work.prompts),
            source=work.source.cpu().numpy().astype(dtype),
            target=target.cpu().numpy().astype(dtype),
            scores=scores,
            metric_digests=self.digests,
            calls=memory.calls,
        )

    def work(self, pairs: Sequence[tuple[Prompt, int]]) -> teachers.Work:
        """Embeddings and source noise of a batch."""
        import torch

        planned = self.planned
        prompts, seeds = [p for p, _ in pairs], [s for _, s in pairs]
        cond = self.model.encode([p.text for p in prompts])
        uncond = {k: self.negative[k].expand_as(v) for k, v in cond.items()}
        latent = planned.entry.latent
        source = torch.stack([noise.draw(p.text, s, latent) for p, s in pairs]).to(self.device)
        steps, guidance = planned.protocol.steps, planned.protocol.guidance
        return teachers.Work(
            self.model,
            self.sampler,
            self.scheduler_config,
            steps,
            guidance,
            prompts,
            seeds,
            cond,
            uncond,
            source,
            self.scorers,
        )

    def check(self, numbers: range, work: teachers.Work, target: Any) -> None:
        """UserError for target noise of another shape, or with values that are not finite."""
        import torch

        if target.shape != work.source.shape:
            raise UserError(f"the teacher made noise {tuple(target.shape)}; expected {tuple(work.source.shape)}")
        bad = (~torch.isfinite(target).flatten(1).all(1)).nonzero().flatten().tolist()
        if bad:
            k = bad[0]
            raise UserError(
                f"pair {numbers[k]} ({work.prompts[k].text!r}, seed {work.seeds[k]}): the target noise is not finite; "
                "try another guidance, or look at the model"
            )

    def keep(self, numbers: range, arms: Mapping[str, np.ndarray]) -> None:
        """Write both images of every pair; each appears whole or not at all."""
        from PIL import Image

        with full_disk_is_said(self.out):
            (self.out / "images").mkdir(exist_ok=True)
            for side, images in arms.items():
                for k, image in zip(numbers, images, strict=True):
                    file = io.BytesIO()
                    Image.fromarray(image).save(file, format="PNG")
                    write_atomically(dataset.image_path(self.out, k, side), file.getvalue())


def _check_fit(model: Model) -> None:
    """The catalogue's latent against the network's own; UserError where they differ."""
    channels = getattr(model.modules()["denoiser"].config, "in_channels", model.entry.latent[0])
    factor = getattr(model.pipeline, "vae_scale_factor", None)
    height, width = model.entry.size
    found = (channels, *((height // factor, width // factor) if factor else model.entry.latent[1:]))
    if found != model.entry.latent:
        raise UserError(
            f"model {model.entry.name!r}: its network takes latents {found}, the catalogue says {model.entry.latent}; "
            "mend its entry"
        )
