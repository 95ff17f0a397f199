"""The catalogue of samplers: data, not code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.errors import UserError
from bench.registry import add_plugin


def _n(n: int) -> int:
    return n


def _two_per_step(n: int) -> int:
    return 2 * n - 1


@dataclass(frozen=True)
class Sampler:
    """A diffusers scheduler, what is set on top of the model's own scheduler config, and its cost."""

    name: str
    scheduler: str
    """Class name in diffusers."""
    calls: Callable[[int], int] = _n
    """Denoiser calls for n steps; guidance doubles the batch, not the calls."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    stochastic: bool = False
    """Whether steps draw noise; each image then has a generator of its own."""
    fewest_steps: int = 1
    most_steps: int = 1000
    """Step counts at which the scheduler works and keeps to `calls`."""

    def build(self, config: Mapping[str, Any]) -> Any:
        """The scheduler, from the model's scheduler config."""
        import diffusers

        return getattr(diffusers, self.scheduler).from_config(dict(config), **self.settings)

    def check_steps(self, steps: int) -> None:
        """UserError for a step count that the scheduler cannot do."""
        if not self.fewest_steps <= steps <= self.most_steps:
            raise UserError(
                f"sampler {self.name!r} takes {self.fewest_steps} to {self.most_steps} steps, not {steps}; "
                "give other steps, or another sampler"
            )

    def identity(self) -> dict[str, Any]:
        """What enters the job id."""
        return {"scheduler": self.scheduler, "settings": dict(self.settings)}


# DPMSolverSDE is not here: its Brownian tree is one for the whole batch, so the batch would decide pixels.
# clip_sample's class default True would clamp latents; leading spacing and offset 1 come from the model's config.
_PLAIN = {"clip_sample": False}

for _sampler in (
    Sampler("ddim", "DDIMScheduler", settings={**_PLAIN, "set_alpha_to_one": False}),
    Sampler("ddpm", "DDPMScheduler", settings=_PLAIN, stochastic=True),
    Sampler("dpmpp_2m", "DPMSolverMultistepScheduler", settings={"algorithm_type": "dpmsolver++", "solver_order": 2}),
    Sampler(
        "dpmpp_2m_karras",
        "DPMSolverMultistepScheduler",
        settings={"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    ),
    Sampler("unipc", "UniPCMultistepScheduler"),
    Sampler("deis", "DEISMultistepScheduler"),
    # Its steps draw noise at eta > 0 only, and the pipelines pass eta = 0.
    Sampler("tcd", "TCDScheduler", settings=_PLAIN, most_steps=50),
    Sampler("lcm", "LCMScheduler", settings=_PLAIN, stochastic=True, most_steps=50),
    Sampler("sa_solver", "SASolverScheduler", stochastic=True),
    Sampler("euler", "EulerDiscreteScheduler"),
    Sampler("euler_a", "EulerAncestralDiscreteScheduler", stochastic=True),
    Sampler("lms", "LMSDiscreteScheduler"),
    Sampler(
        "pndm", "PNDMScheduler", lambda n: n + 1, {"skip_prk_steps": True, "set_alpha_to_one": False}, fewest_steps=2
    ),
    Sampler(
        "pndm_prk",
        "PNDMScheduler",
        lambda n: n + 9,
        {"skip_prk_steps": False, "set_alpha_to_one": False},
        fewest_steps=4,
    ),
    Sampler("heun", "HeunDiscreteScheduler", _two_per_step),
    Sampler("kdpm2", "KDPM2DiscreteScheduler", _two_per_step),
    Sampler("kdpm2_a", "KDPM2AncestralDiscreteScheduler", _two_per_step, stochastic=True),
):
    add_plugin("samplers", _sampler.name, _sampler, "bench")
