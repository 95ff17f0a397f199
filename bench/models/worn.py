"""A denoiser in other weights: another network's in its place, or LoRA updates added to a copy of it.

Memory: the model's own denoiser and every one in other weights are kept for as long as the model, so that arms may take
turns every batch. On a GPU two of them at most are there at a time, the one in use and the one before; the others
wait in host memory (5 GB each for SDXL in fp16), and a change costs their way over the bus. A run with one swapped
arm beside the baseline moves nothing.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.sampling.records import CONTROLNET, LORA, NETWORK

if TYPE_CHECKING:
    from bench.models.pipeline import PipelineFamily
    from bench.sampling.records import Weights

ON_DEVICE = 2
"""Denoisers in a GPU's memory at most."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs",
          "_forward_hooks_always_called")  # fmt: skip


class Wardrobe:
    """A family's denoisers by what they wear, and where they wait."""

    def __init__(self, own: Any):
        self._kept: dict[tuple[str, ...], Any] = {(): own}
        self._recent: list[tuple[str, ...]] = [()]
        """Those on the device, the last used at the end."""

    def network(self, family: PipelineFamily, weights: Sequence[Weights]) -> Any:
        """The denoiser in these weights, on the family's device; UserError where they do not load or fit."""
        weights = sorted(weights, key=_order)
        key = tuple(f"{w.kind}:{w.digest}:{w.scale}" for w in weights)
        if key in self._kept:
            self._bring(family, key, others=ON_DEVICE - 1)
        else:
            self._bring(family, (), others=0)
            self._kept[key] = dressed(family, self._kept[()], weights)
            self._recent.append(key)
        return self._kept[key]

    def _bring(self, family: PipelineFamily, wanted: tuple[str, ...], *, others: int) -> None:
        """Have `wanted` on the device as the last used, with so many others at most."""
        if family.device == "cpu":
            return
        beside = [k for k in self._recent if k != wanted]
        leaving = beside[: len(beside) - others]
        for key in leaving:
            self._kept[key].to("cpu")
        if wanted not in self._recent:
            self._kept[wanted].to(family.device)
        self._recent = [*beside[len(leaving) :], wanted]


def _order(w: Weights) -> bool:
    """A network is put on before the LoRAs, whatever the order of a chain."""
    return w.kind == LORA


def dressed(family: PipelineFamily, own: Any, weights: Sequence[Weights]) -> Any:
    """The family's denoiser `own` in these weights, in eval mode and without gradients of its parameters.

    Its own weights stay as they are. UserError where weights do not fit the network or do not load.
    """
    network = own
    for w in sorted(weights, key=_order):
        if w.kind not in (NETWORK, LORA):
            raise UserError(f"{place_of(w)}: weights of the kind {w.kind!r} cannot be put on a denoiser")
        if w.kind == NETWORK:
            network = _replaced(family, own, w)
        else:
            network = _with_lora(family, _copied(own) if network is own else network, w)
    return family.entry.loading.prepared(network.to(family.device).eval().requires_grad_(False))


def _copied(network: Any) -> Any:
    """A copy without the original's hooks, which count calls of the original."""
    found = copy.deepcopy(network)
    if hasattr(found, "_hf_hook"):  # of accelerate, which moves an offloaded network to and fro
        from accelerate.hooks import remove_hook_from_module

        remove_hook_from_module(found, recurse=True)
    vars(found).pop("forward", None)  # compiled, it is that of the original
    for name in _HOOKS:
        getattr(found, name, {}).clear()
    return found


# A network in the place of the model's ----------------------------------------------------------------------------


def _replaced(family: PipelineFamily, own: Any, w: Weights) -> Any:
    import torch

    ours = {k: tuple(v.shape) for k, v in own.state_dict().items()}
    try:
        if w.file is not None:
            state = _state(path_of(w))
            _check_fits(family, w, ours, {k: tuple(v.shape) for k, v in state.items()})
            other = _copied(own)
            other.load_state_dict(state)
            return other
        other = load_network(type(own), w, own.dtype)
    except (torch.OutOfMemoryError, UserError):
        raise
    except Exception as error:
        raise UserError(said(family, w, error)) from error
    _check_fits(family, w, ours, {k: tuple(v.shape) for k, v in other.state_dict().items()})
    return other.to(own.dtype)


def load_network(kind: type, w: Weights, dtype: Any) -> Any:
    """A diffusers model of class `kind` from the weights' folder."""
    return kind.from_pretrained(  # type: ignore[attr-defined]
        w.source, subfolder=_subfolder(w), revision=w.revision, dtype=dtype, local_files_only=_is_local(w)
    )


def _check_fits(
    family: PipelineFamily, w: Weights, ours: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]
) -> None:
    if ours == theirs:
        return
    differing = next(k for k in sorted({*ours, *theirs}) if ours.get(k) != theirs.get(k))
    there, here = (_shape(shapes.get(differing)) for shapes in (theirs, ours))
    raise UserError(
        f"{place_of(w)}: weights of another architecture than model {family.entry.name!r} has ({differing}: "
        f"{there} there, {here} here); give weights made for this model"
    )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "one number"


# LoRA ---------------------------------------------------------------------------------------------------------------


def _with_lora(family: PipelineFamily, network: Any, w: Weights) -> Any:
    """The network with a LoRA's updates added into its weights, so that they cost nothing more in a call."""
    import torch

    check_peft(place_of(w))
    pipeline, name = family.pipeline, family.network_name
    if not hasattr(pipeline, "load_lora_weights"):
        raise UserError(
            f"{place_of(w)}: model {family.entry.name!r}: diffusers loads no LoRA for its {type(network).__name__}"
        )
    before = getattr(pipeline, name)
    try:
        path = path_of(w)
        place, file = str(path.parent), path.name
        _check_lora(family, network, w, pipeline.lora_state_dict(place, weight_name=file)[0])
        setattr(pipeline, name, network)
        # From the file, not from what `lora_state_dict` gave: that has lost the updates' alphas.
        pipeline.load_lora_weights(place, weight_name=file, adapter_name="bench")
        pipeline.fuse_lora(components=[name], lora_scale=w.scale)
        pipeline.unload_lora_weights()
    except (torch.OutOfMemoryError, UserError):
        raise
    except Exception as error:
        raise UserError(said(family, w, error)) from error
    finally:
        setattr(pipeline, name, before)
    return network


def check_peft(of: str) -> None:
    """UserError where the library that adds LoRA updates is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise UserError(f"{of}: a LoRA needs peft; pip install peft")


def _check_lora(family: PipelineFamily, network: Any, w: Weights, state: Mapping[str, Any]) -> None:
    """UserError where updates are for other networks, for no layer of this one, or of another size than its layers."""
    name, model = family.network_name, family.entry.name
    parts = {k.split(".")[0] for k in state}
    if name not in parts:
        raise UserError(
            f"{place_of(w)}: none of its updates is for the {name} of model {model!r}; give a LoRA made for it"
        )
    if parts - {name}:
        others = ", ".join(sorted(parts - {name}))
        raise UserError(
            f"{place_of(w)}: it changes {others} too, and only the {name} is changed here; give a LoRA without"
        )
    layers = dict(network.named_modules())
    fitting, first = 0, None
    for key, value in state.items():
        layer, _, end = _by_layer(key.removeprefix(f"{name}.")).partition(".lora")
        down = end.startswith(("_A.", ".down."))
        if not down and not end.startswith(("_B.", ".up.")):
            continue
        weight = getattr(layers.get(layer), "weight", None)
        if weight is None:
            first = first or layer
            continue
        fitting += 1
        side = 1 if down else 0
        if value.shape[side] != weight.shape[side]:
            raise UserError(
                f"{place_of(w)}: made for another architecture than model {model!r} has ({layer}: "
                f"{value.shape[side]} wide there, {weight.shape[side]} here); give a LoRA made for this model"
            )
    if first is not None:
        said_ = "none of its updates is" if not fitting else "not all of its updates are"
        raise UserError(
            f"{place_of(w)}: {said_} for a layer of model {model!r} (such as {first}); give a LoRA made for it"
        )


def _by_layer(key: str) -> str:
    """An update's key with its layer's own name: diffusers turns kohya's names into those of its former processors."""
    return key.replace(".processor.", ".").replace("_lora.", ".lora.").replace(".to_out.lora", ".to_out.0.lora")


# Places -------------------------------------------------------------------------------------------------------------


def place_of(w: Weights) -> str:
    """Where weights lie, for a message."""
    inside = "/".join(part for part in (w.subfolder, w.file) if part)
    if w.revision is None:
        return str(Path(w.source) / inside)
    return f"{w.source}@{w.revision[:8]}" + (f":{inside}" if inside else "")


def _is_local(w: Weights) -> bool:
    return w.revision is None


def _subfolder(w: Weights) -> str | None:
    """Where in a hub commit a network lies: as given, else `unet` of a whole pipeline, else the top."""
    if w.subfolder is not None or _is_local(w) or w.kind == CONTROLNET:
        return w.subfolder
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        hf_hub_download(w.source, "config.json", subfolder="unet", revision=w.revision)
    except EntryNotFoundError:
        return None
    return "unet"


def path_of(w: Weights) -> Path:
    """The one file of a LoRA or of a network, from a folder or from the hub."""
    assert w.file is not None
    if _is_local(w):
        return Path(w.source) / (w.subfolder or "") / w.file
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(w.source, w.file, subfolder=w.subfolder, revision=w.revision))


def _state(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(path)
    return found


def said(family: PipelineFamily, w: Weights, error: Exception) -> str:
    """One line on an error of the libraries that load."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return f"{place_of(w)}: these weights do not load on model {family.entry.name!r}: {reason}"
