"""Checkpoints of our own: what is written comes back, what does not fit is named, and the three-line use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_npnets import SMALL, refused, trained

from bench import registry
from bench.errors import UserError
from npnet import NPNet, NPNetConfig
from npnet.network.checkpoint import find, read_provenance
from npnet.network.convert import convert

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))

PROMPT = torch.randn(2, 24, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return trained().save_pretrained(tmp_path / "ours", provenance={"selected_by": ["shapes-preference"], "pairs": 7})


def test_a_saved_network_comes_back_whole(ours: Path) -> None:
    network, back = trained(), NPNet.from_pretrained(ours)
    assert torch.equal(back(X, PROMPT), network(X, PROMPT))
    assert back.config == SMALL
    assert back.provenance["pairs"] == 7
    again = back.save_pretrained(ours.parent / "again.safetensors")
    assert read_provenance(again)["digest"] == read_provenance(ours)["digest"]
    assert read_provenance(again)["selected_by"] == ["shapes-preference"]
    assert {p.name for p in ours.parent.iterdir()} == {ours.name, again.name}, "nothing half-written is left"


def test_the_small_network_fits_three_megabytes(tmp_path: Path) -> None:
    for text in ("modulation", "cross_attention"):
        file = NPNet(NPNetConfig.small(text=text)).save_pretrained(tmp_path / f"{text}.safetensors")
        assert file.stat().st_size <= 3e6


def test_the_digest_is_over_names_types_shapes_and_bytes(ours: Path) -> None:
    """Written out here once more, from the tensors themselves."""
    import hashlib

    h = hashlib.sha256()
    for name, tensor in sorted(load_file(ours).items()):
        h.update(json.dumps([name, "F32", list(tensor.shape)]).encode() + b"\0" + tensor.numpy().tobytes())
    assert read_provenance(ours)["digest"] == h.hexdigest()


def test_provenance_is_read_without_torch(ours: Path) -> None:
    script = (
        "import json, sys; from npnet.network.checkpoint import read_provenance; found = read_provenance(sys.argv[1]);"
        "print(json.dumps([found, 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(ours)], capture_output=True, text=True, check=True)
    provenance, torch_loaded = json.loads(done.stdout)
    assert not torch_loaded
    assert provenance["selected_by"] == ["shapes-preference"]
    assert provenance["pairs"] == 7
    assert provenance["format"] == "npnet"
    assert {"config", "digest", "model", "teacher", "git", "file"} <= provenance.keys()


def test_metadata_of_another_version_is_refused(ours: Path) -> None:
    with safe_open(ours, framework="pt") as opened:
        metadata = dict(opened.metadata())
    for change, said in (
        ({"npnet": "99"}, "format 99.*reads 1"),
        ({"config": "{}{"}, "metadata cannot be read"),
        ({"config": '{"svd": true, "novel": 1}'}, "metadata cannot be read"),
        ({"config": '{"text": "cross_attention", "residual": false}'}, "cannot be built.*upgrade"),
        ({"digest": "0" * 64}, "corrupt"),
    ):
        save_file(load_file(ours), ours.parent / "other.safetensors", {**metadata, **change})
        refused(ours.parent / "other.safetensors", said)


def test_a_checkpoint_that_does_not_fit_names_keys_and_shapes(ours: Path) -> None:
    refused(ours, r"missing: residual\.blocks\.1\..* and \d+ more", config=SMALL.model_copy(update={"depth": 2}))
    refused(
        ours,
        r"unexpected: alpha, text\.linear\.bias, text\.linear\.weight;",
        config=NPNetConfig.small(width=16, depth=1, text="none"),
    )
    refused(
        ours,
        r"other shapes: text\.linear\.weight \(8, 3072\) for \(8, 1536\)",
        config=NPNetConfig.small(width=16, depth=1, prompt=(24, 64)),
    )


def test_attention_differs_only_on_the_callers_word(tmp_path: Path) -> None:
    without = SMALL.model_copy(update={"attention": False})
    file = trained(without).save_pretrained(tmp_path / "without.safetensors")
    assert NPNet.from_pretrained(file).config == without
    refused(file, "trained without attention.*say attention=True when loading", config=SMALL)
    fresh = NPNet.from_pretrained(file, attention=True)
    assert fresh.config.attention
    kept = trained(without).state_dict()
    assert all(torch.equal(kept[k], v) for k, v in fresh.state_dict().items() if k in kept)
    file = trained().save_pretrained(tmp_path / "with.safetensors")
    refused(file, "trained with attention.*a network without it", config=without)
    assert not NPNet.from_pretrained(file, attention=False).config.attention


@pytest.mark.parametrize("text", ["modulation", "cross_attention"])
def test_another_prompt_width_gets_a_fresh_text_layer(text: str, tmp_path: Path) -> None:
    """The paper's transfer to Hunyuan-DiT: all weights are kept but the text layer's."""
    network = trained(NPNetConfig.small(width=16, depth=1, text=text))
    file = network.save_pretrained(tmp_path)
    other = NPNet.from_pretrained(file, prompt=(20, 64))
    assert other.config.prompt == (20, 64)
    assert other(X, torch.randn(2, 20, 64)).shape == X.shape
    fresh = ("text.", "residual.prompt.")
    kept = {k: v for k, v in other.state_dict().items() if not k.startswith(fresh)}
    assert kept
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in kept.items())


def test_folders_and_names(ours: Path, tmp_path: Path) -> None:
    assert find(ours.parent) == ours
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no checkpoint; expected npnet.safetensors")
    refused(tmp_path / "nowhere.pth", "no such checkpoint")
    (tmp_path / "two").mkdir()
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / "two" / name).write_bytes(b"")
    refused(tmp_path / "two", "a.safetensors, b.safetensors; name one")
    with pytest.raises(UserError, match="same file"):
        convert(ours, ours.parent)
    with pytest.raises(UserError, match="cannot be written"):
        trained().save_pretrained(ours / "below" / "a.safetensors")


def test_convert_does_not_write_safetensors_into_a_folder_that_looks_like_a_pth(ours: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"out\.pth: convert writes safetensors; name a \.safetensors file, or a folder"
    ):
        convert(ours, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_a_network_that_diverged_is_not_saved(tmp_path: Path) -> None:
    network = trained()
    assert network.beta is not None
    with torch.no_grad():
        network.beta.fill_(float("nan"))
    with pytest.raises(UserError, match="beta holds NaN"):
        network.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_loaded_network_is_ready_to_use_and_can_be_trained(ours: Path) -> None:
    network = NPNet.from_pretrained(ours)
    assert not network.training
    assert not network(X, PROMPT).requires_grad
    latents = X.clone().requires_grad_()
    network(latents, PROMPT, svd=None).sum().backward()
    assert latents.grad is not None
    assert torch.isfinite(latents.grad).all()
    tuned = NPNet.from_pretrained(ours, trainable=True)
    assert tuned.training
    assert all(p.requires_grad for p in tuned.parameters())


def test_three_lines_with_a_plain_diffusers_pipeline(tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(registry.get("models", "shapes-sdxl").folder)
    pipe.set_progress_bar_config(disable=True)
    NPNet(NPNetConfig.small()).save_pretrained(tmp_path)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    prompt = ["a photo of a red circle", "a photo of a blue square"]
    prompt_embeds = pipe.encode_prompt(prompt, device="cpu", num_images_per_prompt=1)[0]

    npnet = NPNet.from_pretrained(tmp_path)
    golden = npnet(latents, prompt_embeds)
    images = pipe(prompt, latents=golden, num_inference_steps=2, output_type="np").images

    assert images.shape == (2, 64, 64, 3)
    plain = pipe(prompt, latents=latents, num_inference_steps=2, output_type="np").images
    assert (images == plain).all(), "an untrained network changes nothing"
