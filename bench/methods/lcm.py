"""LCM-LoRA: latent consistency distillation as a LoRA, sampled by the consistency sampler in one to eight steps."""

from __future__ import annotations

from typing import ClassVar

from bench.methods.few_step import FewStep
from bench.registry import register


@register("methods", "lcm")
class LCM(FewStep):
    """x_0 is predicted in every step and fresh noise added back, from each image's own stream.

    Four steps without guidance, as published (guidance 1 to 2); `guidance: 5.5` is the paper's few-step table.
    """

    about: ClassVar[str] = "LCM-LoRA, four steps by the LCM sampler"
    source: ClassVar[str] = "2311.05556; latent-consistency/lcm-lora-sdxl; PROTOCOL 1.7"
    cost: ClassVar[str] = "4 unguided calls in all; memory of a second denoiser; needs peft"
    row_name: ClassVar[str] = "lcm"
    default_sampler: ClassVar[str] = "lcm"
    works_in: ClassVar[tuple[int, ...]] = tuple(range(1, 9))
    why: ClassVar[str] = "a consistency model gains nothing from more, and fresh noise in each step blurs"
