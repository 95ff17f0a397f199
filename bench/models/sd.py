"""Stable Diffusion 1.x and 2.x: `StableDiffusionPipeline`, from the hub or from a folder."""

from __future__ import annotations

from collections.abc import Sequence

from bench.models.base import Embeddings, ModelEntry
from bench.models.pipeline import UNetFamily
from bench.registry import add_plugin

# UNet, text encoder, VAE, in fp32; version 1 has a safety checker, which is loaded with it.
_FIRST = 4 * (859_520_964 + 123_060_480 + 83_653_863 + 303_981_595)
_SECOND = 4 * (865_910_724 + 340_387_840 + 83_653_863)
_ROWS = (
    # name, hub id, revision, size, latent, bytes
    ("sd14", "CompVis/stable-diffusion-v1-4", "133a221b8aa7292a167afc5127cb63fb5005638b", 512, 64, _FIRST),
    (
        "sd15",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        512,
        64,
        _FIRST,
    ),
    ("sd21", "stabilityai/stable-diffusion-2-1", "5cae40e6a2745ae2b01ad92ae5043f95f23644d6", 768, 96, _SECOND),
)
for _name, _source, _revision, _size, _latent, _bytes in _ROWS:
    add_plugin(
        "models",
        _name,
        ModelEntry(
            name=_name,
            adapter="bench.models.sd:StableDiffusion",
            source=_source,
            revision=_revision,
            steps=50,
            guidance=7.5,
            size=(_size, _size),
            latent=(4, _latent, _latent),
            about_bytes=_bytes,
        ),
        "bench",
    )


class StableDiffusion(UNetFamily):
    """One CLIP text encoder, a UNet, and a VAE; SD 2.1 predicts velocity, which its scheduler's config says."""

    pipeline_class = "StableDiffusionPipeline"
    encoders = ("text_encoder",)
    needed = ("tokenizer", "vae", "scheduler")

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        embeds, _ = self.pipeline.encode_prompt(list(prompts), self.device, 1, False)
        return {"prompt_embeds": embeds}

    def encode_negative(self, prompt: str) -> Embeddings:
        _, embeds = self.pipeline.encode_prompt("", self.device, 1, True, negative_prompt=prompt or None)
        return {"prompt_embeds": embeds}
