"""What a noise method is: a frozen record of its parameters with hooks, all optional.

A method's fields are its parameters in a suite file; they and `version` enter the job id, so raising `version`
makes every image of the method again. Hooks run in this order: `sampling` and `adapters` when the run is planned;
`prepare` before any clock runs; `noise` on the initial latents; `guide` and `step` in every step of the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from bench.registry import named_fields
from bench.sampling.records import UNCONDITIONAL, Nfe, Sampling, Weights

if TYPE_CHECKING:
    import torch

    from bench.models.base import ModelEntry
    from bench.prompts.base import Prompt
    from bench.sampling.session import Next, Prediction, Session, Step


@dataclass(frozen=True)
class Candidate:
    """One image that a choosing method wants made: the job's own with another seed and step count.

    `steps` is a step count, else the job's own divided by `divide` and rounded down, at least one.
    """

    seed: int
    steps: int | None = None
    divide: int = 1

    def steps_of(self, steps: int) -> int:
        """The candidate's step count where the job has `steps`."""
        return self.steps or max(1, steps // self.divide)


class Method(BaseModel):
    """A noise method; subclasses override the hooks they need and register with `@register("methods", name)`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[str] = "1"
    about: ClassVar[str] = ""
    """One line for `python -m bench ls`."""
    source: ClassVar[str] = ""
    """The paper, or the public code, that defines it."""
    cost: ClassVar[str] = ""
    """Its added cost in words, such as `+2 calls`; `noise_nfe` and `step_nfe` say it in numbers."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """What of `bench.sampling.records.NEEDS` it cannot do without; a plan refuses what a model or sampler lacks."""
    changes_pixels: ClassVar[bool] = True
    """False only where the image is the plain one of the seed: such a method is not in the job id."""
    ignores_next: ClassVar[bool] = False
    """Whether its `step` makes the whole step itself; nothing can stand further in, in a chain."""

    # Planned --------------------------------------------------------------------------------------------------------

    def for_model(self, entry: ModelEntry) -> Method:
        """The method as it works with one model, such as with that model's weights; a plan asks before all else."""
        return self

    def sampling(self, p: Sampling) -> Sampling:
        """How its images are sampled where the suite says `p`; they stay paired with the baseline's."""
        return p

    def adapters(self) -> tuple[Weights, ...]:
        """Weights that it puts on the denoiser; their digests are in the job id."""
        return ()

    def check(self, prompt: Prompt) -> None:
        """UserError where the method cannot serve a prompt; a plan asks for every prompt, without torch."""

    def noise_nfe(self, p: Sampling) -> Nfe:
        """What `noise` costs an image."""
        return Nfe()

    def step_nfe(self, p: Sampling, i: int, inner: Nfe) -> Nfe:
        """What call i of the loop costs an image, where the rest of the step costs `inner`."""
        return inner

    def revisits(self, p: Sampling, i: int) -> Sequence[int]:
        """Calls of the loop that its `step` at call i takes besides its own; each costs what the rest does there."""
        return ()

    def nfe(self, p: Sampling, calls: int) -> Nfe:
        """What an image costs in all, where the sampler makes `calls` calls: what `plan` prices."""
        guided = p.guided or self.reads_unconditional()
        one = Nfe(forwards=1, rows=2 if guided else 1)
        total = self.noise_nfe(p) + Nfe(decodes=1)
        for i in range(calls):
            total += self.step_nfe(p, i, one) + len(self.revisits(p, i)) * one
        return total

    def seed(self, seed: int) -> int:
        """The seed from which the image's initial latent is drawn."""
        return seed

    def candidates(self, seed: int) -> list[Candidate]:
        """Images to make and choose from; empty for a method that makes its own image."""
        return []

    def judge(self) -> str | None:
        """Name of the metric that picks among the candidates."""
        return None

    def metrics(self) -> tuple[str, ...]:
        """The metrics that its parameters name."""
        return tuple(getattr(self, name) for name in named_fields(type(self), "metrics") if getattr(self, name))

    def optimises(self) -> tuple[str, ...]:
        """Metrics that must not be taken as evidence for this method, because it optimises them."""
        return self.metrics()

    def identity(self) -> dict[str, Any]:
        """What enters the job id: every parameter and the version."""
        return {**self.model_dump(mode="json"), "version": self.version}

    # Sampled --------------------------------------------------------------------------------------------------------

    def prepare(self, s: Session) -> None:
        """Load what the hooks will use; no clock runs."""

    def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
        """The initial latents to sample from: x as drawn, (B, C, h, w), unit variance, and so must the answer be."""
        return x

    def guide(self, s: Session, i: int, pred: Prediction) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """The noise prediction that call i steps by; or two, one for x_0 and one for the move (FIRST_ORDER)."""
        return pred.eps

    def step(self, s: Session, x: torch.Tensor, i: int, following: Next) -> Step:
        """Call i of the loop on canonical x; `following(x)` is the step as the rest of the chain makes it.

        `following(x, k)` is call k in its place, for methods that go back; `revisits` says which (MEMORYLESS).
        """
        return following(x)

    # Which hooks it has ---------------------------------------------------------------------------------------------

    def wraps_step(self) -> bool:
        return type(self).step is not Method.step

    def sets_guidance(self) -> bool:
        return type(self).guide is not Method.guide

    def reads_unconditional(self) -> bool:
        return UNCONDITIONAL in self.needs


class Chain(Method):
    """Methods one after the other: latents and seeds pass through all of them; steps nest, the first outermost."""

    links: tuple[Method, ...]

    def sampling(self, p: Sampling) -> Sampling:
        for link in self.links:
            p = link.sampling(p)
        return p

    def adapters(self) -> tuple[Weights, ...]:
        return tuple(w for link in self.links for w in link.adapters())

    def check(self, prompt: Prompt) -> None:
        for link in self.links:
            link.check(prompt)

    def prepare(self, s: Session) -> None:
        for link in self.links:
            link.prepare(s)

    def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
        for link in self.links:
            x = link.noise(s, x)
        return x

    def guide(self, s: Session, i: int, pred: Prediction) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        for link in self.links:
            if link.sets_guidance():
                return link.guide(s, i, pred)
        return pred.eps

    def step(self, s: Session, x: torch.Tensor, i: int, following: Next) -> Step:
        for link in reversed([one for one in self.links if one.wraps_step()]):
            following = _within(link, s, i, following)
        return following(x)

    def noise_nfe(self, p: Sampling) -> Nfe:
        return sum((link.noise_nfe(p) for link in self.links), Nfe())

    def step_nfe(self, p: Sampling, i: int, inner: Nfe) -> Nfe:
        return _nested(self.links, p, i, inner)

    def seed(self, seed: int) -> int:
        for link in self.links:
            seed = link.seed(seed)
        return seed

    def metrics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(m for link in self.links for m in link.metrics()))

    def optimises(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(m for link in self.links for m in link.optimises()))

    def wraps_step(self) -> bool:
        return any(link.wraps_step() for link in self.links)

    def sets_guidance(self) -> bool:
        return any(link.sets_guidance() for link in self.links)

    def reads_unconditional(self) -> bool:
        return any(link.reads_unconditional() for link in self.links)

    def all_needs(self) -> frozenset[str]:
        """What any of its links needs."""
        return frozenset().union(*(link.needs for link in self.links))


def _within(link: Method, s: Session, i: int, following: Next) -> Next:
    def step(x: torch.Tensor, at: int | None = None, /) -> Step:
        place = i if at is None else at
        return link.step(s, x, place, lambda y, k=None, /: following(y, place if k is None else k))

    return step


def _nested(links: Sequence[Method], p: Sampling, i: int, inner: Nfe) -> Nfe:
    """What call i costs with these links around it, where the sampler's own step costs `inner` everywhere."""
    if not links:
        return inner
    first, rest = links[0], links[1:]
    cost = first.step_nfe(p, i, _nested(rest, p, i, inner))
    return sum((_nested(rest, p, k, inner) for k in first.revisits(p, i)), cost)


def split_choice(links: tuple[Method, ...]) -> tuple[tuple[Method, ...], Method | None]:
    """The links that make an image, and the one that chooses among images, if any.

    Raises ValueError for two choosers: which of them sees which candidates would be anybody's guess.
    """
    choosing = [m for m in links if m.judge()]
    if len(choosing) > 1:
        raise ValueError("a chain holds one choosing method (such as best_of_n) at the most")
    return tuple(m for m in links if not m.judge()), (choosing[0] if choosing else None)


def check_chain(links: Sequence[Method], names: Sequence[str], p: Sampling) -> None:
    """ValueError, with the reason, for links that cannot stand together where the suite samples as `p`."""

    def two(found: Iterable[str], said: str) -> None:
        names_ = list(found)
        if len(names_) > 1:
            raise ValueError(f"{names_[0]!r} and {names_[1]!r} cannot stand in one chain: {said}")

    named = list(zip(names, links, strict=True))
    two((n for n, m in named if m.sampling(p) != p), "both set how the image is sampled")
    two((n for n, m in named if any(w.kind == "network" for w in m.adapters())), "both replace the denoiser's weights")
    two((n for n, m in named if any(w.kind == "lora" for w in m.adapters())), "both add a LoRA to the denoiser")
    two((n for n, m in named if m.sets_guidance()), "both set the guidance of every step")
    wrapping = [(n, m) for n, m in named if m.wraps_step()]
    for (name, method), (inner, _) in pairwise(wrapping):
        if method.ignores_next:
            raise ValueError(
                f"{name!r} makes the whole step itself, so {inner!r} after it would not run; leave one out"
            )
