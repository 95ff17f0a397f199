"""Align Your Steps: timesteps optimised for a model family (Sabour et al. 2024, 2404.14507). Imports no torch.

The authors publish noise levels for ten steps and say how to have others: log-linear interpolation of the eleven
levels, the last of which is the model's smallest, where a sampler ends in the image instead.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bench.errors import UserError
from bench.methods.base import Method
from bench.models.shapes_of import read_configs
from bench.registry import register
from bench.sampling.records import Sampling

if TYPE_CHECKING:
    from bench.models.base import ModelEntry

TIMESTEPS: Mapping[str, tuple[int, ...]] = {
    "sd15": (999, 850, 736, 645, 545, 455, 343, 233, 124, 24),
    "sdxl": (999, 845, 730, 587, 443, 310, 193, 116, 53, 13),
}
"""The published ten timesteps of Stable Diffusion 1.5 and SDXL, as diffusers' `AysSchedules` has them."""
BETAS: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
}
"""The noise schedule of both models, which gives their timesteps a meaning."""


@cache
def log_levels() -> tuple[float, ...]:
    """log(sigma_t / alpha_t) of timesteps 0 to 999 for those betas, rising."""
    n, start, end = BETAS["num_train_timesteps"], BETAS["beta_start"] ** 0.5, BETAS["beta_end"] ** 0.5
    found, kept = [], 1.0
    for t in range(n):
        kept *= 1.0 - (start + (end - start) * t / (n - 1)) ** 2
        found.append(0.5 * math.log((1.0 - kept) / kept))
    return tuple(found)


def nearest_timestep(level: float) -> int:
    """The timestep whose log(sigma / alpha) is nearest."""
    levels = log_levels()
    above = min(max(bisect_left(levels, level), 1), len(levels) - 1)
    return above if levels[above] - level < level - levels[above - 1] else above - 1


def timesteps(schedule: str, steps: int) -> tuple[int, ...]:
    """The published list for ten steps, else `steps` whole timesteps near the log-linear interpolation of its levels.

    The n + 1 levels lie evenly over the eleven published ones, in log(sigma / alpha) between them; timestep 0 stands
    for the eleventh, 0.029, and the last of the n + 1 is the image. UserError where two fall on one timestep.
    """
    published = TIMESTEPS[schedule]
    if steps == len(published):
        return published
    levels = [log_levels()[t] for t in (*published, 0)]
    found = []
    for k in range(steps):
        whole, part = divmod(k * len(published), steps)
        low, high = levels[whole], levels[whole + 1]
        found.append(nearest_timestep(low + (high - low) * part / steps))
    if len(set(found)) < steps:
        raise UserError(f"ays: two of {steps} steps fall on one of the model's timesteps; give fewer steps")
    return tuple(found)


@register("methods", "ays")
class AlignYourSteps(Method):
    """A solver that works on a list, such as `dpmpp_2m` or `euler`, walks the published timesteps."""

    about: ClassVar[str] = "Align Your Steps: the published timesteps of SD 1.5 or SDXL"
    source: ClassVar[str] = "2404.14507; the timesteps as in diffusers' AysSchedules"
    cost: ClassVar[str] = "+0"

    schedule: Literal["auto", "sd15", "sdxl"] = "auto"
    """Whose timesteps; auto takes those of the model's family."""

    def for_model(self, entry: ModelEntry) -> AlignYourSteps:
        """With the model family's timesteps; UserError where none are published."""
        if self.schedule != "auto":
            return self
        return self.model_copy(update={"schedule": _of_family(entry)})

    def sampling(self, p: Sampling) -> Sampling:
        if self.schedule == "auto":
            raise UserError("ays: no model was chosen; ask for_model(entry) first, or give schedule sd15 or sdxl")
        return replace(p, timesteps=timesteps(self.schedule, p.steps))


def _of_family(entry: ModelEntry) -> str:
    from bench.models.sd import StableDiffusion
    from bench.models.sdxl import SDXL

    family = entry.family()
    found = "sdxl" if issubclass(family, SDXL) else "sd15" if issubclass(family, StableDiffusion) else None
    if found is None or "stable-diffusion-2" in entry.source:
        raise UserError(
            f"ays: no timesteps are published for model {entry.name!r}; they are for SD 1.x and SDXL "
            "(schedule: sd15 or schedule: sdxl takes theirs all the same)"
        )
    config = read_configs(entry.folder).get("scheduler", {}) if entry.folder is not None else BETAS
    for name, value in BETAS.items():
        if config.get(name, value) != value:
            raise UserError(
                f"ays: model {entry.name!r} has {name} {config[name]}, and the published timesteps are for {value}"
            )
    return found
