"""Where target noise comes from: noise methods and choosing methods as in suites, nearby noises, gradient ascent.

A teacher is given one batch of pairs in the making (`Work`) and the source images, and answers with the target
noise and the target images. What it costs is counted where it runs: denoiser calls a pair, in every shard.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench import registry
from bench.errors import UserError
from bench.methods.base import Chain, Method, split_choice
from bench.moved import by_former_names, by_todays_names
from bench.runner.plan import build_method, check_needs
from bench.sampling import noise
from bench.sampling.records import SINGLE
from npnet.teachers.ascent import Ascent
from npnet.teachers.work import Work

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.metrics.base import Scorer
    from bench.models.base import ModelEntry
    from bench.prompts.base import Prompt
    from bench.samplers.diffusers_schedulers import Sampler
    from bench.suite import Link


class Teacher(Protocol):
    """What `collect` asks of a source of target noise."""

    @property
    def judge(self) -> str | None:
        """The metric that it chooses by."""
        ...

    def teach(self, work: Work, images: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        """Target noise (B, C, h, w) and target images (B, H, W, 3); `images` are those of the source noise."""
        ...


@dataclass(frozen=True)
class Hook:
    """The target is what a chain of noise methods makes of the source (paper, section 3.1: re-denoise sampling)."""

    chain: Chain
    judge: str | None = None

    def teach(self, work: Work, images: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        seeds = [self.chain.seed(s) for s in work.seeds]
        target = _hooked(self.chain, work, seeds, work.steps)
        if target is work.source:
            return target, images
        return target, work.images(target, seeds, work.steps)


@dataclass(frozen=True)
class Chooser:
    """The target is the noise of the best among a choosing method's candidates, such as `best_of_n`."""

    chain: Chain
    choosing: Method

    @property
    def judge(self) -> str | None:
        return self.choosing.judge()

    def teach(self, work: Work, images: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        best = _Best(work)
        offered = [self.choosing.candidates(s) for s in work.seeds]
        for column in zip(*offered, strict=True):
            seeds = [self.chain.seed(c.seed) for c in column]
            steps = column[0].steps_of(work.steps)
            noises = _hooked(self.chain, work, seeds, steps)
            known = noises is work.source and steps == work.steps
            made = images if known else work.images(noises, seeds, steps)
            best.offer(noises, made, work.rewards(str(self.judge), made), seeds)
        if any(c.steps_of(work.steps) != work.steps for c in offered[0]):
            return best.noises, work.images(best.noises, best.seeds, work.steps)
        return best.noises, best.images


class BestNearby(BaseModel):
    """The best of n noises on the sphere around the source, the source itself among them.

    x_k = cos(a) x_T + sin(a) z_k, z_k seeded, made orthogonal to x_T and as long, so that every x_k has the source's
    norm and lies at angle a from it. Best of n seeds, but matched to the source: what a network can hope to learn is
    a move. On a tie the source stays.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: ClassVar[str] = "1"
    renamed: ClassVar[Mapping[str, str]] = {"chooser": "selection_metric"}
    """Former names of parameters; the protocols of collections keep them."""

    n: int = Field(default=4, ge=2, le=1024)
    """Images sampled for a pair, the source's among them: as many as best_of_n's."""
    angle: float = Field(default=0.5, gt=0, le=math.pi)
    """Radians between the source and each variation."""
    selection_metric: str = "hpsv2"
    """Metric that picks."""

    @model_validator(mode="before")
    @classmethod
    def _by_todays_names(cls, given: Any) -> Any:
        return by_todays_names(given, cls.renamed)

    @property
    def judge(self) -> str | None:
        return self.selection_metric

    def identity(self) -> dict[str, Any]:
        """What enters the collection's protocol."""
        return {**by_former_names(self.model_dump(mode="json"), self.renamed), "version": self.version}

    def teach(self, work: Work, images: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        best = _Best(work)
        best.offer(work.source, images, work.rewards(self.selection_metric, images), work.seeds)
        for k in range(1, self.n):
            noises = self.variation(work.source, [p.text for p in work.prompts], work.seeds, k)
            made = work.images(noises, work.seeds, work.steps)
            best.offer(noises, made, work.rewards(self.selection_metric, made), work.seeds)
        return best.noises, best.images

    def variation(self, source: torch.Tensor, prompts: Sequence[str], seeds: Sequence[int], k: int) -> torch.Tensor:
        """The k-th noises near `source` (B, C, h, w), k from 1; a pure function of prompt, seed and k."""
        import torch

        shape = source.shape[1:]
        drawn = [
            torch.randn(shape, generator=noise.generator(p, s, f"nearby-{k}"))
            for p, s in zip(prompts, seeds, strict=True)
        ]
        x, z = source.flatten(1).double(), torch.stack(drawn).to(source.device).flatten(1).double()
        z = z - x * (z * x).sum(1, keepdim=True) / (x * x).sum(1, keepdim=True)
        z = z * x.norm(dim=1, keepdim=True) / z.norm(dim=1, keepdim=True)
        return (math.cos(self.angle) * x + math.sin(self.angle) * z).float().reshape(source.shape)


TEACHERS: dict[str, type[BestNearby | Ascent]] = {"best_nearby": BestNearby, "ascent": Ascent}
"""Teachers that are no noise methods: what they need is the source noise and images of it, not another seed."""


JUDGES = ("selection_metric", "chooser", "metric")
"""Parameters that name the metric a link goes by."""


def build(links: Sequence[Link], entry: ModelEntry) -> tuple[Teacher, tuple[dict[str, Any], ...]]:
    """A teacher, and what identifies it in a collection's protocol: {"use": name, **identity} a link.

    `entry` is the model that the collection is made with. Raises UserError for chains that mean nothing.
    """
    if any(link.use in TEACHERS for link in links):
        if len(links) > 1:
            raise UserError(f"teacher {links[0].use!r} starts from the source noise; it cannot stand in a chain")
        own = TEACHERS[links[0].use](**links[0].params)
        return own, ({"use": links[0].use, **own.identity(), **_judged(own.judge)},)
    methods = tuple(build_method(link.use, link.params).for_model(entry) for link in links)
    _check_kind(links, methods)
    try:
        making, choosing = split_choice(methods)
    except ValueError as error:
        raise UserError(f"teacher: {error}") from error
    identity = tuple(
        {"use": link.use, **m.identity(), **_judged(m.judge()), **_asked(m), **_optimised(m)}
        for link, m in zip(links, methods, strict=True)
    )
    chain = Chain(links=making)
    return (Chooser(chain, choosing) if choosing else Hook(chain)), identity


def _judged(metric: str | None) -> dict[str, str]:
    return {"judge_digest": registry.get("metrics", metric).digest()} if metric else {}


def _asked(method: Method) -> dict[str, dict[str, str]]:
    """The scorers that a method asks beside its judge."""
    found = {name: registry.get("metrics", name).digest() for name in method.metrics() if name != method.judge()}
    return {"scorers": found} if found else {}


def _optimised(method: Method) -> dict[str, list[str]]:
    """What a method optimises beside its own choice, such as the metric that selected a network's pairs."""
    found = [metric for metric in method.optimises() if metric != method.judge()]
    return {"optimises": found} if found else {}


def check_steps(teacher: Teacher, steps: int) -> None:
    """UserError where a teacher needs more sampling steps than a collection has."""
    if isinstance(teacher, Ascent):
        teacher.check_steps(steps)


def metrics(teacher: Teacher) -> list[str]:
    """Metrics whose scorers a teacher asks."""
    return list(dict.fromkeys([*([teacher.judge] if teacher.judge else []), *_chain(teacher).metrics()]))


def check_fit(teacher: Teacher, entry: ModelEntry, sampler: Sampler, prompts: Sequence[Prompt]) -> None:
    """UserError where the model, the sampler or a prompt lacks what a teacher's methods need."""
    chain = _chain(teacher)
    try:
        check_needs(chain, entry, sampler)
    except UserError as error:
        raise UserError(f"teacher: {error}") from error
    for prompt in prompts:
        try:
            chain.check(prompt)
        except UserError as error:
            raise UserError(f"teacher: prompt {prompt.index}: {error}") from error


def one_by_one(teacher: Teacher) -> bool:
    """Whether a teacher's methods cannot make several pairs at once."""
    return SINGLE in _chain(teacher).all_needs()


def _chain(teacher: Teacher) -> Chain:
    return teacher.chain if isinstance(teacher, Hook | Chooser) else Chain(links=())


def check_scorers(teacher: Teacher, scorers: Mapping[str, Scorer]) -> None:
    """UserError where a teacher needs more of a loaded scorer than it has."""
    if isinstance(teacher, Ascent):
        teacher.check_scorer(scorers)


def choosers(teacher: Any) -> Iterator[str]:
    """Metrics that shaped the targets of a teacher, given as to `build`: of a link, a chain, or several chains."""
    if isinstance(teacher, list | tuple):
        for part in teacher:
            yield from choosers(part)
    elif isinstance(teacher, dict):
        yield from (teacher[key] for key in JUDGES if isinstance(teacher.get(key), str))
        if isinstance(teacher.get("optimises"), list):
            yield from teacher["optimises"]


def _hooked(chain: Chain, work: Work, seeds: Sequence[int], steps: int) -> torch.Tensor:
    """What a chain makes of the latents of these seeds; NaN for a pair that a method gave up."""
    latents = work.source if list(seeds) == list(work.seeds) else work.draw(seeds)
    if not chain.links:
        return latents
    session = work.session(seeds, steps=steps)
    chain.prepare(session)
    with work.meter.foreign():
        made = chain.noise(session, latents)
    if made.requires_grad:
        made = made.detach()
    if session.failed:
        work.given_up += session.failed.values()
        made = made.clone()
        made[list(session.failed)] = math.nan
    return made


def _check_kind(links: Sequence[Link], methods: Sequence[Method]) -> None:
    """UserError for a teacher that changes more than the initial noise: a network could not learn the rest."""
    for link, method in zip(links, methods, strict=True):
        changed = {
            "the steps of the loop": method.wraps_step(),
            "the guidance of every step": method.sets_guidance(),
            "the denoiser's weights": bool(method.adapters()),
            "how images are sampled": type(method).sampling is not Method.sampling,
        }
        for what, does in changed.items():
            if does:
                raise UserError(
                    f"teacher {link.use!r} changes {what}; expected a method that changes the initial noise"
                )


class _Best:
    """The best noise of each pair so far, with its image; the first of equals stays."""

    def __init__(self, work: Work):
        self.noises, self.seeds = work.source.clone(), list(work.seeds)
        self.images: Any = None
        self.values: Any = None

    def offer(self, noises: torch.Tensor, images: np.ndarray, values: np.ndarray, seeds: Sequence[int]) -> None:
        values = values.copy()
        values[~noises.isfinite().flatten(1).all(1).cpu().numpy()] = -math.inf  # a pair that a method gave up
        if self.values is None:
            self.noises, self.images, self.values = noises.clone(), images.copy(), values
            self.seeds = list(seeds)
            return
        for i in (values > self.values).nonzero()[0].tolist():
            self.noises[i], self.images[i], self.values[i] = noises[i], images[i], values[i]
            self.seeds[i] = seeds[i]
