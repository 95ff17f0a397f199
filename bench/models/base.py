"""Model and Denoiser: all that methods and stages see of a diffusers pipeline."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch

Embeddings = dict[str, "torch.Tensor"]
"""Prompt tensors by the pipeline's own argument names, each with a leading batch dimension."""
_DECIDE = (".json", ".safetensors", ".txt", ".model")
"""Ends of the files in a model folder that decide what it does: settings, weights, vocabularies, SentencePiece."""


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
    scheduler: str = "ddim"
    twin_of: tuple[str, ...] = ()
    call_ms: float | None = None
    """Milliseconds of one guided denoiser call for one image in a batch, for the plan's estimate of time."""
    call_ms_on: str = ""
    """The machine on which `call_ms` was measured."""

    @property
    def folder(self) -> Path | None:
        path = Path(self.source)
        return path if path.is_absolute() else None

    def digest(self) -> str:
        """What decides the pixels: the folder's content, or the pinned hub id and revision."""
        if self.folder is None:
            return f"{self.source}@{self.revision}"
        return folder_digest(self.folder)

    def load(self, device: str) -> Model:
        """The model, ready on a device; a missing or broken file is a UserError that names it."""
        import importlib

        module, name = self.adapter.split(":")
        model: Model = getattr(importlib.import_module(module), name)(self, device)
        return model


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


@dataclass
class Denoiser:
    """What a noise method may use of a model at one sampler, step count, guidance and batch of prompts.

    `predict_both(x, t)` gives the unconditional and conditional noise predictions of unit-scale
    (variance-preserving) latents x = alpha x_0 + sigma e; `predict_one(x, t)` the conditional one alone.
    """

    timesteps: Sequence[float]
    """Distinct timesteps of the sampler, falling."""
    guidance: float
    alphas_cumprod: Sequence[float]
    predict_both: Callable[[torch.Tensor, float], tuple[torch.Tensor, torch.Tensor]]
    predict_one: Callable[[torch.Tensor, float], torch.Tensor]
    calls: int = field(default=0)
    """Denoiser calls so far; guidance doubles the batch, not the calls."""
    cond: Embeddings = field(default_factory=dict)
    """The batch's prompt tensors that predictions follow, such as `prompt_embeds` (B, T, W)."""

    def alpha(self, t: float) -> float:
        """sqrt of the cumulative alpha at timestep t; fractional timesteps are rounded."""
        return float(self.alphas_cumprod[self._index(t)]) ** 0.5

    def sigma(self, t: float) -> float:
        """sqrt(1 - cumulative alpha) at timestep t."""
        return (1.0 - float(self.alphas_cumprod[self._index(t)])) ** 0.5

    def _index(self, t: float) -> int:
        i = round(float(t))
        if not 0 <= i < len(self.alphas_cumprod):
            raise ValueError(f"timestep {t} is outside the model's [0, {len(self.alphas_cumprod) - 1}]")
        return i

    def predict(self, x: torch.Tensor, t: float, guidance: float) -> torch.Tensor:
        """Guided noise prediction u + g (c - u) in diffusers' convention; g = 1 needs the conditional half only."""
        self.calls += 1
        if guidance == 1.0:
            return self.predict_one(x, t)
        u, c = self.predict_both(x, t)
        return u + guidance * (c - u)


def quiet_hub_libraries() -> None:
    """Keep diffusers' and transformers' loading bars and advice off the terminal; errors still come through."""
    import logging

    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
        library.set_verbosity(logging.ERROR)


@dataclass
class Remembered:
    """What `Model.remember_first` counts: calls that the network computed, and calls answered from memory."""

    calls: int = 0
    reused: int = 0


class Model(ABC):
    """A loaded pipeline. Latents are unit-variance fp32 (B, C, h, w); images are uint8 (B, H, W, 3)."""

    entry: ModelEntry
    device: str
    pipeline: Any

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Embeddings:
        """Embeddings of prompts, as the pipeline's own `encode_prompt` makes them."""

    @abstractmethod
    def encode_negative(self, prompt: str) -> Embeddings:
        """Embeddings (batch of one) that guidance steers away from; an empty prompt is the pipeline's own default."""

    @abstractmethod
    def denoiser(self, scheduler: Any, steps: int, guidance: float, cond: Embeddings, uncond: Embeddings) -> Denoiser:
        """A fresh call-counting denoiser for a batch."""

    @abstractmethod
    def sample(
        self,
        latents: torch.Tensor,
        scheduler: Any,
        *,
        steps: int,
        guidance: float,
        cond: Embeddings,
        uncond: Embeddings,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        """Run the pipeline's own loop from `latents`; returns the final latents."""

    @abstractmethod
    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """Final latents to images (B, 3, H, W), fp32 in [0, 1]; where gradients are on, they flow to the latents."""

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Final latents to images."""
        found: np.ndarray = (self.pixels(latents) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return found

    @abstractmethod
    def modules(self) -> dict[str, Any]:
        """The networks whose time counts as model time: role -> module or bound method's owner."""

    @contextmanager
    def remember_first(self) -> Iterator[Remembered]:
        """Within, a call of the denoiser network with exactly the first call's inputs gets the first call's output.

        Two arms of one batch that begin with the same guided step so compute it once. The inputs must agree bit by
        bit (tensors, timestep, embeddings), hence so does the answer; a sampler that scales its first input
        otherwise is computed anew.
        """
        import inspect

        import torch

        network = self.modules()["denoiser"]
        own, forward = "forward" in vars(network), network.forward
        signature = inspect.signature(forward)
        record = Remembered()
        first: list[Any] = []

        def remembering(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            inputs = {name: value for name, value in given.items() if value is not None}
            # What was remembered has no graph, so where a gradient is recorded every call is computed.
            if first and not torch.is_grad_enabled() and _same(inputs, first[0]):
                record.reused += 1
                return _copied(first[1])
            kept = None if first else _copied(inputs)
            record.calls += 1
            output = forward(*args, **kwargs)
            if kept is not None:
                first.extend((kept, _copied(output)))
            return output

        network.forward = remembering
        try:
            yield record
        finally:
            if own:
                network.forward = forward
            else:
                del network.forward


def _same(a: Any, b: Any) -> bool:
    """Whether two arguments are equal to the last bit; small ones are compared before large ones."""
    import torch

    if isinstance(a, torch.Tensor):
        return (
            isinstance(b, torch.Tensor)
            and (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)
            and torch.equal(a, b)
        )
    if isinstance(a, Mapping):
        if not isinstance(b, Mapping) or a.keys() != b.keys():
            return False
        return all(_same(a[k], b[k]) for k in sorted(a, key=lambda k: getattr(a[k], "nbytes", 0)))
    if isinstance(a, tuple | list):
        return isinstance(b, type(a)) and len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _copied(value: Any) -> Any:
    """The same with every tensor in memory of its own, so that nobody changes what is remembered."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_copied(v) for v in value)
    return value
