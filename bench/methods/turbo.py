"""Turbo: a whole few-step denoiser of the model's architecture, distilled adversarially, as SDXL-Turbo's is."""

from __future__ import annotations

from typing import Any, ClassVar

from bench.methods.few_step import FewStep
from bench.registry import register


@register("methods", "turbo")
class Turbo(FewStep):
    """One to four steps of trailing spacing without guidance; Euler ancestral, as SDXL-Turbo's scheduler config says.

    SDXL-Turbo was distilled at 512 x 512 pixels, so on an SDXL of 1024 x 1024 it is out of its training range.
    """

    about: ClassVar[str] = "a whole few-step denoiser in the model's place, such as SDXL-Turbo's"
    source: ClassVar[str] = "2311.17042; stabilityai/sdxl-turbo"
    cost: ClassVar[str] = "4 unguided calls in all; memory of a second denoiser"
    row_name: ClassVar[str] = "turbo"
    default_sampler: ClassVar[str] = "euler_a"
    settings: ClassVar[dict[str, Any]] = {"timestep_spacing": "trailing"}
    works_in: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    why: ClassVar[str] = "it was distilled at four timesteps"
