"""A preference-tuned denoiser in the model's place: Diffusion-DPO's, or any network or LoRA that fits the model."""

from __future__ import annotations

from typing import ClassVar

from bench.methods.weighted import Weighted
from bench.registry import register


@register("methods", "dpo")
class DPO(Weighted):
    """Samples as the suite says, with other weights on the denoiser; prompt, seed and latent are the baseline's."""

    about: ClassVar[str] = "a preference-tuned denoiser in the model's place"
    source: ClassVar[str] = "2311.12908 (Diffusion-DPO); mhdang/dpo-sdxl-text2image-v1"
    cost: ClassVar[str] = "no added call; memory of a second denoiser"
    row_name: ClassVar[str] = "dpo"
