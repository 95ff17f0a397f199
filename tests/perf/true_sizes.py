"""Scorers' checkpoints of the published architectures with random weights: folders as a suite's `checkpoint` takes.

The small networks of `tests/reference` are built by the same functions; only the sizes are other ones. Weights follow
from their names, those of ViT-H-14 in fp16, and take gigabytes: write them to a folder that is removed again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "reference"))
import small_blip
import small_clips as small
import small_sets
from reference import small_detectors as detectors

VIT_H = small.Size(embed=1024, patch=14, layers=32, text_layers=24, vision=1280, text=1024, head=80, half=True)
VIT_L = small.Size(embed=768, patch=14, layers=24, text_layers=12, vision=1024, text=768)
VIT_B = small.Size(embed=512, patch=32, layers=12, text_layers=12, vision=768, text=512)
CROSS = {"dim": 1024, "layer_num": 4, "heads": 16, "dim_head": 64}
"""MPS's network on ViT-H's features."""
BLIP_L = small_blip.Size(
    patch=16, vision=1024, layers=24, text=768, text_layers=12, text_heads=12, positions=512, words=30524
)
SWIN_S = {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24]}
MASKS = {"num_queries": 100}
"""Mask2Former's published numbers but this one are transformers' defaults."""

BLIP_VQA = {"text": {}, "vision": {"image_size": 384}}
"""transformers' defaults are BLIP-base; the published one has 384 pixels."""
OWL_B = {"text": {}, "vision": {"image_size": 960, "patch_size": 16}, "projection": 512}


def geneval(folder: Path, case: str) -> Path:
    """The detector beside CLIP ViT-L/14."""
    detectors.mask2former_folder(folder / "mask2former-swin-small-coco-instance", case, swin=SWIN_S, shape=MASKS)
    small.clip_folder(folder / "clip-vit-large-patch14", case, act="quick_gelu", size=VIT_L)
    return folder


def compbench(folder: Path, case: str) -> Path:
    """BLIP-VQA, OWLv2 and CLIP ViT-B/32."""
    detectors.blip_folder(folder / "blip-vqa-capfilt-large", case, BLIP_VQA)
    detectors.owl_folder(folder / "owlv2-base-patch16-ensemble", case, OWL_B)
    small.clip_folder(folder / "clip-vit-base-patch32", case, act="quick_gelu", size=VIT_B)
    return folder


FOLDERS: dict[str, Callable[[Path, str], Path]] = {
    "hpsv2": partial(small.hps_folder, size=VIT_H),
    "pickscore": partial(small.in_folder, "PickScore_v1", act="gelu", size=VIT_H),
    "mps": partial(small.mps_folder, size=VIT_H, network=CROSS),
    "aesthetic": partial(small.aesthetic_folder, size=VIT_L),
    "clipscore": partial(small.in_folder, "clip-vit-base-patch32", act="quick_gelu", size=VIT_B),
    "imagereward": partial(small_blip.reward_folder, size=BLIP_L),
    "geneval": geneval,
    "t2i_compbench": compbench,
    "fid": small_sets.converted_folder,
}
"""By metric, what writes its checkpoint folder."""
NETWORKS = {
    "hpsv2": "ViT-H-14",
    "pickscore": "ViT-H-14",
    "mps": "ViT-H-14 and a cross model",
    "aesthetic": "ViT-L-14",
    "clipscore": "ViT-B-32",
    "imagereward": "BLIP-large",
    "geneval": "Mask2Former Swin-S, ViT-L-14",
    "t2i_compbench": "BLIP-base, OWLv2-B, ViT-B-32",
    "fid": "Inception",
}


def checkpoint(metric: str, folder: Path) -> Path:
    """The metric's folder below another, written unless it is there."""
    place = folder / metric
    if not (place / "whole").exists():
        FOLDERS[metric](place, "true size")
        (place / "whole").touch()
    return place
