"""Models by place: a folder of each family, suites that name them, what a run made, and folders that do not fit."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_dit
import tiny_unet

MARKS = [
    pytest.mark.usefixtures("one_thread"),
    # diffusers calls numpy in ways that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
"""Of every test that runs such a folder."""
SUITE = """\
name: places
models: {models}
prompts: [shapes-pickapic]
samplers: [{samplers}]
steps: 3
baseline: standard
methods: [standard, inversion]
metrics: [shapes-imagereward]
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
