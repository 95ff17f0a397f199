"""PCM: a LoRA that is consistent within each of a few phases, sampled by deterministic DDIM."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from bench.methods.few_step import FewStep
from bench.registry import register


@register("methods", "pcm")
class PCM(FewStep):
    """DDIM of trailing spacing, without clipping and with the last step at alpha_0, as the readme has it.

    Eight steps by default, one for each phase of the published LoRA, at the paper's guidance 5.5 (readme: 3 to 6);
    `steps: 4` is what the paper's released code ran.
    """

    about: ClassVar[str] = "a phased-consistency LoRA, eight DDIM steps of trailing spacing"
    source: ClassVar[str] = "2405.18407; wangfuyun/PCM_Weights; PROTOCOL 1.7"
    cost: ClassVar[str] = "8 guided calls in all; memory of a second denoiser; needs peft"
    row_name: ClassVar[str] = "pcm"
    default_sampler: ClassVar[str] = "ddim"
    settings: ClassVar[dict[str, Any]] = {
        "timestep_spacing": "trailing",
        "clip_sample": False,
        "set_alpha_to_one": False,
    }
    works_in: ClassVar[tuple[int, ...]] = tuple(range(1, 9))
    why: ClassVar[str] = "it is consistent within eight phases, so a step cannot be shorter than one"

    steps: int = Field(default=8, ge=1, le=1000)
    """Steps, in the place of the suite's."""
    guidance: float = Field(default=5.5, ge=0, le=100)
    """Guidance, in the place of the suite's."""
