"""A small Hunyuan-DiT pipeline folder with random weights: the parts that the published one has, and its scheduler."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import registry
from bench.models.base import ModelEntry

WIDTH, WIDTH_2 = 32, 16
"""Of the two text encoders' embeddings."""
LETTERS = string.ascii_lowercase + string.digits


def entry(folder: Path) -> ModelEntry:
    """The catalogue's row, for a folder that `save` made: images of 64 x 64."""
    row: ModelEntry = registry.get("models", "hunyuan-dit")
    return replace(row, source=str(folder), revision=None, size=(64, 64), latent=(4, 8, 8))


def save(folder: Path, *, sizes: bool = False) -> Path:
    """Write the folder; `sizes` makes it read style and image sizes, as versions before 1.2 do."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline

    torch.manual_seed(0)
    encoder, tokenizer, encoder_2, tokenizer_2 = _text()
    parts = {
        "text_encoder": encoder,
        "tokenizer": tokenizer,
        "text_encoder_2": encoder_2,
        "tokenizer_2": tokenizer_2,
        "transformer": HunyuanDiT2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            patch_size=2,
            sample_size=8,
            hidden_size=16,
            num_layers=4,
            mlp_ratio=2.0,
            cross_attention_dim=WIDTH,
            cross_attention_dim_t5=WIDTH_2,
            pooled_projection_dim=16,
            use_style_cond_and_image_meta_size=sizes,
        ),
        "vae": AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            norm_num_groups=4,
            latent_channels=4,
            scaling_factor=0.13025,
        ),
        # Of the published model, version 1.2.
        "scheduler": DDPMScheduler(
            beta_start=0.00085,
            beta_end=0.018,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            timestep_spacing="leading",
            steps_offset=1,
            clip_sample=False,
        ),
    }
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    pipeline = HunyuanDiTPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.save_pretrained(folder)
    return folder


def _text() -> tuple[Any, Any, Any, Any]:
    """Both text encoders with tokenizers that spell: a token a letter."""
    from transformers import BertConfig, BertModel, BertTokenizer, T5Config, T5EncoderModel, T5Tokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *((letter, -2.0) for letter in LETTERS)]
    bert = BertConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=77,
    )
    t5 = T5Config(vocab_size=len(pieces), d_model=WIDTH_2, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return (
        BertModel(bert),
        BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=77),
        T5EncoderModel(t5),
        T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=256),
    )
