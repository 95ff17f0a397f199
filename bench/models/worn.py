"""A denoiser in other weights: another network's in its place, or LoRA updates added to a copy of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.models.pipeline import PipelineFamily
    from bench.sampling.records import Weights


def dressed(family: PipelineFamily, own: Any, weights: Sequence[Weights]) -> Any:
    """The family's denoiser `own` in these weights, in eval mode and without gradients of its parameters.

    Its own weights stay as they are. UserError where weights do not fit the network or do not load.
    """
    network = own
    for w in weights:
        network = _replaced(family, network, w) if w.kind == "network" else _with_lora(family, network, w)
    return network.to(family.device).eval().requires_grad_(False)


def _replaced(family: PipelineFamily, network: Any, w: Weights) -> Any:
    import torch

    try:
        if w.file is not None:
            other = type(network).from_config(network.config)
            other.load_state_dict(_state(_path(w)))
        else:
            other = type(network).from_pretrained(
                w.source, subfolder=w.subfolder, revision=w.revision, dtype=network.dtype
            )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise UserError(_said(family, w, error)) from error
    ours, theirs = ({k: tuple(v.shape) for k, v in n.state_dict().items()} for n in (network, other))
    if ours != theirs:
        differing = next(k for k in sorted({*ours, *theirs}) if ours.get(k) != theirs.get(k))
        raise UserError(
            f"{w.source}: weights of another architecture than model {family.entry.name!r} has ({differing}: "
            f"{theirs.get(differing)} there, {ours.get(differing)} here); give weights made for this model"
        )
    return other.to(network.dtype)


def _with_lora(family: PipelineFamily, network: Any, w: Weights) -> Any:
    """A copy of the network with a LoRA's updates added into its weights, so that they cost nothing more."""
    import torch

    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise UserError(f"{w.source}: a LoRA needs peft; pip install 'noisebench[lora]'") from error
    pipeline, name = family.pipeline, family.network_name
    before = getattr(pipeline, name)
    try:
        state, _ = pipeline.lora_state_dict(str(_path(w).parent), weight_name=_path(w).name)[:2]
        other = sorted({k.split(".")[0] for k in state} - {name})
        if other:
            raise ValueError(f"it changes {', '.join(other)} too, and only the denoiser's weights may be changed")
        worn = copy.deepcopy(network)
        setattr(pipeline, name, worn)
        pipeline.load_lora_weights(dict(state), adapter_name="bench")
        loaded = {k for k, _ in worn.named_parameters() if "lora_" in k}
        if not loaded:
            raise ValueError("none of its updates is for a layer of this network")
        pipeline.fuse_lora(components=[name], lora_scale=w.scale)
        pipeline.unload_lora_weights()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise UserError(_said(family, w, error)) from error
    finally:
        setattr(pipeline, name, before)
    return worn


def _path(w: Weights) -> Path:
    """The one file of a LoRA or of a network, from a folder or from the hub."""
    assert w.file is not None
    if Path(w.source).is_dir():
        return Path(w.source) / (w.subfolder or "") / w.file
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(w.source, w.file, subfolder=w.subfolder, revision=w.revision))


def _state(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(path)
    return found


def _said(family: PipelineFamily, w: Weights, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{w.source}: these weights do not load on model {family.entry.name!r}: {reason}"
