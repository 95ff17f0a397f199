"""Small random detectors and readers as checkpoint folders of transformers, under the names that scorers look for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from reference import small_clips as small


def _filled(network: Any, case: str) -> Any:
    """Weights that follow from `case` and their names; counters and constants stay."""
    state = network.state_dict()
    for name, value in state.items():
        if value.is_floating_point():
            state[name] = small.drawn(case, name, tuple(value.shape) or (1,)).reshape(value.shape)
    network.load_state_dict(state)
    return network.eval()


def mask2former_folder(folder: Path, case: str, *, labels: int = 80) -> Path:
    """A Mask2Former on a Swin with one block a stage, whose classes are told apart by far."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    stages: list[Any] = ["stage1", "stage2", "stage3", "stage4"]
    swin = SwinConfig(embed_dim=12, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], out_features=stages, window_size=7)
    shape = {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "num_attention_heads": 2}
    shape |= {"encoder_feedforward_dim": 16, "dim_feedforward": 16, "encoder_layers": 1, "decoder_layers": 2}
    config = Mask2FormerConfig(backbone_config=swin, num_queries=12, num_labels=labels, **shape)
    network = _filled(Mask2FormerForUniversalSegmentation(config), case)
    with torch.no_grad():
        network.class_predictor.weight.mul_(12)
        network.class_predictor.bias[-1] -= 40  # "no object"
    network.save_pretrained(folder)
    return folder


def geneval_folder(folder: Path, case: str, *, file: bool = False) -> Path:
    """The detector beside CLIP, as a folder or as OpenAI's file."""
    mask2former_folder(folder / "mask2former-swin-small-coco-instance", case)
    if file:
        small.write_open_clip_config(folder)
        torch.save(small.openai_state(case), folder / "ViT-L-14.pt")
    else:
        small.clip_folder(folder / "clip-vit-large-patch14", case, act="quick_gelu")
    return folder
