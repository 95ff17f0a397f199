"""Small Stable Diffusion and SDXL pipeline folders with random weights whose attention is as sharp as a trained one's.

Latents are 16 x 16, as are the maps of the UNet's first level, which is what methods that read attention ask for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.models.base import ModelEntry

WIDTH = 32
"""Of a text encoder's embeddings."""
SIDE = 16
"""Height and width of latents."""
LENGTH = 77
"""Tokens of a prompt, start and end included."""
WORDS = ("a", "cat", "and", "dog", "frog", "red", "photo", "of", "bench")
"""One token each; all other words are spelled, a token a letter."""
START, END = "<|startoftext|>", "<|endoftext|>"


def entry(folder: Path, **changes: Any) -> ModelEntry:
    """A catalogue row for a folder that `save_sd` or `save_sdxl` made, named after the folder."""
    kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
    adapter = "bench.models.sdxl:SDXL" if kind == "StableDiffusionXLPipeline" else "bench.models.sd:StableDiffusion"
    row = ModelEntry(
        name=folder.name,
        adapter=adapter,
        source=str(folder),
        revision=None,
        steps=6,
        guidance=7.5,
        size=(2 * SIDE, 2 * SIDE),
        latent=(4, SIDE, SIDE),
    )
    return replace(row, **changes)


def save_sd(
    folder: Path, *, prediction: str = "epsilon", sharpness: float = 6.0, seed: int = 0, levels: int = 2
) -> Path:
    """Write a `StableDiffusionPipeline`: one text encoder, a UNet of 1 or 2 levels, or of one without attention, a VAE.

    `sharpness` is the scale put on the projections to queries and keys: at 1 random maps are flat.
    A forward of one level takes half the time of one of two; with `levels=0`, where the one level's blocks are without
    attention and only the middle reads the prompt, a quarter.
    """
    import torch
    from diffusers import StableDiffusionPipeline

    torch.manual_seed(seed)
    pipeline = StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(),
        tokenizer=tokenizer(),
        unet=_unet(WIDTH, sharpness, levels),
        scheduler=_scheduler(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_sdxl(
    folder: Path, *, prediction: str = "epsilon", sharpness: float = 12.0, seed: int = 0, levels: int = 2
) -> Path:
    """Write a `StableDiffusionXLPipeline`: two text encoders, a UNet that reads the image's size, a VAE."""
    import torch
    from diffusers import StableDiffusionXLPipeline

    torch.manual_seed(seed)
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
        "use_linear_projection": True,
    }
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(),
        text_encoder_2=_text_encoder(projected=True),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=_unet(2 * WIDTH, sharpness, levels, **added),
        scheduler=_scheduler(prediction),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_controlnet(pipeline: Path, folder: Path, *, seed: int = 0, strength: float = 0.5, **changes: Any) -> Path:
    """Write a `ControlNetModel` for a pipeline's UNet; `changes` are of its configuration.

    A fresh one ends in convolutions of zero and answers nothing: here they are random, of size `strength`.
    """
    import torch
    from diffusers import ControlNetModel, UNet2DConditionModel

    torch.manual_seed(seed)
    unet = UNet2DConditionModel.from_pretrained(pipeline / "unet")
    network = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16))
    if changes:
        # diffusers takes the default for what is listed as one, whatever else is said.
        kept = {k: v for k, v in network.config.items() if k != "_use_default_values"}
        network = ControlNetModel.from_config({**kept, **changes})
    with torch.no_grad():
        for part in (network.controlnet_down_blocks, network.controlnet_mid_block):
            for weights in part.parameters():
                weights.copy_(strength * torch.randn_like(weights) / weights[0].numel() ** 0.5)
        for weights in network.controlnet_cond_embedding.conv_out.parameters():
            weights.copy_(torch.randn_like(weights) / weights[0].numel() ** 0.5)
    network.save_pretrained(folder)
    return folder


def tokenizer() -> Any:
    """CLIP's tokenizer over `WORDS` and letters."""
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = [*letters, *(c + "</w>" for c in letters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        for pair in _joins([*word[:-1], word[-1] + "</w>"]):
            if pair not in merges:
                merges.append(pair)
                pieces.append(pair[0] + pair[1])
    pieces += [START, END]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH, pad_token=END)


def _joins(parts: Sequence[str]) -> list[tuple[str, str]]:
    """Merges that join a word from the left."""
    return [("".join(parts[:i]), parts[i]) for i in range(1, len(parts))]


def _text_encoder(*, projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=WIDTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        force_upcast=False,
    ).eval()


def _unet(width: int, sharpness: float, levels: int, **more: Any) -> Any:
    import torch
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=SIDE,
        block_out_channels=(16,) * (levels or 1),
        down_block_types=("CrossAttnDownBlock2D",) * levels or ("DownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) * levels or ("UpBlock2D",),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=4,
        cross_attention_dim=width,
        **more,
    ).eval()
    with torch.no_grad():
        for name, weights in unet.named_parameters():
            if name.endswith(("to_q.weight", "to_k.weight")):
                weights *= sharpness
    return unet


def _scheduler(prediction: str) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        timestep_spacing="leading",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )
