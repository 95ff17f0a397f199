"""The SDXL family: `StableDiffusionXLPipeline`, from the hub or from a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.models.base import Embeddings, ModelEntry
from bench.models.pipeline import UNetFamily
from bench.registry import add_plugin

if TYPE_CHECKING:
    import torch

add_plugin(
    "models",
    "sdxl",
    ModelEntry(
        name="sdxl",
        adapter="bench.models.sdxl:SDXL",
        source="stabilityai/stable-diffusion-xl-base-1.0",
        revision="462165984030d82259a11f4367a4eed129e94a7b",
        steps=50,
        guidance=5.5,
        size=(1024, 1024),
        latent=(4, 128, 128),
        # anon:T5: 11.69 s for 50 DDIM steps.
        call_ms=234.0,
        call_ms_on="one RTX 4090 (the paper, table 5 of its first version)",
        # UNet, two text encoders, VAE, in fp32.
        about_bytes=4 * (2_567_463_684 + 123_060_480 + 694_659_840 + 83_653_863),
    ),
    "bench",
)
add_plugin(
    "models",
    "dreamshaper",
    ModelEntry(
        name="dreamshaper",
        adapter="bench.models.sdxl:SDXL",
        source="Lykon/dreamshaper-xl-v2-turbo",
        revision="2d67e21854b3d1fae8df93e57debd16eeff3d0a5",
        # The paper's; the model's own advice is 4 to 8 steps at guidance 2.
        steps=50,
        guidance=3.5,
        size=(1024, 1024),
        latent=(4, 128, 128),
    ),
    "bench",
)


class SDXL(UNetFamily):
    """Two CLIP text encoders, a UNet conditioned on the image's size, and a VAE."""

    pipeline_class = "StableDiffusionXLPipeline"
    sets_begin_index = True

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=False
        )
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def encode_negative(self, prompt: str) -> Embeddings:
        # None, not "": SDXL's config asks for zeros where no negative prompt is given.
        _, embeds, _, pooled = self.pipeline.encode_prompt(
            "", device=self.device, do_classifier_free_guidance=True, negative_prompt=prompt or None
        )
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def added(self, n: int, embeds: Mapping[str, Any]) -> dict[str, Any]:
        time_ids = self._time_ids(n, embeds["prompt_embeds"].dtype)
        return {"added_cond_kwargs": {"text_embeds": embeds["pooled_prompt_embeds"], "time_ids": time_ids}}

    def _time_ids(self, n: int, dtype: torch.dtype) -> torch.Tensor:
        import torch

        height, width = self.entry.size
        ids = [height, width, 0, 0, height, width]
        return torch.tensor([ids] * n, dtype=dtype, device=self.device)
