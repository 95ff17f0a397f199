"""Models by place: `models: [./folder]` and `[owner/name@COMMIT]`, from the plan to the images, for every adapter."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import tiny_dit
import tiny_unet
from conftest import Bench, InTurn, call
from hub import Hub, serving

from bench import registry
from bench.errors import UserError
from bench.models import references
from bench.models.base import ModelEntry
from bench.models.references import FAMILIES, entry_of
from bench.models.shapes_of import check_entry
from bench.runner.plan import make_plan
from bench.suite import parse

# diffusers calls numpy in ways that numpy 2 deprecates.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
SUITE = """\
name: places
models: {models}
prompts: [shapes-pickapic]
samplers: [{samplers}]
steps: 3
baseline: standard
methods: [standard, inversion]
metrics: [shapes-clipscore]
"""
SAVED: Mapping[str, Callable[[Path], Path]] = {
    "StableDiffusionPipeline": lambda folder: tiny_unet.save_sd(folder, sharpness=1.0),
    "StableDiffusionXLPipeline": lambda folder: tiny_unet.save_sdxl(folder, sharpness=1.0),
    "HunyuanDiTPipeline": tiny_dit.save,
}
SHAPES = {
    "StableDiffusionPipeline": ((32, 32), (4, 16, 16), 7.5),
    "StableDiffusionXLPipeline": ((32, 32), (4, 16, 16), 5.0),
    "HunyuanDiTPipeline": ((64, 64), (4, 8, 8), 5.0),
}
"""Image size, latent and usual guidance of those folders."""


def suite(home: Path, *models: object, samplers: str = "ddim") -> Path:
    home.mkdir(parents=True, exist_ok=True)
    file = home / "places.yaml"
    file.write_text(SUITE.format(models=json.dumps([str(m) for m in models]), samplers=samplers))
    return file


def images(runs: Path) -> dict[tuple[str, str, str, int], tuple[str, str]]:
    """(job id, digest of the pixels) by model, sampler, method and prompt of the one run in a folder."""
    (folder,) = [p for p in runs.iterdir() if p.is_dir()]
    db = sqlite3.connect(folder / "ledger.sqlite")
    query = "SELECT model, sampler, method, prompt_index, job_id, digest FROM cells JOIN images USING (job_id)"
    try:
        return {tuple(place): (job, digest) for *place, job, digest in db.execute(query)}  # type: ignore[misc]
    finally:
        db.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each family, named after its pipeline's class."""
    found = tmp_path_factory.mktemp("places")
    for kind, save in SAVED.items():
        save(found / kind)
    return found


def rewrite(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None takes one out."""
    known = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in known.items() if v is not None}))


# A folder -----------------------------------------------------------------------------------------------------------


def test_every_adapter_is_tested_here() -> None:
    assert set(SAVED) == set(FAMILIES)


def test_a_folder_named_from_where_one_stands_runs(
    home: Path, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(home / "StableDiffusionPipeline", tmp_path / "my-folder")
    monkeypatch.chdir(tmp_path)
    options = ("--limit", 2, "--runs", tmp_path / "runs", "--no-cache", "--device", "cpu")
    done = bench("run", suite(tmp_path, "./my-folder"), *options)
    assert done.code == 0, done.err
    made = images(tmp_path / "runs")
    assert {model for model, *_ in made} == {"./my-folder"}
    assert len({digest for _, digest in made.values()}) == 4, "two methods, two prompts"


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_folder_of_any_family_runs_wherever_it_lies(home: Path, tmp_path: Path, kind: str) -> None:
    """Sizes and guidance are read from its configs, and its images are named by what it holds."""
    entry = entry_of(str(home / kind))
    assert (entry.size, entry.latent, entry.guidance) == SHAPES[kind]
    assert (entry.steps, entry.revision, entry.adapter) == (50, None, FAMILIES[kind][0])
    copied = shutil.copytree(home / kind, tmp_path / "elsewhere")
    seen = []
    for name, place in (("one", home / kind), ("two", copied)):
        done = call(
            *("run", suite(tmp_path / name, place), "--limit", 1),
            *("--runs", tmp_path / name / "runs", "--no-cache", "--device", "cpu"),
        )
        assert done.code == 0, done.err
        seen.append({method: made for (_, _, method, _), made in images(tmp_path / name / "runs").items()})
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2


def test_weights_decide_the_image_in_whatever_format_they_are(home: Path, tmp_path: Path) -> None:
    """diffusers reads a .bin where there is no .safetensors."""
    import torch
    from safetensors.torch import load_file

    folder = shutil.copytree(home / "StableDiffusionPipeline", tmp_path / "old")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    weights.unlink()
    digests = []
    for scale in (1.0, 0.5):
        torch.save({k: scale * v for k, v in state.items()}, weights.with_suffix(".bin"))
        entry = entry_of(str(folder))
        entry.load("cpu")
        digests.append(entry.digest())
    assert digests[0] != digests[1]


# What is no such model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("./nowhere", "no such folder"),
        ("owner/name", "a hub model is named with its commit: owner/name@COMMIT"),
        ("owner/name@", "'' is no commit of 40 hex digits"),
        ("owner/name@main", "'main' is no commit of 40 hex digits, and a branch or tag may move"),
        ("owner/name@0123abc", "'0123abc' is no commit of 40 hex digits"),
        ("owner/name/more@" + "0" * 40, "no such folder"),
    ],
)
def test_a_place_that_names_no_fixed_model_is_refused_at_its_line(reference: str, said: str, tmp_path: Path) -> None:
    done = call("plan", suite(tmp_path, reference))
    assert done.code == 2
    assert f"places.yaml:2: model {reference!r}: " in done.error
    assert said in done.error


def no_pipeline(folder: Path) -> str:
    (folder / "model_index.json").unlink()
    return "no model_index.json there; expected a diffusers pipeline folder"


def unknown_class(folder: Path) -> str:
    rewrite(folder / "model_index.json", _class_name="FluxPipeline")
    return (
        "no adapter for pipeline class 'FluxPipeline'; there are adapters for HunyuanDiTPipeline, "
        "StableDiffusionPipeline, StableDiffusionXLPipeline"
    )


def no_class(folder: Path) -> str:
    rewrite(folder / "model_index.json", _class_name=None)
    return "no adapter for pipeline class 'None'"


def torn_index(folder: Path) -> str:
    (folder / "model_index.json").write_text('{"_class_name"')
    return "model_index.json: not readable JSON"


def wide_network(folder: Path) -> str:
    """As those for inpainting are."""
    rewrite(folder / "unet" / "config.json", in_channels=9)
    return "its denoiser makes latents of 9 channels and its autoencoder reads 4"


def wide_autoencoder(folder: Path) -> str:
    rewrite(folder / "vae" / "config.json", latent_channels=16)
    return "its denoiser makes latents of 4 channels and its autoencoder reads 16"


def two_sides(folder: Path) -> str:
    rewrite(folder / "unet" / "config.json", sample_size=[16, 24])
    return "its denoiser's config has no in_channels and sample_size as whole numbers"


def no_network(folder: Path) -> str:
    shutil.rmtree(folder / "unet")
    return "its denoiser's config has no in_channels and sample_size as whole numbers"


def predicts_images(folder: Path) -> str:
    rewrite(folder / "scheduler" / "scheduler_config.json", prediction_type="sample")
    return "its network predicts 'sample'; expected epsilon or v_prediction"


HARMS = (no_pipeline, unknown_class, no_class, torn_index, wide_network, wide_autoencoder, two_sides, no_network,
         predicts_images)  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_a_folder_whose_parts_do_not_fit_is_refused_at_its_line(
    home: Path, tmp_path: Path, harm: Callable[[Path], str]
) -> None:
    folder = shutil.copytree(home / "StableDiffusionPipeline", tmp_path / "odd")
    said = harm(folder)
    done = call("plan", suite(tmp_path, folder))
    assert done.code == 2
    assert "places.yaml:2: " in done.error
    assert said in done.error


@pytest.mark.parametrize("change", [{"size": (64, 64)}, {"latent": (4, 8, 8)}, {"size": (33, 32)}])
def test_a_row_that_contradicts_its_folder_is_refused_when_planned(home: Path, change: dict[str, Any]) -> None:
    entry = replace(entry_of(str(home / "StableDiffusionPipeline")), **change)
    with pytest.raises(UserError, match=r"size|no multiple of 2") as caught:
        check_entry(entry)
    assert "\n" not in str(caught.value)


# The hub ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with sound repositories and broken ones."""
    place = tmp_path_factory.mktemp("hub")
    for kind in SAVED:
        shutil.copytree(home / kind, place / "small" / kind)
    for harm in (no_pipeline, unknown_class, wide_autoencoder, no_network):
        harm(shutil.copytree(home / "StableDiffusionPipeline", place / "broken" / harm.__name__))
    with serving(place) as found:
        yield found


def test_a_hub_model_is_planned_from_its_configs_run_and_there_again_offline(
    hub: Hub, tmp_path: Path, bench: Bench
) -> None:
    """Other processes do so in tests/test_fetch.py; here it is every pixel, and what the hub was asked for."""
    models = [f"small/{kind}@{hub.commit}" for kind in ("StableDiffusionPipeline", "StableDiffusionXLPipeline")]
    file = suite(tmp_path, *models)

    def run(runs: str) -> dict[tuple[str, str, str, int], tuple[str, str]]:
        done = bench("run", file, "--limit", 1, "--runs", tmp_path / runs, "--no-cache", "--device", "cpu")
        assert done.code == 0, done.err
        return images(tmp_path / runs)

    hub.asked.clear()
    with hub.used(tmp_path / "hf"):
        planned = bench("plan", file, "--limit", 1, "--cache", tmp_path / "cache")
        assert planned.code == 0, planned.err
        assert hub.asked, "the hub was asked"
        assert all(path.endswith(".json") and "token" not in path for path in hub.asked), "configs only"
        fetched = bench("fetch", file, "--limit", 1)
        assert fetched.code == 0, fetched.err
        made = run("runs")
    assert {model for model, *_ in made} == set(models)
    assert len({digest for _, digest in made.values()}) == 4, "two models, two methods"
    assert sum(path.endswith(".safetensors") for path in hub.asked) == 3 + 4, "text encoders, UNet and VAE of both"
    hub.asked.clear()
    with hub.used(tmp_path / "hf", offline=True):
        assert run("again") == made, "the same ids and pixels from what was downloaded"
    assert not hub.asked


REFUSED = {
    "small/none": "its model_index.json cannot be read from the hub: ",
    "broken/no_pipeline": "its model_index.json cannot be read from the hub: ",
    "broken/no_network": "its unet/config.json cannot be read from the hub: ",
    "broken/unknown_class": "no adapter for pipeline class 'FluxPipeline'",
    "broken/wide_autoencoder": "its denoiser makes latents of 4 channels and its autoencoder reads 16",
}


def test_a_hub_model_that_is_not_there_or_does_not_fit_is_refused_when_planned(
    hub: Hub, tmp_path: Path, bench_in_turn: InTurn
) -> None:
    files = [suite(tmp_path / place, f"{place}@{hub.commit}") for place in REFUSED]
    found = bench_in_turn(*(("plan", file) for file in files), env=hub.environment(tmp_path / "hf"))
    for (place, said), done in zip(REFUSED.items(), found, strict=True):
        assert done.code == 2
        assert f"places.yaml:2: model '{place}@{hub.commit}': {said}" in done.error


@pytest.mark.parametrize("away", ["another commit", "offline"])
def test_a_hub_model_that_cannot_be_reached_is_one_line(
    hub: Hub, tmp_path: Path, bench_process: Bench, away: str
) -> None:
    commit = hub.commit if away == "offline" else "f" * 40
    surroundings = hub.environment(tmp_path / "hf") | ({"HF_HUB_OFFLINE": "1"} if away == "offline" else {})
    done = bench_process("plan", suite(tmp_path, f"small/StableDiffusionPipeline@{commit}"), env=surroundings)
    assert done.code == 2
    assert "its model_index.json cannot be read from the hub: " in done.error


def test_a_catalogue_name_loads_its_own_commit_and_no_other(home: Path, tmp_path: Path) -> None:
    """`models: [sdxl]`: with an autoencoder of the published one's factor, a small model passes for it."""
    import torch
    from diffusers import AutoencoderKL

    row: ModelEntry = registry.get("models", "sdxl")
    folder = shutil.copytree(home / "StableDiffusionXLPipeline", tmp_path / "hub" / row.source)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    AutoencoderKL(**blocks, block_out_channels=(8,) * 4, norm_num_groups=4).save_pretrained(folder / "vae")
    with serving(tmp_path / "hub") as hub:
        hub.commit = str(row.revision)  # and every other one is unknown there
        with hub.used(tmp_path / "hf"), torch.no_grad():
            made = row.load("cpu").pixels(torch.zeros(1, 4, 8, 8))
    assert made.shape == (1, 3, 64, 64)


# Adapters of other packages -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def consistency(home: Path) -> Path:
    """A folder of a pipeline class that only the example plugin serves."""
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    parts = StableDiffusionPipeline.from_pretrained(home / "StableDiffusionPipeline").components
    parts["unet"] = UNet2DConditionModel.from_config({**parts["unet"].config, "time_cond_proj_dim": 8})
    parts["scheduler"] = LCMScheduler.from_config(parts["scheduler"].config)
    parts.pop("image_encoder")
    LatentConsistencyModelPipeline(**parts, requires_safety_checker=False).save_pretrained(home / "consistency")
    return home / "consistency"


def test_an_adapter_of_another_package_serves_its_pipeline_class(
    consistency: Path,
    tmp_path: Path,
    bench: Bench,
    installed: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = suite(tmp_path, consistency, samplers="lcm")
    options = ("--limit", 1, "--set", "guidance=1", "--method", "standard")
    without = bench("plan", file, *options)
    assert without.code == 2
    assert "no adapter for pipeline class 'LatentConsistencyModelPipeline'" in without.error
    monkeypatch.syspath_prepend(installed["PYTHONPATH"].partition(os.pathsep)[0])
    done = bench("run", file, *options, "--runs", tmp_path / "runs", "--no-cache", "--device", "cpu")
    assert done.code == 0, done.err
    assert len(images(tmp_path / "runs")) == 1


@pytest.mark.parametrize(
    ("place", "said"),
    [("no_such_module:Family", "ModuleNotFoundError"), ("bench.models.sd:NoFamily", "AttributeError")],
)
def test_an_adapter_that_does_not_load_is_one_line(
    consistency: Path, monkeypatch: pytest.MonkeyPatch, place: str, said: str
) -> None:
    points = [EntryPoint("LatentConsistencyModelPipeline", place, "bench.families")]
    monkeypatch.setattr(references, "entry_points", lambda group: points)
    with pytest.raises(
        UserError, match=f"the adapter {place} for LatentConsistencyModelPipeline does not load: {said}"
    ):
        entry_of(str(consistency))


# A sampler's name says what it is -----------------------------------------------------------------------------------


def test_a_model_that_asks_for_karras_sigmas_gives_the_plain_samplers_image(home: Path, tmp_path: Path) -> None:
    """`dpmpp_2m` is not `dpmpp_2m_karras`, whatever the model's own scheduler is."""
    made = {}
    for name, karras in (("asking", True), ("plain", False)):
        folder = shutil.copytree(home / "StableDiffusionPipeline", tmp_path / name / "model")
        rewrite(folder / "model_index.json", scheduler=["diffusers", "DPMSolverMultistepScheduler"])
        rewrite(
            folder / "scheduler" / "scheduler_config.json",
            _class_name="DPMSolverMultistepScheduler", use_karras_sigmas=karras, set_alpha_to_one=None,
        )  # fmt: skip
        file = suite(tmp_path / name, folder, samplers="dpmpp_2m, dpmpp_2m_karras, euler, heun")
        runs = tmp_path / name / "runs"
        only = ("--limit", 1, "--method", "standard")
        done = call("run", file, *only, "--runs", runs, "--no-cache", "--device", "cpu")
        assert done.code == 0, done.err
        made[name] = {place[1:]: digest for place, (_, digest) in images(runs).items()}
    assert made["asking"] == made["plain"]
    assert len(set(made["plain"].values())) == 4, "four samplers: Karras sigmas would show"


def test_two_folders_that_differ_in_their_scheduler_are_two_models(home: Path, tmp_path: Path) -> None:
    """What a sampler does not set is the model's own: its steps' offset, its noise schedule."""
    folder = shutil.copytree(home / "StableDiffusionPipeline", tmp_path / "other")
    rewrite(folder / "scheduler" / "scheduler_config.json", steps_offset=0)
    jobs = [
        set(make_plan(parse(suite(tmp_path, place).read_text(), file="places.yaml", limit=1)).jobs)
        for place in (home / "StableDiffusionPipeline", folder)
    ]
    assert jobs[0].isdisjoint(jobs[1])
