"""What a sampling is and what it costs, as plain records. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from bench.errors import UserError
from bench.prompts.base import Prompt

DTYPES = ("fp32", "fp16", "bf16")
"""Precisions of a model's networks, by the names of suites and reports."""

EPSILON, VELOCITY = "epsilon", "v_prediction"
PREDICTIONS = (EPSILON, VELOCITY)


def check_prediction(config: Mapping[str, Any], *, of: str) -> str:
    """What the network predicts; UserError for anything but noise and velocity, which must not be taken for noise."""
    kind = config.get("prediction_type", EPSILON)
    if kind not in PREDICTIONS or "Flow" in str(config.get("_class_name", "")):
        said = "a flow" if "Flow" in str(config.get("_class_name", "")) else repr(kind)
        raise UserError(f"{of}: its network predicts {said}; expected epsilon or v_prediction")
    return str(kind)


GRADIENT = "gradient"
"""Differentiates through the denoiser (and, with `reward`, the VAE)."""
ATTENTION = "attention"
"""Reads attention maps; the family says whether it has any."""
SUBJECTS = "subject words"
"""Needs words of the prompt that name objects."""
MEMORYLESS = "memoryless sampler"
"""Takes a step more than once, or steps back: a multistep solver's history would no longer fit."""
FIRST_ORDER = "first-order sampler"
"""Sets x_0 and the noise of a step apart, which is DDIM's step and no other solver's."""
UNCONDITIONAL = "unconditional prediction"
"""Reads the unconditional half at any guidance."""
SINGLE = "batch of one"
"""Cannot make several images at once; runs one by one."""
CONTROL = "control image"
"""Reads a control image that the prompt carries."""
NEEDS = (GRADIENT, ATTENTION, SUBJECTS, MEMORYLESS, FIRST_ORDER, UNCONDITIONAL, SINGLE, CONTROL)


@dataclass(frozen=True)
class Sampling:
    """How a model is sampled: all of it is in the job id."""

    sampler: str
    steps: int
    guidance: float
    """diffusers' scale g: e = u + g (c - u). At 1 or below there is no guidance, as in diffusers' pipelines."""
    size: tuple[int, int]
    """Height and width in pixels."""
    dtype: str = "fp32"
    timesteps: tuple[int, ...] | None = None
    """Timesteps in the place of the sampler's own, falling; None: the sampler's."""
    settings: tuple[tuple[str, Any], ...] = ()
    """Settings of the scheduler on top of the sampler's, sorted by name."""

    @property
    def scale(self) -> float:
        """The guidance that is applied: the loop and a method's own predictions agree on it."""
        return self.guidance if self.guidance > 1 else 1.0

    @property
    def guided(self) -> bool:
        return self.guidance > 1

    def with_settings(self, **settings: Any) -> Sampling:
        """The same with scheduler settings added; a setting given before is replaced."""
        return replace(self, settings=tuple(sorted({**dict(self.settings), **settings}.items())))


@dataclass(frozen=True)
class Nfe:
    """Network evaluations of one image: what `plan` prices, and what a record counts."""

    forwards: float = 0.0
    """Denoiser calls; guidance doubles the rows, not the calls."""
    backwards: float = 0.0
    """Gradients taken through a denoiser call."""
    rows: float = 0.0
    """Rows of the network's batch: two for a guided call, one for a conditional one."""
    networks: float = 0.0
    """Calls of networks that are not the model's own."""
    decodes: float = 0.0
    """Latents turned into pixels."""
    rewards: float = 0.0
    """Images scored by a metric while the image is made."""
    at_most: bool = field(default=False, compare=False)
    """Whether the method may stop earlier, so that these are upper bounds."""

    def __add__(self, other: Nfe) -> Nfe:
        sums = {n: getattr(self, n) + getattr(other, n) for n in COUNTS}
        return Nfe(**sums, at_most=self.at_most or other.at_most)

    def __mul__(self, times: float) -> Nfe:
        return Nfe(**{n: getattr(self, n) * times for n in COUNTS}, at_most=self.at_most)

    __rmul__ = __mul__

    @property
    def calls(self) -> float:
        """Forwards and backwards together, each as one call: what equal compute is counted in."""
        return self.forwards + self.backwards


COUNTS = tuple(f.name for f in fields(Nfe) if f.name != "at_most")


def guided_calls(p: Sampling, n: float = 1.0) -> Nfe:
    """`n` calls at the sampling's own guidance."""
    return Nfe(forwards=n, rows=n * (2 if p.guided else 1))


def calls_at(guidance: float, n: float = 1.0) -> Nfe:
    """`n` calls at an explicit guidance: the conditional half alone at 1, both halves otherwise."""
    return Nfe(forwards=n, rows=n * (1 if guidance == 1 else 2))


def gradients(n: float = 1.0) -> Nfe:
    """`n` conditional calls with a gradient through each."""
    return Nfe(forwards=n, backwards=n, rows=n)


@dataclass(frozen=True)
class Item:
    """One image in the making: its prompt with all that it carries, and the seed its noise is drawn from."""

    prompt: Prompt
    seed: int


NETWORK, LORA, CONTROLNET = "network", "lora", "controlnet"
"""Kinds of weights: a denoiser in the place of the model's, low-rank updates of it, a network at its side."""


@dataclass(frozen=True)
class Weights:
    """Weights put on, in the place of or beside a model's denoiser, pinned by what they are (`bench.weights`)."""

    source: str
    """A folder, or a hub id."""
    kind: str
    """NETWORK, LORA or CONTROLNET."""
    digest: str
    """What the weights are: enters the job id in the place of where they lie."""
    revision: str | None = None
    subfolder: str | None = None
    file: str | None = None
    """The file of a LoRA, or of a network that is one file on its own."""
    scale: float = 1.0

    def identity(self) -> Mapping[str, Any]:
        """What enters the job id."""
        return {"kind": self.kind, "digest": self.digest, "scale": self.scale}
