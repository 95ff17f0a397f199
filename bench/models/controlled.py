"""A ControlNet beside a UNet: a copy of its way down that reads a control image (2302.05543).

Its answers, the residuals, are added to the UNet's skip connections and to its middle, before its way up.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.errors import UserError
from bench.models.shapes_of import factor, read_config, read_configs
from bench.models.worn import load_network, place_of, said

if TYPE_CHECKING:
    import torch

    from bench.models.base import ModelEntry
    from bench.models.pipeline import PipelineFamily
    from bench.sampling.records import Weights

_SHARED = (
    "in_channels",
    "block_out_channels",
    "down_block_types",
    "layers_per_block",
    "cross_attention_dim",
    "addition_embed_type",
    "projection_class_embeddings_input_dim",
)
"""Settings in which a ControlNet and its UNet must agree; the depth of its transformers is its own affair."""
_CLASS = "ControlNetModel"


class Residuals(NamedTuple):
    """What is added within the UNet: one a skip connection, and the middle's, each (B, C, h, w) of its place."""

    down: tuple[torch.Tensor, ...]
    mid: torch.Tensor

    def plus(self, other: Residuals) -> Residuals:
        """The sum, as diffusers adds those of several ControlNets."""
        return Residuals(tuple(a + b for a, b in zip(self.down, other.down, strict=True)), self.mid + other.mid)


def check(of: str, model: str, theirs: Mapping[str, Any], unet: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    """UserError where a network's config is no ControlNet's, or not one for a model of these configs."""
    kind = theirs.get("_class_name")
    if kind != _CLASS:
        raise UserError(f"{of}: it is a {kind}; expected a {_CLASS}, as diffusers saves it")
    for key in _SHARED:
        # A config file may leave out what is its class's own default; a loaded network's says everything.
        there, here = (_plain(config.get(key)) for config in (theirs, unet))
        if key in theirs and key in unet and there != here:
            raise UserError(
                f"{of}: a ControlNet for another architecture than model {model!r} has ({key}: {_shown(there)} there, "
                f"{_shown(here)} here); give one made for this model"
            )
    channels = theirs.get("conditioning_channels", 3)
    if channels != 3:
        raise UserError(f"{of}: it reads control images of {channels} channels, and RGB has 3; give one that reads RGB")
    if theirs.get("global_pool_conditions"):
        raise UserError(f"{of}: it pools its residuals for guidance without them, which is not built; give another")
    halved = 2 ** (len(theirs.get("conditioning_embedding_out_channels") or (0,) * 4) - 1)
    if halved != factor(vae):
        raise UserError(
            f"{of}: it brings control images to 1/{halved} of their size, and model {model!r} has latents of "
            f"1/{factor(vae)}; give one made for this model"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def check_folders(entry: ModelEntry, w: Weights) -> None:
    """`check` from the config files, where both lie in folders; what is on the hub is checked when it is loaded."""
    if w.revision is not None or entry.folder is None:
        return
    configs = read_configs(entry.folder)
    theirs = read_config(Path(w.source) / (w.subfolder or "") / "config.json")
    check(place_of(w), entry.name, theirs, configs.get("unet", {}), configs.get("vae", {}))


def load(family: PipelineFamily, w: Weights) -> Any:
    """The ControlNet on the family's device, in its precision, without gradients of its parameters.

    UserError where it does not load or does not fit the family's UNet.
    """
    import torch
    from diffusers import ControlNetModel

    unet = family.modules()["denoiser"]
    try:
        found = load_network(ControlNetModel, w, unet.dtype)
    except (torch.OutOfMemoryError, UserError):
        raise
    except Exception as error:
        raise UserError(said(family, w, error)) from error
    check(place_of(w), family.entry.name, found.config, unet.config, family.pipeline.vae.config)
    return found.to(family.device).eval().requires_grad_(False)
