"""`models: [./folder]`, from the plan to the images, for every adapter: what a folder decides, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Bench, call
from placed import (
    HARMS,
    MARKS,
    SAVED,
    SHAPES,
    images,
    rewrite,
    suite,
)
from placed import home as home

from bench.errors import UserError
from bench.models.references import FAMILIES, entry_of
from bench.models.shapes_of import check_entry
from bench.runner.plan import make_plan
from bench.suite import parse

pytestmark = MARKS


# What runs -----------------------------------------------------------------------------------------------------------


def test_every_adapter_is_tested_here() -> None:
    assert set(SAVED) == set(FAMILIES)


def test_a_folder_named_from_where_one_stands_runs(
    home: Path, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(home / "StableDiffusionPipeline", tmp_path / "my-folder")
    monkeypatch.chdir(tmp_path)
    options = ("--limit", 1, "--runs", tmp_path / "runs", "--no-cache", "--device", "cpu")
    done = bench("run", suite(tmp_path, "./my-folder"), *options)
    assert done.code == 0, done.err
    made = images(tmp_path / "runs")
    assert {model for model, *_ in made} == {"./my-folder"}
    assert len({digest for _, digest in made.values()}) == 2, "two methods"


Made = dict[tuple[str, str, str, int], tuple[str, str]]


@pytest.fixture(scope="module")
def twice(home: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> tuple[Made, Made]:
    """What a run makes of all folders, and another of copies of them elsewhere."""
    place = tmp_path_factory.mktemp("twice")
    for kind in SAVED:
        shutil.copytree(home / kind, place / "copies" / kind)
    found = []
    for name, folder in (("one", home), ("two", place / "copies")):
        models = [folder / kind for kind in SAVED]
        runs = place / name / "runs"
        done = call("run", suite(place / name, *models), "--limit", 1, "--runs", runs, "--no-cache", "--device", "cpu")
        assert done.code == 0, done.err
        found.append(images(runs))
    return found[0], found[1]


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_folder_of_any_family_runs_wherever_it_lies(home: Path, twice: tuple[Made, Made], kind: str) -> None:
    """Sizes and guidance are read from its configs, and its images are named by what it holds."""
    entry = entry_of(str(home / kind))
    assert (entry.size, entry.latent, entry.guidance) == SHAPES[kind]
    assert (entry.steps, entry.revision, entry.adapter) == (50, None, FAMILIES[kind][0])
    one, two = ({m: made for (model, _, m, _), made in run.items() if Path(model).name == kind} for run in twice)
    assert one == two
    assert len(one) == 2


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
