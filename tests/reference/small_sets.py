"""Small random networks of the set metrics as checkpoint folders, and features to compare: weights follow from names.

Inception is the whole architecture, for it has one width; DINOv2 and CLIP are small.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import small_clips as small
import torch
from small_clips import drawn

NVIDIA, CONVERTED = "inception-2015-12-05.pt", "pt_inception-2015-12-05-6726825d.pth"
DINO = {"width": 48, "heads": 3, "layers": 2, "patch": 14, "places": 5}
KEPT = slice(None, None, 16)
"""Every sixteenth of Inception's 2048 features is stored."""


def inception_state(case: str, shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Values for pytorch-fid's names and shapes, large enough that images are distinguished through 94 layers."""
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
        elif name.endswith("conv.weight"):
            state[name] = drawn(case, name, tuple(shape)) * 2**0.5
        elif name.endswith("running_var"):
            state[name] = 1 + drawn(case, name, tuple(shape)).abs()
        elif name.endswith("bn.weight"):  # TensorFlow's graph has none
            state[name] = torch.ones(shape)
        else:
            state[name] = drawn(case, name, tuple(shape))
    return state


@cache
def inception_shapes() -> dict[str, torch.Size]:
    """Names and shapes of pytorch-fid's file, by torchvision's own class, which has all of them."""
    from torchvision.models.inception import Inception3

    with torch.device("meta"):
        net = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    return {name: value.shape for name, value in net.state_dict().items()}


def converted_folder(folder: Path, case: str) -> Path:
    """The network in pytorch-fid's file."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(inception_state(case, inception_shapes()), folder / CONVERTED)
    return folder


class Holder(torch.nn.Module):
    """A module that does nothing; parameters are put into it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def archive(state: dict[str, torch.Tensor], path: Path) -> Path:
    """A TorchScript file whose modules and tensors have the names of `state`."""
    root = Holder()
    for name, value in state.items():
        *way, last = name.split(".")
        at: torch.nn.Module = root
        for step in way:
            if step not in dict(at.named_children()):
                at.add_module(step, Holder())
            at = at.get_submodule(step)
        at.register_parameter(last, torch.nn.Parameter(value, requires_grad=False))
    torch.jit.script(root).save(str(path))
    return path


def dino_state(case: str) -> dict[str, torch.Tensor]:
    """A state dict by the names of the published code."""
    d, patch, places = (DINO[key] for key in ("width", "patch", "places"))
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, d), "mask_token": (1, d), "pos_embed": (1, 1 + places**2, d),
        "patch_embed.proj.weight": (d, 3, patch, patch), "patch_embed.proj.bias": (d,),
        "norm.weight": (d,), "norm.bias": (d,),
    }  # fmt: skip
    for i in range(DINO["layers"]):
        at = f"blocks.{i}"
        linear = {"attn.qkv": (3 * d, d), "attn.proj": (d, d), "mlp.fc1": (4 * d, d), "mlp.fc2": (d, 4 * d)}
        for name, (rows, columns) in linear.items():
            shapes |= {f"{at}.{name}.weight": (rows, columns), f"{at}.{name}.bias": (rows,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"{at}.{name}.weight": (d,), f"{at}.{name}.bias": (d,)}
        shapes |= {f"{at}.ls1.gamma": (d,), f"{at}.ls2.gamma": (d,)}
    state = {name: drawn(case, name, shape) for name, shape in shapes.items()}
    state["pos_embed"] *= 4  # what is placed elsewhere must be seen
    return state


RENAMED = (
    ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
    ("blocks.", "encoder.layer."),
    ("attn.proj", "attention.output.dense"),
    ("ls1.gamma", "layer_scale1.lambda1"),
    ("ls2.gamma", "layer_scale2.lambda1"),
)


def dino_folder(folder: Path, case: str) -> Path:
    """`dinov2-large/` with a small network, by the names that the hub's file has."""
    from safetensors.torch import save_file

    place = folder / "dinov2-large"
    place.mkdir(parents=True, exist_ok=True)
    d, patch = DINO["width"], DINO["patch"]
    config = {"architectures": ["Dinov2Model"], "model_type": "dinov2", "hidden_size": d, "mlp_ratio": 4}
    config |= {"num_hidden_layers": DINO["layers"], "num_attention_heads": DINO["heads"], "patch_size": patch}
    config |= {"image_size": patch * DINO["places"], "layerscale_value": 1.0, "qkv_bias": True}
    (place / "config.json").write_text(json.dumps(config))
    found: dict[str, torch.Tensor] = {}
    whole = {"cls_token": "embeddings.cls_token", "mask_token": "embeddings.mask_token",
             "pos_embed": "embeddings.position_embeddings"}  # fmt: skip
    for name, value in dino_state(case).items():
        if name in whole:
            found[whole[name]] = value
        elif match := re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(\w+)", name):
            at = f"encoder.layer.{match[1]}.attention.attention"
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"{at}.{part}.{match[2]}"] = piece.clone()
        else:
            for old, new in RENAMED:
                name = name.replace(old, new)
            found[f"layernorm.{name[5:]}" if name.startswith("norm.") else name] = value
    save_file(found, place / "model.safetensors", metadata={"format": "pt"})
    return folder


def clip_folder(folder: Path, case: str) -> Path:
    """`clip-vit-large-patch14-336/` with a small network of 224 pixels."""
    return small.in_folder("clip-vit-large-patch14-336", folder, case, act="quick_gelu")


def features(case: str, which: str, n: int, d: int) -> np.ndarray:
    """(n, d) float32 features, of a Gaussian whose mean and covariance follow from `which`."""
    seed = np.frombuffer(f"{case}/{which}".encode(), np.uint8)
    rng = np.random.default_rng(seed.tolist())
    mix = rng.standard_normal((d, d)) / d**0.5
    return (rng.standard_normal((n, d)) @ mix + rng.standard_normal(d) / 4).astype(np.float32)
