"""Saved networks in folders of their own, and a session whose denoiser must not be asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from small_npnets import trained

from bench import registry
from bench.models.base import Embeddings, Family
from bench.prompts.base import Prompt
from bench.sampling import noise
from bench.sampling.records import Item, Sampling
from bench.sampling.session import Session
from npnet import NPNet, NPNetConfig, method
from npnet.network import checkpoint

ENTRY = registry.get("models", "shapes-sdxl")

SAMPLING = Sampling("ddim", 50, 5.0, ENTRY.size)


def network(seed: int = 0, **config: Any) -> NPNet:
    """A network that moves its input."""
    return trained(NPNetConfig.small(**config), seed).requires_grad_(False)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of checkpoints with nothing in them, in the places of the shipped ones and the user's."""
    monkeypatch.setattr(method, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setenv("NPNET_WEIGHTS", str(tmp_path / "own"))
    (tmp_path / "shipped").mkdir()
    (tmp_path / "own").mkdir()
    return tmp_path


def saved(path: Path, seed: int = 0, selected_by: tuple[str, ...] = ("shapes-aesthetic",), **more: Any) -> Path:
    return checkpoint.save(network(seed), path, provenance={"selected_by": list(selected_by), **more})


class Silent(Family):
    """A family without networks: its predictions must not be asked for."""

    scheduler_config: ClassVar[dict[str, Any]] = {"beta_schedule": "scaled_linear"}  # type: ignore[misc]

    def __init__(self, device: str = "cpu"):
        super().__init__(ENTRY, device, "fp32")

    @property
    def latent_dtype(self) -> torch.dtype:
        return torch.float32

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        raise AssertionError("nothing is encoded")

    def encode_negative(self, prompt: str) -> Embeddings:
        raise AssertionError("nothing is encoded")

    def network(self, x: torch.Tensor, t: Any, embeds: Embeddings) -> torch.Tensor:
        raise AssertionError("the method adds no denoiser calls")

    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nothing is decoded")

    def modules(self) -> dict[str, Any]:
        return {}


def session_and_noise(device: str = "cpu") -> tuple[Session, torch.Tensor]:
    """Two latents, and a session whose predictions must not be asked for."""
    cond = {"prompt_embeds": torch.randn((2, 24, 128), generator=torch.Generator().manual_seed(1))}
    latents = torch.stack([noise.draw("a ring", s, (4, 8, 8)) for s in (0, 1)])
    items = [Item(Prompt(0, "a ring"), seed) for seed in (0, 1)]
    return Session(Silent(device), items, SAMPLING, cond=cond, uncond=cond), latents
