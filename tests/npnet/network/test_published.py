"""The published checkpoints: what their names and shapes say, and that converting them changes no answer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from covering import FULL
from safetensors.torch import save_file
from small_npnets import refused, trained

from npnet import NPNet, NPNetConfig
from npnet.network.checkpoint import load, read, read_provenance
from npnet.network.convert import convert

NAMES = {"svd": "unet_svd", "residual": "unet_embedding", "text": "embeeding"}


def released(network: NPNet) -> dict[str, Any]:
    """The layout of sdxl.pth (PROTOCOL 1.6): state dicts under three names, and two tensors of shape (1) with grad."""
    content: dict[str, Any] = {name: {} for name in NAMES.values()}
    for key, value in network.state_dict().items():
        branch, _, rest = key.partition(".")
        if rest:
            content[NAMES[branch]][rest] = value.clone()
    scalars = {"alpha": torch.tensor([1e-4]), "beta": torch.tensor([-0.0189])}
    return {**content, **{k: v.requires_grad_() for k, v in scalars.items()}}


@contextmanager
def narrow_backbone() -> Iterator[None]:
    """Within, Swin-T is an eighth as wide, but for every week's: nothing here is of the backbone's size."""
    timm = pytest.importorskip("timm", reason="the published backbone is timm's")
    if FULL:
        yield
        return
    make = timm.create_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", lambda name, **options: make(name, embed_dim=12, **options))
        yield


@pytest.fixture
def narrow() -> Iterator[None]:
    with narrow_backbone():
        yield


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published file, but for the width of its backbone."""
    path = tmp_path_factory.mktemp("published") / "sdxl.pth"
    with narrow_backbone():
        torch.save(released(trained(NPNetConfig.sdxl())), path)
    return path


@pytest.mark.usefixtures("narrow")
def test_a_published_file_becomes_safetensors_and_answers_the_same(sdxl: Path, tmp_path: Path) -> None:
    published = NPNet.from_pretrained(sdxl)
    assert published.config == NPNetConfig.sdxl()
    assert published.alpha is not None
    assert published.alpha.item() == pytest.approx(1e-4)
    done = convert(sdxl, tmp_path / "folder", provenance={"model": "sdxl-base"})
    assert done.target == tmp_path / "folder" / "npnet.safetensors"
    assert done.config == NPNetConfig.sdxl()
    latents, prompt = torch.randn(1, 4, 128, 128), torch.randn(1, 77, 2048)
    again = NPNet.from_pretrained(tmp_path / "folder")
    assert torch.equal(again(latents, prompt), published(latents, prompt))
    provenance = read_provenance(done.target)
    assert provenance["digest"] == done.digest
    assert provenance["model"] == "sdxl-base"
    assert provenance["selected_by"] == ["hpsv2"]
    assert provenance["source"]["sha256"] == read_provenance(sdxl)["digest"]
    assert provenance["config"] == json.loads(NPNetConfig.sdxl().model_dump_json())
    assert f"{done.parameters:,}" in str(done)


@pytest.mark.parametrize("text", ["embeeding", "text_embedding"])
def test_flattened_safetensors_of_published_names_are_read(sdxl: Path, tmp_path: Path, text: str) -> None:
    flat: dict[str, torch.Tensor] = {}
    for key, value in torch.load(sdxl, weights_only=True).items():
        name = text if key == "embeeding" else key
        flat.update({f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value.detach()})
    save_file(flat, tmp_path / "SDXL.safetensors")
    mirrored, direct = read(tmp_path / "SDXL.safetensors"), read(sdxl)
    assert mirrored.config == direct.config == NPNetConfig.sdxl()
    assert mirrored.provenance["model"] == "sdxl"
    assert mirrored.tensors.keys() == direct.tensors.keys()
    assert all(torch.equal(mirrored.tensors[k], direct.tensors[k]) for k in direct.tensors)


@pytest.mark.usefixtures("narrow")
def test_the_configuration_follows_from_the_shapes(sdxl: Path, tmp_path: Path) -> None:
    """PROTOCOL 1.6: the text layer is (8, 157696) for SDXL and (8, 78848) for DiT."""
    content = torch.load(sdxl, weights_only=True)
    content["embeeding"]["linear.weight"] = torch.zeros(8, 78848)
    torch.save(content, tmp_path / "dit.pth")
    assert read(tmp_path / "dit.pth").config == NPNetConfig.dit()
    content["unet_svd"] = {k: v for k, v in content["unet_svd"].items() if not k.startswith("attention.")}
    torch.save(content, tmp_path / "plain.pth")
    assert read(tmp_path / "plain.pth").config == NPNetConfig.dit(attention=False)
    refused(tmp_path / "plain.pth", "trained without attention.*asks for a network with it", config=NPNetConfig.dit())
    assert NPNet.from_pretrained(tmp_path / "plain.pth", config=NPNetConfig.dit(), attention=False).config == (
        NPNetConfig.dit(attention=False)
    )
    content["embeeding"]["linear.weight"] = torch.zeros(8, 1000)
    torch.save(content, tmp_path / "odd.pth")
    refused(tmp_path / "odd.pth", "1000 inputs.*expected 77 times")


@pytest.mark.usefixtures("narrow")
def test_attention_that_nothing_trained_is_not_silent(sdxl: Path, tmp_path: Path) -> None:
    """The released training solver leaves attention out but saves its initial weights (PROTOCOL "Paper vs code", 2)."""
    content = torch.load(sdxl, weights_only=True)
    for part in (torch.nn.Linear(256, 768, bias=False), torch.nn.Linear(256, 256)):
        name = "qkv" if part.bias is None else "proj"
        content["unet_svd"].update({f"attention.{name}.{k}": v.detach() for k, v in part.named_parameters()})
    torch.save(content, tmp_path / "sdxl.pth")
    with pytest.warns(UserWarning, match="nothing ever trained"):
        assert NPNet.from_pretrained(tmp_path / "sdxl.pth").config.attention
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        untrained = read(tmp_path / "sdxl.pth")
        assert not load(untrained, attention=False).config.attention
        assert load(untrained, attention=True).config.attention
        NPNet.from_pretrained(sdxl)


def test_a_published_file_under_the_mirrors_name_is_read_by_its_content(sdxl: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "sdxl.safetensors"
    renamed.write_bytes(sdxl.read_bytes())
    assert read(renamed).config == read(sdxl).config


@pytest.mark.parametrize("shape", [(5,), (64, 0), (64, 250)])
def test_shapes_of_no_published_network_are_one_line_with_the_file(shape: tuple[int, ...], tmp_path: Path) -> None:
    file = tmp_path / "odd.safetensors"
    save_file({"unet_svd.mlp1.0.weight": torch.zeros(shape), "embeeding.linear.weight": torch.zeros(8, 77)}, file)
    refused(file, "a text layer of 77 inputs and (0|250) singular values belong to no published NPNet")
    save_file({"unet_svd.mlp1.0.weight": torch.zeros(64, 256), "embeeding.linear.weight": torch.zeros(shape)}, file)
    refused(file, "a text layer of (0|250) inputs and 256 singular values belong to no published NPNet")


@pytest.mark.usefixtures("narrow")
def test_weights_that_are_not_finite_are_named(sdxl: Path, tmp_path: Path) -> None:
    content = torch.load(sdxl, weights_only=True)
    torch.save({**content, "alpha": torch.tensor([float("nan")])}, tmp_path / "sdxl.pth")
    refused(tmp_path / "sdxl.pth", "NaN or infinity in alpha, so every answer would be; get it again")
