"""The embedded networks: ordinary diffusers and transformers classes, made small.

Every function returns an untrained module in eval mode; `training.py` fills it, `package.py` saves it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.shapes.tokenizer import MAX_LENGTH, build_tokenizer

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPModel, CLIPTextConfig, CLIPTextModelWithProjection

LATENT = (4, 8, 8)
"""Channels, height, width of a latent of a 64x64 image."""

SD_LATENT = (4, 16, 16)
"""The same of `shapes-sd`, whose autoencoder has factor 4: its attention maps are of 16x16, as InitNO wants them."""


def vae(widths: tuple[int, ...] = (16, 32, 64, 64)) -> AutoencoderKL:
    """Autoencoder of factor 8: (B, 3, 64, 64) in [-1, 1] <-> (B, 4, 8, 8); each width less halves the factor."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=LATENT[0],
        sample_size=64,
        force_upcast=False,
        mid_block_add_attention=True,
    ).eval()


def text_config(hidden: int, layers: int, projection: int) -> CLIPTextConfig:
    from transformers import CLIPTextConfig

    tokenizer = build_tokenizer()
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 16,
        max_position_embeddings=MAX_LENGTH,
        projection_dim=projection,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def clip() -> CLIPModel:
    """Two-tower CLIP: ViT of 64 patches of 8x8, text tower of three causal layers, 64-wide joint space."""
    from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig

    vision = CLIPVisionConfig(
        image_size=64,
        patch_size=8,
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=4,
        num_attention_heads=4,
        projection_dim=64,
        hidden_act="gelu",
    )
    return CLIPModel(CLIPConfig(text_config=text_config(64, 3, 64), vision_config=vision, projection_dim=64)).eval()


def second_text_encoder() -> CLIPTextModelWithProjection:
    """The pipeline's first, narrower text encoder, trained against the CLIP's image tower."""
    from transformers import CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(text_config(64, 2, 64)).eval()


def unet() -> UNet2DConditionModel:
    """SDXL's UNet in small: (B, 4, 8, 8) latents, cross-attention to (B, 24, 128), text-time embedding."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=LATENT[1],
        in_channels=LATENT[0],
        out_channels=LATENT[0],
        block_out_channels=(48, 96),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=(3, 6),  # diffusers reads this as the number of heads
        norm_num_groups=8,
        cross_attention_dim=128,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=6 * 16 + 64,
    ).eval()


def sd_unet() -> UNet2DConditionModel:
    """Stable Diffusion 1.x's UNet in small: (B, 4, 16, 16) latents, cross-attention to (B, 24, 64) at 16x16 and 8x8."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SD_LATENT[1],
        in_channels=SD_LATENT[0],
        out_channels=SD_LATENT[0],
        block_out_channels=(32, 64, 96),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,  # diffusers reads this as the number of heads
        norm_num_groups=8,
        cross_attention_dim=64,
    ).eval()


def controlnet(denoiser: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet that begins as a copy of a denoiser's way down; it reads (B, 3, 64, 64) in [0, 1] at factor 8."""
    import torch
    from diffusers import ControlNetModel

    found = ControlNetModel.from_unet(denoiser, conditioning_embedding_out_channels=(8, 16, 32, 64))
    # diffusers makes this layer zero too. Behind residuals that are zero as well no gradient reaches it at first, and
    # in 1,000 steps the outlines were not read at all.
    torch.nn.init.xavier_uniform_(found.controlnet_cond_embedding.conv_out.weight)
    return found.eval()


def scheduler() -> DDIMScheduler:
    """SDXL's noise schedule, with every default that would clamp or shift latents written out."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="epsilon",
        timestep_spacing="leading",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )


def parameters(module: torch.nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in module.parameters())
