"""Checkpoints: the published files and our own, what is refused and with which line, and the three-line use."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bench import registry
from bench.errors import UserError
from npnet import NPNet, NPNetConfig
from npnet.network.checkpoint import find, load, read, read_provenance
from npnet.network.convert import convert

SMALL = NPNetConfig.small(width=16, depth=1)
X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
PROMPT = torch.randn(2, 24, 128, generator=torch.Generator().manual_seed(1))
NAMES = {"svd": "unet_svd", "residual": "unet_embedding", "text": "embeeding"}


def trained(config: NPNetConfig = SMALL) -> NPNet:
    """As after training: every weight is away from its start."""
    torch.manual_seed(0)
    network = NPNet(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def released(network: NPNet) -> dict[str, Any]:
    """The layout of sdxl.pth (PROTOCOL 1.6): state dicts under three names, and two tensors of shape (1) with grad."""
    content: dict[str, Any] = {name: {} for name in NAMES.values()}
    for key, value in network.state_dict().items():
        branch, _, rest = key.partition(".")
        if rest:
            content[NAMES[branch]][rest] = value.clone()
    scalars = {"alpha": torch.tensor([1e-4]), "beta": torch.tensor([-0.0189])}
    return {**content, **{k: v.requires_grad_() for k, v in scalars.items()}}


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("timm", reason="the published backbone is timm's")
    path = tmp_path_factory.mktemp("published") / "sdxl.pth"
    torch.save(released(trained(NPNetConfig.sdxl())), path)
    return path


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return trained().save_pretrained(tmp_path / "ours", provenance={"selected_by": ["shapes-preference"], "pairs": 7})


def refused(path: Path, said: str, **options: Any) -> None:
    with pytest.raises(UserError, match=said) as caught:
        NPNet.from_pretrained(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# The published files.


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


class Marker:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path: Path) -> None:
    marker, file = tmp_path / "executed", tmp_path / "sdxl.pth"
    pickle.loads(pickle.dumps(Marker(marker)))
    assert marker.exists(), "the trap works where it is let"
    marker.unlink()
    torch.save({"unet_svd": {}, "alpha": Marker(marker)}, file)
    refused(file, "execute code.*nothing was executed")
    file.write_bytes(pickle.dumps(Marker(marker)))
    refused(file, "execute code.*nothing was executed")
    file.write_bytes(b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR.")
    refused(file, "nothing was executed|truncated|broken")
    assert not marker.exists()


def test_what_is_said_of_a_pickle_with_code_is_one_line_whatever_its_name(tmp_path: Path) -> None:
    """torch warns about pickles of other protocols, and takes a file for safetensors by its name."""
    for name in ("sdxl.pth", "sdxl.safetensors"):
        file = tmp_path / name
        file.write_bytes(pickle.dumps(Marker(tmp_path / "executed"), protocol=4))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            refused(file, "execute code.*nothing was executed")
        torch.save({"alpha": Marker(tmp_path / "executed")}, file)
        refused(file, "execute code.*nothing was executed")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content",
    ["<html>Not found</html>", "Access denied", '{"error": "gone"}', "version https://git-lfs.github.com/spec/v1\n"],
)
def test_what_a_failed_download_left_is_not_said_to_hold_code(content: str, tmp_path: Path) -> None:
    file = tmp_path / "sdxl.pth"
    file.write_text(content)
    refused(file, "not a PyTorch file; expected a published NPNet checkpoint: get it again")


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


def test_weights_that_are_not_finite_are_named(sdxl: Path, tmp_path: Path) -> None:
    content = torch.load(sdxl, weights_only=True)
    torch.save({**content, "alpha": torch.tensor([float("nan")])}, tmp_path / "sdxl.pth")
    refused(tmp_path / "sdxl.pth", "NaN or infinity in alpha, so every answer would be; get it again")


def test_convert_does_not_write_safetensors_into_a_folder_that_looks_like_a_pth(ours: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"out\.pth: convert writes safetensors; name a \.safetensors file, or a folder"
    ):
        convert(ours, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_a_pth_of_something_else_names_the_keys(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save({"state_dict": {}, "epoch": 3}, file)
    refused(file, "expected the keys unet_svd, unet_embedding, embeeding, alpha, beta, found epoch, state_dict")
    torch.save(torch.zeros(3), file)
    refused(file, "found Tensor")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    refused(tmp_path / "other.safetensors", "not a published NPNet")


# Our own files.


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


def test_broken_files_are_one_line(ours: Path, sdxl: Path) -> None:
    whole, big = ours.read_bytes(), sdxl.read_bytes()
    for data, suffix, said in (
        (whole[:-100], ".safetensors", "truncated"),
        (whole[:300], ".safetensors", "truncated"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), ".safetensors", r"corrupt \(digest"),
        (whole[:8] + b"{" + b"x" * 100, ".safetensors", "truncated"),
        (b"", ".safetensors", "truncated"),
        (b"", ".pth", "truncated"),
        (b"version https://git-lfs.github.com/spec/v1\n", ".pth", "truncated|broken"),
        (big[:100_000], ".pth", "truncated"),
        (b"PK\x03\x04" + b"\0" * 200, ".pth", "truncated"),
    ):
        file = ours.parent / f"broken{suffix}"
        file.write_bytes(data)
        refused(file, said)
        if suffix == ".safetensors" and data:
            with pytest.raises(UserError, match=said):
                read_provenance(file)


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


def test_a_network_that_diverged_is_not_saved(tmp_path: Path) -> None:
    network = trained()
    assert network.beta is not None
    with torch.no_grad():
        network.beta.fill_(float("nan"))
    with pytest.raises(UserError, match="beta holds NaN"):
        network.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


# Use.


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
