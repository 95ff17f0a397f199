"""Training from another network: what is replaced is said, and what does not fit or would run code is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import UserError
from npnet import NPNet, NPNetConfig
from npnet.network import checkpoint
from npnet.training.train import run

from .small import SMALL, settings, train, weights

pytestmark = pytest.mark.usefixtures("one_thread", "no_figures")


def test_fine_tuning_replaces_the_text_layer_of_another_width_and_says_so(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(7)
    other = NPNet(NPNetConfig.small(prompt=(7, 64), **SMALL))
    other.save_pretrained(tmp_path / "other.safetensors", provenance={"model": "other"})
    said: list[str] = []
    start = tmp_path / "other.safetensors"
    reads: list[Path] = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (reads.append(path), read(path))[1])
    tiny = settings(pairs, network={}, epochs=1, learning_rate=1e-9)
    run(tiny, out=tmp_path / "out", start=start, device="cpu", say=said.append)
    assert reads.count(start) == 1, "a file of gigabytes is read and checked once"
    line = next(line for line in said if "replaced" in line)
    assert "text.linear.weight" in line
    assert "residual" not in line
    assert "svd" not in line
    before, after = weights(start), weights(tmp_path / "out/last.safetensors")
    assert after["text.linear.weight"].shape == (8, 24 * 128)
    for name in set(before) - {"text.linear.weight", "text.linear.bias"}:
        assert torch.allclose(before[name], after[name], atol=1e-6), name
    origin = checkpoint.read_provenance(tmp_path / "out/last.safetensors")["from"]
    assert (origin["file"], origin["model"]) == ("other.safetensors", "other")
    assert origin["digest"] == checkpoint.read_provenance(start)["digest"]


class _Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def test_a_checkpoint_that_would_execute_code_does_not_begin_a_training(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"unet_svd": _Runs()}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=r"bad\.pth: "):
        train(pairs, tmp_path / "out", start=tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()


def test_a_network_of_other_latents_is_not_fine_tuned(pairs: Path, tmp_path: Path) -> None:
    NPNet(NPNetConfig.small(latent=(4, 16, 16), **SMALL)).save_pretrained(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"for latents \(4, 16, 16\), and the pairs have \(4, 8, 8\)"):
        train(pairs, tmp_path / "out", start=tmp_path / "other.safetensors")
