"""Hunyuan-DiT from the catalogue and from folders: a whole run, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_dit
from conftest import Plug, call, make_run
from hunyuan_sessions import folder as folder
from hunyuan_sessions import model as model
from hunyuan_sessions import version as version

from bench import registry
from bench.errors import UserError
from bench.models.shapes_of import check_entry

# diffusers calls numpy in ways that numpy 2 deprecates.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
SUITE = """\
name: tiny_dit
models: [hunyuan-dit]
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 2
guidance: 5.0
baseline: standard
methods:
  - standard
  - inversion
  - inversion_as_released
  - {use: best_of_n, name: best_of_2, n: 2, selection_metric: shapes-geneval}
  - reseed
metrics: [shapes-imagereward]
"""


def put(plug: Plug, folder: Path) -> None:
    """Let the catalogue's row be a folder of the test."""
    plug("models", **{"hunyuan-dit": tiny_dit.entry(folder)})


# The catalogue and a whole run --------------------------------------------------------------------------------------


def test_the_catalogue_has_the_papers_model() -> None:
    """The released code's hub id; A.4 of the first version: guidance 5, 50 steps."""
    row = registry.get("models", "hunyuan-dit")
    assert row.source == "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers"
    assert (row.steps, row.guidance, row.size, row.latent) == (50, 5.0, (1024, 1024), (4, 128, 128))
    assert registry.twin("models", "hunyuan-dit") == "shapes-sdxl"


def test_a_suite_runs_on_it_with_every_method(folder: Path, tmp_path: Path, plug: Plug) -> None:
    put(plug, folder)
    file = tmp_path / "tiny_dit.yaml"
    file.write_text(SUITE)
    run, done = make_run(file, tmp_path, "--limit", 1)
    assert done.code == 0, done.err
    counted = run.rows("SELECT DISTINCT method, calls_noise, calls_sampling FROM cells JOIN images USING (job_id)")
    calls = {method: noise + sampling - 2 for method, noise, sampling in counted}
    assert calls == {"standard": 0, "inversion": 2, "inversion_as_released": 2, "best_of_2": 2, "reseed": 0}, (
        "best of two is charged for the other candidate"
    )
    made = dict(run.rows("SELECT method, digest FROM cells JOIN images USING (job_id)"))
    assert made.pop("best_of_2") in (made["standard"], made["reseed"])
    assert len(made) == len(set(made.values())) == 4, "each of the others makes an image of its own"
    assert "finished before" in call(*run.arguments("--limit", 1)).err


# What its network predicts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prediction_type": "sample"}, "its network predicts 'sample'; expected epsilon or v_prediction"),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler"},
            "its network predicts a flow; expected epsilon or v_prediction",
        ),
    ],
)
def test_what_predicts_neither_noise_nor_velocity_is_refused_when_planned_and_when_loaded(
    folder: Path, tmp_path: Path, plug: Plug, change: dict[str, Any], said: str
) -> None:
    copied = shutil.copytree(folder, tmp_path / "dit")
    path = copied / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    entry = tiny_dit.entry(copied)
    if "_class_name" in change:
        index = copied / "model_index.json"
        parts = json.loads(index.read_text())
        index.write_text(json.dumps({**parts, "scheduler": ["diffusers", change["_class_name"]]}))
    for refusing in (lambda: check_entry(entry), lambda: entry.load("cpu")):
        with pytest.raises(UserError, match=said) as caught:
            refusing()
        assert "\n" not in str(caught.value)
    put(plug, copied)
    file = tmp_path / "tiny_dit.yaml"
    file.write_text(SUITE)
    done = call("run", file, "--runs", tmp_path / "runs", "--device", "cpu")
    assert done.code == 2
    assert said in done.error


# Folders that are not whole -----------------------------------------------------------------------------------------


def without_weights(folder: Path) -> str:
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    return "no file named diffusion_pytorch_model"


def cut_short(folder: Path) -> str:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    return "does not load from"


def without_the_second_encoder(folder: Path) -> str:
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in index.items() if not k.endswith("_2")}))
    return "it has no text_encoder_2, tokenizer_2"


def of_another_pipeline(folder: Path) -> str:
    shutil.rmtree(folder)
    shutil.copytree(registry.get("models", "shapes-sdxl").source, folder)
    return "it is a StableDiffusionXLPipeline; expected a HunyuanDiTPipeline"


def index_cut_short(folder: Path) -> str:
    path = folder / "model_index.json"
    path.write_text(path.read_text()[:100])
    return "model_index.json"


@pytest.mark.parametrize(
    "harm", [without_weights, cut_short, without_the_second_encoder, of_another_pipeline, index_cut_short]
)
def test_a_folder_that_is_not_whole_is_one_line(folder: Path, tmp_path: Path, harm: Callable[[Path], str]) -> None:
    broken = shutil.copytree(folder, tmp_path / "dit")
    said = harm(broken)
    with pytest.raises(UserError, match="model 'hunyuan-dit' does not load from ") as caught:
        tiny_dit.entry(broken).load("cpu")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, plug: Plug) -> None:
    put(plug, tmp_path / "nowhere")
    file = tmp_path / "tiny_dit.yaml"
    file.write_text(SUITE)
    done = call("run", file, "--runs", tmp_path / "runs", "--device", "cpu")
    assert done.code == 2
    assert "nowhere: no model_index.json there" in done.error


@pytest.mark.parametrize("available", ["is_sentencepiece_available", "is_protobuf_available"])
def test_what_the_published_tokenizer_needs_is_reported_before_it_is_downloaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: str
) -> None:
    """It is a SentencePiece file, for which transformers without the packages asks for another one."""
    for name in ("is_sentencepiece_available", "is_protobuf_available"):
        monkeypatch.setattr(f"transformers.utils.{name}", lambda name=name: name != available)
    said = r"hunyuan-dit': its T5 tokenizer needs sentencepiece and protobuf; pip install sentencepiece protobuf"
    with pytest.raises(UserError, match=said):
        registry.get("models", "hunyuan-dit").load("cpu")
    as_published = shutil.copytree(folder, tmp_path / "dit")
    (as_published / "tokenizer_2" / "tokenizer.json").rename(as_published / "tokenizer_2" / "spiece.model")
    with pytest.raises(UserError, match=said):
        tiny_dit.entry(as_published).load("cpu")
    assert tiny_dit.entry(folder).load("cpu")
