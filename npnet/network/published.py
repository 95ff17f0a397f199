"""The published checkpoints: their names translated into ours, and what their shapes say of the network.

Read are:

- The published `sdxl.pth`, `dreamshaper.pth`, `dit.pth`: a pickled dict with the keys `unet_svd`, `unet_embedding`,
  `embeeding` (sic), `alpha`, `beta` (released code, commit aa7103e). Always with `weights_only=True` and on the CPU.
- Public safetensors conversions of those. Checked against a public conversion script for ComfyUI, which flattens the
  same names with dots and writes `text_embedding.` for `embeeding.`; both spellings are read. Not checked against a
  downloaded file: the names in the mirror LucipherDev/Golden-Noise-NPNets were not to be seen from here. A file with
  other names is refused with the names that differ, never guessed at.

The names of the released *training* solver's checkpoints do not tell whether attention was used: its variant without
attention carries attention weights that nothing trained. They still lie where `nn.Linear` drew them, inside
+-1/sqrt(width): `untouched` tells.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from npnet.network.architecture import NPNetConfig
from npnet.network.pickled import safe_load

if TYPE_CHECKING:
    from torch import Tensor

KEYS = ("unet_svd", "unet_embedding", "embeeding", "alpha", "beta")
PREFIXES = {"unet_svd.": "svd.", "unet_embedding.": "residual.", "embeeding.": "text.", "text_embedding.": "text."}
"""Published name -> ours."""
_TELLING = ("svd.mlp1.0.weight", "text.linear.weight")
"""Weights whose number of inputs tells the latent's size and the prompt's shape."""
_TOKENS = 77
"""Tokens of a published prompt; the checkpoint holds only tokens times width."""


def identity(path: Path, data: bytes) -> dict[str, Any]:
    """What is known of a published file: its name, its digest, and that HPSv2 selected its pairs (paper, D.1)."""
    model = path.stem.lower() if path.stem.lower() in ("sdxl", "dreamshaper", "dit") else None
    digest = hashlib.sha256(data).hexdigest()
    return {"selected_by": ["hpsv2"], "teacher": "inversion", "model": model, "digest": digest}


def read_pickle(path: Path) -> dict[str, Tensor]:
    """A published .pth, flattened with dots; UserError for any other content."""
    import torch

    content = safe_load(path, expected="a published NPNet checkpoint: get it again from its publisher")
    if not isinstance(content, dict) or not set(KEYS) <= set(content):
        found = ", ".join(sorted(map(str, content))[:6]) if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path}: not a published NPNet; expected the keys {', '.join(KEYS)}, found {found or '-'}")
    flat: dict[str, Tensor] = {}
    for key in KEYS:
        value = content[key]
        flat.update({f"{key}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {key: value})
    wrong = [k for k, v in flat.items() if not isinstance(v, torch.Tensor)]
    if wrong:
        raise UserError(f"{path}: {wrong[0]} is no tensor; expected a published NPNet checkpoint")
    return flat


def translated(path: Path, tensors: Mapping[str, Tensor]) -> tuple[NPNetConfig, dict[str, Tensor]]:
    """The configuration that a published file's shapes imply, and its tensors under our names."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        prefix = next((p for p in PREFIXES if name.startswith(p)), "")
        renamed[(PREFIXES[prefix] + name[len(prefix) :]) if prefix else name.removeprefix("_")] = tensor.detach()
    lacking = [name for name in _TELLING if name not in renamed]
    if lacking:
        raise UserError(
            f"{path}: not a published NPNet, its {len(tensors)} tensors ({first_names(sorted(tensors))}) "
            f"have no {lacking[0]!r}; expected unet_svd., unet_embedding., embeeding. or text_embedding., alpha, beta"
        )
    # A tensor that is no matrix has no inputs.
    size, features = (renamed[name].shape[1] if renamed[name].ndim == 2 else 0 for name in _TELLING)
    if not features or not size or features % _TOKENS or size % 8:
        raise UserError(
            f"{path}: a text layer of {features} inputs and {size} singular values belong to no published NPNet; "
            f"expected {_TOKENS} times the prompt's width (157696 for SDXL, 78848 for DiT) and 256"
        )
    for name in ("alpha", "beta"):
        if name in renamed and renamed[name].numel() == 1:
            renamed[name] = renamed[name].reshape(1)
    config = NPNetConfig(
        latent=(4, size // 2, size // 2),
        prompt=(_TOKENS, features // _TOKENS),
        attention=any(name.startswith("svd.attention.") for name in renamed),
    )
    return config, renamed


def untouched(tensors: Mapping[str, Tensor]) -> bool:
    """Whether attention still holds nn.Linear's initial draw: its largest entry just inside 1/sqrt(width).

    One AdamW step would move about half of the outermost entries across; weights without gradient are not decayed.
    """
    weights = [v for k, v in tensors.items() if k in ("svd.attention.qkv.weight", "svd.attention.proj.weight")]
    largest = [float(w.abs().max()) * math.sqrt(w.shape[1]) for w in weights]
    return bool(largest) and all(0.99 < value <= 1.0 for value in largest)


def first_names(names: Sequence[str], count: int = 3) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
