"""What a teacher is given: one batch of pairs in the making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bench import registry
from bench.models.base import to_uint8
from bench.sampling.meter import Cost, Meter
from bench.sampling.records import Item, Sampling
from bench.sampling.session import Memory, Session

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.models.base import Embeddings
    from bench.prompts.base import Prompt
    from bench.runner.engine import Engine

BACKWARD_CALLS = 2.0
"""What a gradient through one denoiser call costs beside the call. Measured on the embedded model, keeping the
activations and going back together take 1.8 times as long as the call alone."""


@dataclass
class Work:
    """One batch of B pairs in the making; every session of it counts into one record and shares one memory."""

    engine: Engine
    """With the collection's model in work."""
    sampling: Sampling
    """The collection's protocol."""
    prompts: Sequence[Prompt]
    seeds: Sequence[int]
    cond: Embeddings
    uncond: Embeddings
    memory: Memory | None = None
    """The call that both arms begin with is computed once."""
    source: Any = None
    """(B, C, h, w), fp32, on the model's device."""
    given_up: list[str] = field(default_factory=list)
    """Why methods gave images up, one reason an image."""

    def __post_init__(self) -> None:
        self.cost: Cost = self.meter.begin(len(self.prompts))
        if self.source is None:
            self.source = self.session().draw()

    @property
    def meter(self) -> Meter:
        """What counts the work of the model."""
        assert self.engine.meter is not None
        return self.engine.meter

    @property
    def steps(self) -> int:
        return self.sampling.steps

    @property
    def calls(self) -> float:
        """Denoiser calls of a pair so far, gradients included."""
        counts = [self.cost.nfe(i) for i in range(len(self.prompts))]
        return sum(n.forwards + BACKWARD_CALLS * n.backwards for n in counts) / len(counts)

    def session(self, seeds: Sequence[int] | None = None, *, steps: int | None = None) -> Session:
        """A session of the batch, with other seeds or steps where given."""
        items = [Item(p, s) for p, s in zip(self.prompts, seeds or self.seeds, strict=True)]
        p = self.sampling if steps is None else replace(self.sampling, steps=steps)
        assert self.engine.family is not None
        return Session(
            self.engine.family,
            items,
            p,
            cond=self.cond,
            uncond=self.uncond,
            meter=self.meter,
            scorers=self.engine.scorer,
            memory=self.memory,
        )

    def draw(self, seeds: Sequence[int]) -> torch.Tensor:
        """Latents (B, C, h, w) of the prompts with other seeds."""
        return self.session(seeds).draw()

    def images(self, latents: torch.Tensor, seeds: Sequence[int], steps: int) -> np.ndarray:
        """(B, H, W, 3) uint8 images sampled from `latents`; `seeds` draw a stochastic sampler's noise."""
        session = self.session(seeds, steps=steps)
        return to_uint8(session.decode(session.sample(latents)))

    def score(self, metric: str, images: np.ndarray) -> np.ndarray:
        """(B,) values of a metric."""
        import numpy as np

        return np.array([v.value for v in self.engine.scorer(metric).score(list(images), self.prompts)])

    def rewards(self, metric: str, images: np.ndarray) -> np.ndarray:
        """(B,) values of a metric, turned so that more is better."""
        return self.score(metric, images) * registry.get("metrics", metric).sign
