"""What a noise method is: a frozen record of its parameters with hooks, all optional.

A method's fields are its parameters in a suite file; they and `version` enter the job id, so raising `version`
makes every image of the method again. Hooks run in this order: `sampling` and `adapters` when the run is planned;
`prepare` before any clock runs; `noise` on the initial latents; `guide` and `step` in every step of the loop, and
`residuals` at every denoiser call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from bench.methods.candidates import Candidate
from bench.methods.chaining import check_chain, split_choice
from bench.methods.nested import nested
from bench.moved import by_former_names, by_todays_names
from bench.registry import named_fields
from bench.sampling.records import UNCONDITIONAL, Nfe, Sampling, Weights

if TYPE_CHECKING:
    import torch

    from bench.kinship import Trait
    from bench.models.base import Embeddings, ModelEntry
    from bench.models.controlled import Residuals
    from bench.needs.base import Need
    from bench.prompts.base import Prompt
    from bench.sampling.session import Next, Prediction, Session, Step


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
    renamed: ClassVar[Mapping[str, str]] = {}
    """Former names of parameters to today's: suites and stored runs that have them are read, and ids keep them."""
    ignores_next: ClassVar[bool] = False
    """Whether its `step` makes the whole step itself; nothing can stand further in, in a chain."""

    @model_validator(mode="before")
    @classmethod
    def _by_todays_names(cls, given: Any) -> Any:
        return by_todays_names(given, cls.renamed)

    # Planned --------------------------------------------------------------------------------------------------------

    def for_model(self, entry: ModelEntry) -> Method:
        """The method as it works with one model, such as with that model's weights; a plan asks before all else.

        UserError where it cannot serve the model, Lacking where a file without which it has no identity is not here.
        """
        return self

    def twinned(self, entry: ModelEntry) -> Method:
        """The method as `--twin` runs it with an embedded model, on what the project ships."""
        return self

    def sampling(self, p: Sampling) -> Sampling:
        """How its images are sampled where the suite says `p`; they stay paired with the baseline's."""
        return p

    def adapters(self) -> tuple[Weights, ...]:
        """Weights that it puts on the denoiser; their digests are in the job id."""
        return ()

    def requires(self) -> tuple[Need, ...]:
        """What must be on this machine before it makes an image with its model, and where that comes from."""
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

    def call_nfe(self, p: Sampling, i: int, calls: int) -> Nfe:
        """What `residuals` costs at each denoiser call that belongs to call i of the loop's `calls`."""
        return Nfe()

    def nfe(self, p: Sampling, calls: int) -> Nfe:
        """What an image costs in all, where the sampler makes `calls` calls: what `plan` prices."""
        guided = p.guided or self.reads_unconditional()
        one = Nfe(forwards=1, rows=2 if guided else 1)
        beside = [self.call_nfe(p, i, calls) for i in range(calls)]
        # Methods predict before the loop at its first timestep.
        noise = self.noise_nfe(p)
        total = noise + noise.forwards * beside[0] + Nfe(decodes=1)
        links = self.links if isinstance(self, Chain) else (self,)
        for i in range(calls):
            total += nested(links, p, i, lambda k: one + beside[k], lambda k: beside[k])
        return total

    def seed(self, seed: int) -> int:
        """The seed from which the image's initial latent is drawn."""
        return seed

    def controls(self) -> tuple[str, ...]:
        """Kinds of the control images that it reads of a prompt; their contents enter the job id."""
        return ()

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

    def learnt_from(self) -> tuple[Trait, ...]:
        """What its weights were tuned on, beside named metrics: those made of it are no independent evidence for it."""
        return ()

    def identity(self) -> dict[str, Any]:
        """What enters the job id: every parameter and the version."""
        return {**by_former_names(self.model_dump(mode="json"), self.renamed), "version": self.version}

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

    def residuals(self, s: Session, x: torch.Tensor, t: Any, embeds: Embeddings, i: int) -> Residuals | None:
        """What is added within the denoiser at each of its calls, the loop's and the methods' own; None: nothing.

        The arguments are those of the call: x and embeddings have the images' rows once, or twice for both halves;
        call i of the loop is the one, or the one at whose timestep a method predicts.
        """
        return None

    # Which hooks it has ---------------------------------------------------------------------------------------------

    def wraps_step(self) -> bool:
        return type(self).step is not Method.step

    def sets_guidance(self) -> bool:
        return type(self).guide is not Method.guide

    def adds_residuals(self) -> bool:
        return type(self).residuals is not Method.residuals

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

    def requires(self) -> tuple[Need, ...]:
        return tuple(need for link in self.links for need in link.requires())

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

    def residuals(self, s: Session, x: torch.Tensor, t: Any, embeds: Embeddings, i: int) -> Residuals | None:
        given = [link.residuals(s, x, t, embeds, i) for link in self.links if link.adds_residuals()]
        found = [one for one in given if one is not None]
        return reduce(lambda a, b: a.plus(b), found) if found else None

    def call_nfe(self, p: Sampling, i: int, calls: int) -> Nfe:
        return sum((link.call_nfe(p, i, calls) for link in self.links), Nfe())

    def controls(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(kind for link in self.links for kind in link.controls()))

    def noise_nfe(self, p: Sampling) -> Nfe:
        return sum((link.noise_nfe(p) for link in self.links), Nfe())

    def step_nfe(self, p: Sampling, i: int, inner: Nfe) -> Nfe:
        return nested(self.links, p, i, lambda k: inner, lambda k: Nfe())

    def seed(self, seed: int) -> int:
        for link in self.links:
            seed = link.seed(seed)
        return seed

    def metrics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(m for link in self.links for m in link.metrics()))

    def optimises(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(m for link in self.links for m in link.optimises()))

    def learnt_from(self) -> tuple[Trait, ...]:
        return tuple(dict.fromkeys(trait for link in self.links for trait in link.learnt_from()))

    def wraps_step(self) -> bool:
        return any(link.wraps_step() for link in self.links)

    def sets_guidance(self) -> bool:
        return any(link.sets_guidance() for link in self.links)

    def adds_residuals(self) -> bool:
        return any(link.adds_residuals() for link in self.links)

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


__all__ = ["Candidate", "Chain", "Method", "check_chain", "split_choice"]
