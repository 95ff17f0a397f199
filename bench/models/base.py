"""What a model is: a catalogue entry without torch, and the family that loads it, which alone knows diffusers."""

from __future__ import annotations

import hashlib
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import UserError
from bench.models.loading import Loading, resized
from bench.needs.base import Need, Package
from bench.needs.hub import HubPipeline

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.models.controlled import Residuals
    from bench.models.parking import Parking
    from bench.sampling.records import Weights

Embeddings = dict[str, "torch.Tensor"]
"""Prompt tensors by the pipeline's own argument names, each with a leading batch dimension."""
_DECIDE = (".json", ".safetensors", ".bin", ".txt", ".model")
"""Ends of the files in a model folder that decide what it does: settings, weights, vocabularies, SentencePiece."""
TORCH_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""torch's names of the precisions."""


@dataclass(frozen=True)
class ModelEntry:
    """A catalogue row: where a model lies and what it is run with unless a suite says otherwise."""

    name: str
    adapter: str
    """`module:Class` of the adapter for its pipeline family."""
    source: str
    """A hub id, or a folder."""
    revision: str | None
    steps: int
    guidance: float
    size: tuple[int, int]
    """Height and width in pixels."""
    latent: tuple[int, int, int]
    twin_of: tuple[str, ...] = ()
    call_ms: float | None = None
    """Milliseconds of one guided denoiser call for one image in a batch, for the plan's estimate of time."""
    call_ms_on: str = ""
    """The machine on which `call_ms` was measured."""
    compile_s: float | None = None
    """Seconds that `torch.compile` of its denoiser takes, without anything kept of earlier runs."""
    dtype: str | None = None
    """Precision of its networks, before a suite's: fp32, fp16 or bf16."""
    loading: Loading = field(default_factory=Loading)
    """How it is loaded."""
    about_bytes: int | None = None
    """About what is downloaded of it: its networks' parameters in the precision that they are published in."""

    @property
    def folder(self) -> Path | None:
        path = Path(self.source)
        return path if path.is_absolute() else None

    def digest(self) -> str:
        """What decides the pixels: the folder's content, or the pinned hub id and revision; and how it is loaded."""
        loading = self.loading.identity()
        suffix = f":{loading}" if loading else ""
        if self.folder is None:
            return f"{self.source}@{self.revision}{suffix}"
        return folder_digest(self.folder) + suffix

    def configured(
        self, *, size: tuple[int, int] | None = None, dtype: str | None = None, **options: Any
    ) -> ModelEntry:
        """This model with other images (height, width), precision, or options of `Loading`; UserError as `resized`."""
        found = self if size is None else resized(self, size)
        return replace(found, dtype=dtype or self.dtype, loading=replace(self.loading, **options))

    def family(self) -> type[Family]:
        """The class that loads it; it is imported without torch."""
        return load_family(self.adapter)

    def needs(self) -> tuple[Need, ...]:
        """What must be on this machine before it is loaded, and where that comes from."""
        of = f"model {self.name}"
        packages = tuple(Need(of, one.module, one) for one in self.family().packages)
        if self.folder is not None:
            return packages
        source = HubPipeline(self.source, str(self.revision), self.loading.variant)
        return (Need(of, self.source, source, self.about_bytes), *packages)

    def load(self, device: str, dtype: str | None = None) -> Family:
        """The model, ready on a device; a missing or broken file is a UserError that names it.

        `dtype` is fp32, fp16 or bf16; None: fp32 on a CPU, fp16 on a GPU.
        """
        return self.family()(self, device, dtype or default_dtype(device))


def load_family(adapter: str) -> type[Family]:
    """The class at `module:Class`."""
    module, name = adapter.split(":")
    found: type[Family] = getattr(importlib.import_module(module), name)
    return found


def default_dtype(device: str) -> str:
    """The precision of a model's networks where none is asked for."""
    return "fp16" if device.startswith("cuda") else "fp32"


def folder_digest(folder: Path) -> str:
    """16 hex digits over the names and contents of all files of a model folder, cards left out."""
    if not (folder / "model_index.json").is_file() and not (folder / "config.json").is_file():
        raise UserError(
            f"{folder}: no model_index.json or config.json there; expected a diffusers or transformers folder"
        )
    h = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in _DECIDE):
        if path.name == "card.json":
            continue
        h.update(path.relative_to(folder).as_posix().encode() + b"\0")
        h.update(hashlib.sha256(path.read_bytes()).digest())
    return h.hexdigest()[:16]


def check_folder(folder: Path) -> None:
    """Compare a folder with the digests in its card, if it has one, before anything is loaded from it."""
    card = folder / "card.json"
    if not card.is_file():
        return
    try:
        files: dict[str, str] = dict(json.loads(card.read_text())["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{card}: not a readable card ({error}); reinstall or train the model again") from error
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: missing; {folder.name}'s card lists it; reinstall or train it again")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise UserError(
                f"{path}: corrupt (sha256 {found[:12]}, expected {expected[:12]}); reinstall or train it again"
            )


def quiet_hub_libraries() -> None:
    """Keep diffusers' and transformers' loading bars and advice off the terminal; errors still come through."""
    import logging

    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
        library.set_verbosity(logging.ERROR)


class Family(ABC):
    """A loaded model. Latents are (B, C, h, w); images are uint8 (B, H, W, 3)."""

    reads_attention: ClassVar[bool] = False
    """Whether `attention` finds layers; known without loading, so that a plan can refuse."""
    packages: ClassVar[tuple[Package, ...]] = ()
    """Python packages that it needs besides those that the harness does."""
    patch: ClassVar[int] = 1
    """Latents' sides are multiples of it."""
    sets_begin_index: ClassVar[bool] = False
    """Whether the pipeline tells its scheduler that it begins at the first step."""

    entry: ModelEntry
    device: str
    scheduler_config: Mapping[str, Any]
    """The scheduler's settings as the model came with them."""

    def __init__(self, entry: ModelEntry, device: str, dtype: str):
        self.entry, self.device, self.dtype = entry, device, dtype

    @property
    @abstractmethod
    def latent_dtype(self) -> torch.dtype:
        """The precision that the loop keeps latents in."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the text that cross-attention reads; None where there is none."""
        return None

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Embeddings:
        """Embeddings of prompts, as the pipeline's own `encode_prompt` makes them."""

    @abstractmethod
    def encode_negative(self, prompt: str) -> Embeddings:
        """Embeddings (batch of one) that guidance steers away from; an empty prompt is the pipeline's own default."""

    @abstractmethod
    def network(self, x: torch.Tensor, t: Any, embeds: Embeddings) -> torch.Tensor:
        """What the denoiser says of x (B, C, h, w) at timestep t, noise or velocity: the pipeline's own call.

        x is what the scheduler's `scale_model_input` gives, which has unit variance.
        """

    @abstractmethod
    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """Final latents to images (B, 3, H, W), fp32 in [0, 1]; where gradients are on, they flow to the latents."""

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Final latents to images."""
        return to_uint8(self.pixels(latents))

    @property
    def parking(self) -> Parking | None:
        """Where its text encoders wait while it samples; None where they stay on the device."""
        return None

    @abstractmethod
    def modules(self) -> dict[str, Any]:
        """The model's networks by role: `denoiser`, `vae`, and text encoders by name."""

    def attention(self, where: str) -> list[tuple[int, Any]] | None:
        """Attention layers of the denoiser as (side of its maps, module); None where there are none to read."""
        return None

    def wear(self, weights: Sequence[Weights]) -> None:
        """Put these weights on the denoiser, and nothing else; none of them is the model's own."""
        if weights:
            raise UserError(f"model {self.entry.name!r}: its family {type(self).__name__} takes no other weights")


class ControlledFamily(Family):
    """A family whose denoiser takes residuals, as those of a ControlNet; of any other a plan refuses what adds them."""

    @abstractmethod
    def control(self, weights: Weights) -> Any:
        """The ControlNet of these weights, loaded when it is first asked for; UserError where it does not fit."""

    @abstractmethod
    def residuals(
        self, weights: Weights, x: torch.Tensor, t: Any, embeds: Embeddings, images: torch.Tensor, scale: float
    ) -> Residuals:
        """What a ControlNet says of x at t and of control images (B, 3, H, W) in [0, 1], times `scale`; B is x's."""

    @abstractmethod
    def controlled(self, x: torch.Tensor, t: Any, embeds: Embeddings, residuals: Residuals) -> torch.Tensor:
        """`network` with residuals added within the denoiser."""


def with_residuals(family: Family) -> ControlledFamily:
    """A family that takes residuals, as such; UserError for any other."""
    if not isinstance(family, ControlledFamily):
        raise UserError(no_residuals(family.entry))
    return family


def no_residuals(entry: ModelEntry) -> str:
    """What is said of a model whose family takes none."""
    return (
        f"model {entry.name!r} takes no residuals within its denoiser, such as a ControlNet's (family "
        f"{entry.family().__name__}); give a model with a UNet"
    )


def to_uint8(pixels: torch.Tensor) -> np.ndarray:
    """(B, 3, H, W) in [0, 1] to (B, H, W, 3) uint8."""
    found: np.ndarray = (pixels * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return found
