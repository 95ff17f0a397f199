"""Weights that are refused, in one line that says what they are and what to give."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_unet
import torch

from bench import registry
from bench.errors import UserError
from bench.job import preflight
from bench.methods.dpo import DPO
from bench.models.base import Family

from .wearing import latents, planned, refused, save_lora

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]


def test_places_that_hold_no_weights_are_refused(worn: Path, tmp_path: Path) -> None:
    entry = tiny_unet.entry(worn / "own")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.safetensors").write_bytes(b"no header at all")
    wrong = {
        str(tmp_path / "nowhere"): "no such folder or file",
        "nowhere": "no such place",
        "someone/net": "no such place",
        "someone/net@main": "'main' is no commit of 40 hex digits",
        str(tmp_path / "empty"): "no weights there",
        str(tmp_path / "broken.safetensors"): "not a readable .safetensors file",
    }
    for reference, match in wrong.items():
        refused(lambda given=reference: DPO(weights=given).for_model(entry), match)  # type: ignore[misc]
    refused(lambda: DPO().for_model(entry), "no weights are known for model 'own'; give weights")
    refused(lambda: DPO(weights=str(worn / "other"), scale=0.5).for_model(entry), "scale 0.5 is for a LoRA")


def test_weights_of_another_architecture_are_refused(worn: Path, own: Family) -> None:
    for place in ("sd", "sd/unet/diffusion_pytorch_model.safetensors"):
        refused(
            lambda given=place: latents(own, DPO(weights=str(worn / given))),  # type: ignore[misc]
            "another architecture than model 'own' has .* here",
        )
    save_lora(worn / "sd", worn / "sd-lora")
    refused(lambda: latents(own, DPO(weights=str(worn / "sd-lora"))), "another architecture than model 'own' has")


def test_a_lora_that_fits_nothing_is_refused(worn: Path, own: Family, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(worn / "lora" / "pytorch_lora_weights.safetensors")
    elsewhere = {f"unet.elsewhere.lora_{k}.weight": torch.ones(2, 2) for k in "AB"}
    renamed = {
        "nothing": {k.replace("down_blocks", "elsewhere").replace("up_blocks", "elsewhere").replace("mid_block", "e"): v
                    for k, v in state.items()},
        "text": {k.replace("unet.", "text_encoder."): v for k, v in state.items()},
        "both": {**state, **{k.replace("unet.", "text_encoder."): v for k, v in state.items()}},
        "partly": {**state, **elsewhere},
    }  # fmt: skip
    matches = {
        "nothing": "none of its updates is for a layer of model 'own'",
        "text": "none of its updates is for the unet",
        "both": "it changes text_encoder too",
        "partly": "not all of its updates are for a layer",
    }
    for name, tensors in renamed.items():
        save_file({k: v.clone() for k, v in tensors.items()}, tmp_path / f"{name}.safetensors")
        method = DPO(weights=str(tmp_path / f"{name}.safetensors"))
        refused(lambda m=method: latents(own, m), matches[name])  # type: ignore[misc]
    latents(own)


def test_a_lora_without_peft_is_reported_before_anything_is_made(worn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # how Python marks a module that cannot be imported
    needed = {name: preflight.missing(preflight.needs(planned(worn / "own", f"{{use: dpo, weights: '{worn / name}'}}")))
              for name in ("lora", "other")}  # fmt: skip
    (need,) = needed["lora"]
    assert (need.of, need.source.command) == ("method dpo", "pip install peft")
    assert needed["other"] == []
    with pytest.raises(UserError, match=r"method dpo needs peft \(pip install peft\)"):
        preflight.check([need], suite="mine.yaml")


def test_a_method_that_met_no_model_says_so() -> None:
    refused(lambda: DPO().adapters(), "no weights were chosen")
    entry = registry.get("models", "sdxl")
    (weights,) = DPO().for_model(entry).adapters()
    assert weights.source == "mhdang/dpo-sdxl-text2image-v1"
    assert replace(weights, source="elsewhere").identity() == weights.identity()
