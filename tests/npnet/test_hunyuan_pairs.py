"""Hunyuan-DiT's part of the paper: pairs by its preset, SDXL's network fine-tuned on them, and the network at work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_dit
import torch
from conftest import Done, Plug, call_main, make_run
from kept_models import kept_models as kept_models
from PIL import Image
from small_npnets import trained
from suite_texts import TWO_ARMS, write_suite

from bench import registry
from npnet import NPNet, NPNetConfig, method
from npnet.cli import main
from npnet.method import NPNetMethod
from npnet.network import checkpoint
from npnet.pairs import dataset

pytestmark = pytest.mark.usefixtures("kept_models")

PRESET = Path(method.__file__).parent / "configs" / "hunyuan-dit.yaml"
PROMPT = (77, tiny_dit.WIDTH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dit.save(tmp_path_factory.mktemp("dit") / "hunyuan-dit")


@pytest.fixture(autouse=True)
def small(folder: Path, plug: Plug) -> None:
    """The catalogue's row is the tiny folder."""
    plug("models", **{"hunyuan-dit": tiny_dit.entry(folder)})


def npnet(*arguments: object) -> Done:
    return call_main(main, *arguments)


def test_the_papers_way_from_pairs_to_a_network_to_images(tmp_path: Path) -> None:
    """PROTOCOL 1.6: SDXL's weights, fine-tuned on the pairs of Hunyuan-DiT, with a new text layer."""
    words, pairs = tmp_path / "words.txt", tmp_path / "pairs"
    words.write_text("a red circle\ntwo squares\na blue star\na ring\n")
    fewer = ("pairs=2", f"prompts={words}", "metrics=[shapes-clipscore]")
    done = npnet("collect", PRESET, "--out", pairs, "--device", "cpu", *(w for f in fewer for w in ("--set", f)))
    assert done.code == 0, done.err
    assert "2 pairs made, 21 denoiser calls a pair" in done.err, "two arms of 10 steps that share one, and one more"
    protocol = dataset.read_manifest(pairs)
    assert (protocol.model, protocol.steps, protocol.guidance) == ("hunyuan-dit", 10, 5.0)
    (shard,) = dataset.read(pairs)[1]
    assert np.isfinite(shard.target).all()
    assert not np.array_equal(shard.source, shard.target)

    base = trained(NPNetConfig.small()).save_pretrained(tmp_path / "sdxl.safetensors")
    train = tmp_path / "train.yaml"
    train.write_text(f"pairs: {json.dumps(str(pairs))}\nselection: none\nepochs: 1\nbatch: 2\nvalidation: 0.5\n")
    done = npnet("train", train, "--from", base, "--out", tmp_path / "tuned", "--device", "cpu", "--threads", 1)
    assert done.code == 0, done.err
    assert f"replaced by fresh weights (prompts are {PROMPT}, (24, 128) there): text.linear.weight" in done.err
    tuned = tmp_path / "tuned" / "last.safetensors"
    assert NPNet.from_pretrained(tuned).config.prompt == PROMPT

    suite = write_suite(
        tmp_path / "suite.yaml",
        TWO_ARMS,
        name="dit_with_npnet",
        models=["hunyuan-dit"],
        guidance=None,
        steps=2,
        methods=["standard", {"use": "npnet", "checkpoint": str(tuned)}],
        metrics=["shapes-clipscore"],
    )
    run, done = make_run(suite, tmp_path)
    assert done.code == 0, done.err
    files = dict(run.rows("SELECT method || prompt_index, file FROM cells JOIN images USING (job_id)"))
    standard, ours = (np.asarray(Image.open(run.folder / files[f"{m}0"])).astype(int) for m in ("standard", "npnet"))
    assert np.abs(standard - ours).max() > 1


def test_the_network_reads_the_first_encoders_embedding(tmp_path: Path) -> None:
    """PROTOCOL 0: 77 x 1024 of `text_encoder_index=0`, not T5's; the published layer for DiT has that many inputs."""
    assert NPNetConfig.dit().prompt == (77, 1024)
    model = registry.get("models", "hunyuan-dit").load("cpu")
    cond = model.encode(["a ring"])
    made = trained(NPNetConfig.small(prompt=PROMPT), 1)
    x = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(2))
    embeds, _, _, _ = model.pipeline.encode_prompt("a ring", do_classifier_free_guidance=False, text_encoder_index=0)
    with torch.no_grad():
        torch.testing.assert_close(made(x, cond["prompt_embeds"]), made(x, embeds), rtol=0, atol=1e-5)
        assert not torch.allclose(made(x, embeds), made(x, -embeds), atol=1e-4)


def test_the_published_file_is_found_though_it_is_named_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its publisher calls it dit.pth; one named after the model goes first."""
    monkeypatch.setattr(method, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setenv("NPNET_WEIGHTS", str(tmp_path))
    entry = registry.get("models", "hunyuan-dit")
    for seed, name in enumerate(("dit", "hunyuan-dit")):
        path = trained(NPNetConfig.small(prompt=PROMPT), seed).save_pretrained(tmp_path / f"{name}.safetensors")
        assert NPNetMethod().for_model(entry).digest == checkpoint.read_provenance(path)["digest"]


def test_a_network_of_other_latents_is_refused(tmp_path: Path) -> None:
    from bench.errors import UserError

    path = trained(NPNetConfig.small(prompt=PROMPT)).save_pretrained(tmp_path / "small.safetensors")
    large = replace(registry.get("models", "hunyuan-dit"), size=(128, 128), latent=(4, 16, 16))
    with pytest.raises(UserError, match=r"takes latents \(4, 8, 8\), and model 'hunyuan-dit' has \(4, 16, 16\)"):
        NPNetMethod(checkpoint=str(path)).for_model(large)
