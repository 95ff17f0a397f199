"""`models: [owner/name@COMMIT]`: planned from its configs, run, and there again offline; what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Bench, call
from hub import Hub, serving
from placed import (
    MARKS,
    SAVED,
    images,
    no_network,
    no_pipeline,
    suite,
    unknown_class,
    wide_autoencoder,
)
from placed import home as home

from bench import registry
from bench.models.base import ModelEntry

pytestmark = MARKS


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
        done = bench(
            "run",
            file,
            "--limit",
            1,
            "--method",
            "standard",
            "--runs",
            tmp_path / runs,
            "--no-cache",
            "--device",
            "cpu",
        )
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
    assert len({digest for _, digest in made.values()}) == 2, "two models"
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


def test_a_hub_model_that_is_not_there_or_does_not_fit_is_refused_when_planned(hub: Hub, tmp_path: Path) -> None:
    """Other processes do so in tests/test_fetch.py."""
    with hub.used(tmp_path / "hf"):
        for place, said in REFUSED.items():
            done = call("plan", suite(tmp_path / place, f"{place}@{hub.commit}"))
            assert done.code == 2
            assert f"places.yaml:2: model '{place}@{hub.commit}': {said}" in done.error


@pytest.mark.parametrize("away", ["another commit", "offline"])
def test_a_hub_model_that_cannot_be_reached_is_one_line(hub: Hub, tmp_path: Path, away: str) -> None:
    # A model of which no other test has read the configs: a process reads them once.
    commit = hub.commit if away == "offline" else "f" * 40
    with hub.used(tmp_path / "hf", offline=away == "offline"):
        done = call("plan", suite(tmp_path, f"small/HunyuanDiTPipeline@{commit}"))
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
