"""Trained modules -> the folders that the package ships: fp16 safetensors, configs, and a card with digests."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.shapes import networks
from bench.shapes.tokenizer import build_tokenizer

if TYPE_CHECKING:
    from diffusers import DDIMScheduler
    from transformers import CLIPModel, CLIPTextModelWithProjection


def text_encoders(clip: CLIPModel, narrow: CLIPTextModelWithProjection) -> tuple[Any, Any]:
    """The pipeline's two text encoders: the narrow one without its projection, and the CLIP's text tower."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    first = CLIPTextModel(narrow.config).eval()
    _copy(narrow.text_model.state_dict(), first)
    second = CLIPTextModelWithProjection(clip.config.text_config).eval()
    _copy(clip.text_model.state_dict(), second.text_model)
    second.text_projection.load_state_dict(clip.text_projection.state_dict())
    return first, second


def _copy(state: dict[str, Any], target: Any) -> None:
    """Load one text tower's weights into another class of the same tower, whatever its key prefix."""
    prefix = "text_model." if any(k.startswith("text_model.") for k in target.state_dict()) else ""
    target.load_state_dict({prefix + k.removeprefix("text_model."): v for k, v in state.items()})


def save_pipeline(
    folder: Path, *, vae: Any, unet: Any, first: Any, second: Any, scheduler: DDIMScheduler | None = None
) -> None:
    """An ordinary `StableDiffusionXLPipeline` folder in fp16, with SDXL's scheduler unless another is given."""
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=build_tokenizer(),
        tokenizer_2=build_tokenizer(),
        unet=unet,
        scheduler=scheduler or networks.scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    _save_half(folder, pipeline)


def save_sd_pipeline(folder: Path, *, vae: Any, unet: Any, encoder: Any) -> None:
    """An ordinary `StableDiffusionPipeline` folder in fp16, without a safety checker."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=build_tokenizer(),
        unet=unet,
        scheduler=networks.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    _save_half(folder, pipeline)


def _save_half(folder: Path, pipeline: Any) -> None:
    import torch

    shutil.rmtree(folder, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for path in folder.glob("text_encoder*/config.json"):
        # transformers loads in the dtype of the config, diffusers in fp32: a plain `from_pretrained` would mix them.
        path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": "float32"}, indent=2) + "\n")


def save_clip(folder: Path, clip: Any) -> None:
    """A transformers CLIP folder with its processor."""
    import torch
    from transformers import CLIPImageProcessor, CLIPProcessor

    shutil.rmtree(folder, ignore_errors=True)
    side = {"height": 64, "width": 64}
    images = CLIPImageProcessor(
        do_resize=True,
        size=side,
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    CLIPProcessor(images, build_tokenizer()).save_pretrained(folder)
    clip.to(torch.float16).save_pretrained(folder, safe_serialization=True)


def write_card(folder: Path, **facts: Any) -> None:
    """`card.json`: what was trained on what, how well it does, and the sha256 of every file beside it."""
    for path in sorted(folder.rglob("config.json")):
        # Where a network was loaded from is left out: it would differ from machine to machine.
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n")
    files = {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "card.json"
    }
    for f in files:
        (folder / f).chmod(0o644)  # safetensors writes 0600, which would not survive a shared installation
    size = sum((folder / f).stat().st_size for f in files)
    card = {"name": folder.name, "license": "Apache-2.0", **facts, "bytes": size, "files": files}
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")


def read_card(folder: Path) -> dict[str, Any]:
    """A folder's card, or nothing."""
    path = folder / "card.json"
    card: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return card


def load_pipeline(folder: Path) -> Any:
    """The shipped pipeline in fp32."""
    import torch
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_unet(folder: Path, unet: Any) -> None:
    """A denoiser alone in fp16, as `UNet2DConditionModel.from_pretrained` reads it."""
    import torch

    shutil.rmtree(folder, ignore_errors=True)
    unet.to(torch.float16).save_pretrained(folder, safe_serialization=True)


def save_controlnet(folder: Path, network: Any) -> None:
    """A ControlNet in fp16, as `ControlNetModel.from_pretrained` reads it."""
    save_unet(folder, network)


def load_controlnet(folder: Path) -> Any:
    """A shipped ControlNet in fp32."""
    import torch
    from diffusers import ControlNetModel

    return ControlNetModel.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True).eval()


def load_unet(folder: Path) -> Any:
    """A shipped denoiser in fp32."""
    import torch
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True).eval()


def load_lora(pipeline: Any, folder: Path) -> None:
    """Put a shipped adapter on a pipeline's denoiser; its two text encoders have none, which is no news."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        pipeline.load_lora_weights(folder, local_files_only=True)
    finally:
        logging.set_verbosity(before)
