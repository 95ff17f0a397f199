"""Pairs in the making, by whichever process works on them: the harness's engine with the teacher and the scorers."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bench.errors import UserError
from bench.prompts.base import Prompt
from bench.sampling.session import Memory
from npnet.pairs import dataset
from npnet.pairs.collection import CollectConfig, Planned, plan
from npnet.teachers import base as teachers
from npnet.teachers.work import Work

if TYPE_CHECKING:
    import numpy as np


class Task(NamedTuple):
    """A batch of pairs of one shard."""

    chunk: int
    numbers: range


class Pairs(NamedTuple):
    """What comes of a batch."""

    shard: dataset.Shard
    broken: int
    """Pairs whose target noise is not finite."""
    first_broken: str
    """What is said of the first of them."""
    given_up: Counter[str]
    """Images that the teacher gave up, by its reason."""
    pngs: Mapping[str, list[bytes]] = {}  # never changed
    """By side, where images are kept."""


@dataclass(frozen=True)
class Collecting:
    """How a worker comes to make pairs."""

    config: CollectConfig
    device: str
    digests: tuple[tuple[str, str], ...]
    """Of the metrics, by name."""

    def open(self) -> Collector:
        return Collector(plan(self.config), self.device, dict(self.digests))


class Collector:
    """Batches of pairs and what became of them, by the harness's engine: model and scorers are loaded once."""

    def __init__(self, planned: Planned, device: str, digests: Mapping[str, str]):
        from bench.runner.engine import Engine
        from bench.sampling.records import Sampling

        self.planned, self.digests = planned, digests
        self.engine = Engine(device)
        # Scorers first: one that is missing shall be reported before a large model has been loaded.
        for name in dict.fromkeys([*planned.config.metrics, *teachers.metrics(planned.teacher)]):
            self.engine.scorer(name)
        teachers.check_scorers(planned.teacher, self.engine.scorers)
        family, _ = self.engine.load(planned.entry)
        protocol = planned.protocol
        self.sampling = Sampling(protocol.sampler, protocol.steps, protocol.guidance, planned.entry.size, family.dtype)

    def do(self, task: Task) -> Callable[[], list[Pairs]]:
        """The pairs of a batch, in smaller ones where a GPU's memory does not suffice."""
        parts: list[tuple[Pairs, Mapping[str, np.ndarray]]] = []
        model = self.planned.entry.name
        self.engine.backoff.each(task.numbers, lambda part: parts.append(self.batch(part)), model=model, one="pair")
        return lambda: [
            pairs._replace(pngs={side: [_png(one) for one in images] for side, images in arms.items()})
            for pairs, arms in parts
        ]

    def close(self) -> None:
        """Let the model go."""
        self.engine.release()

    def batch(self, numbers: Sequence[int]) -> tuple[Pairs, Mapping[str, np.ndarray]]:
        """Both arms of a batch of pairs, and the images to keep; what they begin with in common is computed once."""
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
        dtype = self.planned.protocol.dtype
        with np.errstate(over="ignore"):  # what is too large for the disk's precision becomes infinity, and is counted
            stored = target.cpu().numpy().astype(dtype)
        shard = dataset.Shard(
            index=np.array(numbers),
            seed=np.array(work.seeds),
            prompts=tuple(p.text for p in work.prompts),
            source=work.source.cpu().numpy().astype(dtype),
            target=stored,
            scores=scores,
            metric_digests=self.digests,
            calls=work.calls,
        )
        broken = np.flatnonzero(~np.isfinite(stored).all((1, 2, 3))).tolist()
        first = (
            f"pair {numbers[broken[0]]}: {work.prompts[broken[0]].text!r}, seed {work.seeds[broken[0]]}"
            if broken
            else ""
        )
        pairs = Pairs(shard, len(broken), first, Counter(work.given_up))
        return pairs, arms if self.planned.config.keep_images else {}

    def work(self, pairs: Sequence[tuple[Prompt, int]]) -> Work:
        """Embeddings and source noise of a batch."""
        prompts, seeds = [p for p, _ in pairs], [s for _, s in pairs]
        cond, uncond = self.engine.embed([p.text for p in prompts])
        return Work(self.engine, self.sampling, prompts, seeds, cond, uncond, memory=Memory())


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, format="PNG")
    return out.getvalue()


def joined(parts: Sequence[dataset.Shard], metrics: Sequence[str], digests: Mapping[str, str]) -> dataset.Shard:
    """The shard of batches, in their order."""
    import numpy as np

    return dataset.Shard(
        index=np.concatenate([p.index for p in parts]),
        seed=np.concatenate([p.seed for p in parts]),
        prompts=tuple(text for p in parts for text in p.prompts),
        source=np.concatenate([p.source for p in parts]),
        target=np.concatenate([p.target for p in parts]),
        scores={m: np.concatenate([p.scores[m] for p in parts]) for m in metrics},
        metric_digests=digests,
        calls=sum((p.calls or 0) * len(p) for p in parts) / sum(map(len, parts)),
    )
