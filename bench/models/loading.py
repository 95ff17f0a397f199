"""How a model is loaded where it is not plainly: another size, a variant of its files, what saves memory or time."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.models.base import ModelEntry

Offload = Literal["none", "model", "sequential"]
Encoders = Literal["leave", "stay"]
_MOVES = ("offload", "text_encoders")
"""Options that say where networks wait, and change no number."""


@dataclass(frozen=True)
class Loading:
    """diffusers' options by diffusers' names. All of them but `offload` and `text_encoders` may change pixels."""

    variant: str | None = None
    """Which files of weights: `fp16` reads `*.fp16.safetensors`."""
    offload: Offload = "none"
    """`model`: networks wait in host memory and are moved to the GPU as a whole when called; `sequential`: layer by
    layer, which is slow and takes least memory. The same kernels compute the same numbers."""
    text_encoders: Encoders = "leave"
    """On a GPU, `leave`: prompts are encoded first, then the text encoders wait in host memory; `stay`: they stay."""
    vae_tiling: bool = False
    """Decode in overlapping tiles where images are larger than one: less memory, seams may be seen."""
    attention_slicing: bool = False
    """Attention head by head: less memory, slower."""
    compile: bool = False
    """`torch.compile` of the denoiser: minutes at first, faster then."""
    channels_last: bool = False
    """Convolutions on channels-last tensors, faster on some GPUs."""

    def identity(self) -> str:
        """What of it may decide a pixel, as JSON; empty where nothing does."""
        plain = asdict(Loading())
        differing = {k: v for k, v in asdict(self).items() if k not in _MOVES and v != plain[k]}
        return json.dumps(differing, sort_keys=True) if differing else ""

    def prepared(self, network: Any) -> Any:
        """A denoiser, whatever weights it wears, as these options have it."""
        import torch

        if self.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if self.compile:
            # Its `forward` alone: the hooks that count its calls stay outside of what is compiled.
            network.forward = torch.compile(network.forward)
        return network


def compile_seconds() -> float:
    """Seconds that `torch.compile` has taken in this process so far; 0 where it was never asked for."""
    if "torch._dynamo.utils" not in sys.modules:
        return 0.0
    spent: dict[str, float] = sys.modules["torch._dynamo.utils"].calculate_time_spent()
    return float(spent.get("entire_frame_compile", 0.0))


OPTIONS = tuple(f.name for f in fields(Loading))


def place(pipeline: Any, entry: ModelEntry, device: str) -> Any:
    """A loaded pipeline on a device, with its entry's options; UserError where one cannot be had."""
    options = entry.loading
    if options.offload != "none" and device == "cpu":
        raise UserError(
            f"model {entry.name!r}: offload {options.offload} moves networks between host memory and a GPU, and the "
            "device is cpu; leave it out, or give --device cuda"
        )
    if options.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif options.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline = pipeline.to(device)
    if options.vae_tiling:
        pipeline.vae.enable_tiling()
    if options.attention_slicing:
        pipeline.enable_attention_slicing()
    return pipeline


def resized(entry: ModelEntry, size: tuple[int, int]) -> ModelEntry:
    """The model with images of another (height, width); UserError unless its latents have that size too."""
    channels, *sides = entry.latent
    factors = [pixels // side for pixels, side in zip(entry.size, sides, strict=True)]
    patch = entry.family().patch
    for pixels, factor in zip(size, factors, strict=True):
        multiple = factor * patch
        if pixels % multiple or pixels < multiple:
            why = "the factor of its autoencoder" + (f" times its denoiser's patch of {patch}" if patch > 1 else "")
            raise UserError(
                f"model {entry.name!r}: size {size[0]}x{size[1]} is no multiple of {multiple}, {why}; its own size is "
                f"{entry.size[0]}x{entry.size[1]}"
            )
    height, width = (pixels // factor for pixels, factor in zip(size, factors, strict=True))
    # About: attention grows faster than the number of pixels, all else as it does.
    share = size[0] * size[1] / (entry.size[0] * entry.size[1])
    call_ms = None if entry.call_ms is None else entry.call_ms * share
    return replace(entry, size=size, latent=(channels, height, width), call_ms=call_ms)
