"""Adapters of other packages: a pipeline class that only a plugin serves, and plugins that do not load."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from commands import Bench
from placed import (
    MARKS,
    images,
    suite,
)
from placed import home as home

from bench.errors import UserError
from bench.models import references
from bench.models.references import entry_of

pytestmark = MARKS


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
