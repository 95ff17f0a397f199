"""CONTRIBUTING.md's walks: each file is written as it stands there, and each command does what it says."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Bench
from PIL import Image

import bench as bench_package
from bench import records, registry
from bench.sampling import noise

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
WALKS = re.findall(r"<!-- file: (\w+\.py) -->\n```python\n(.*?)```\n+```\n(.*?)```", TEXT, re.DOTALL)
SUITE = re.findall(r"<!-- suite: mine.yaml -->\n```yaml\n(.*?)```", TEXT, re.DOTALL)


def test_there_is_a_walk_for_each_kind() -> None:
    assert [name for name, _, _ in WALKS] == [
        "antithetic.py",
        "brightness.py",
        "stars.py",
        "trailing_ddim.py",
        "freeu.py",
        "nice.py",
    ]


@pytest.mark.parametrize(("name", "code", "command"), WALKS, ids=[name for name, _, _ in WALKS])
def test_the_walk_runs(
    name: str, code: str, command: str, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(SUITE[0])
    program, option, module, *arguments = shlex.split(command.strip())
    assert (program, option, module) == ("python", "-m", "bench")
    done = bench(*arguments, "--runs", tmp_path / "runs")
    assert done.code == 0, done.err
    found = records.read(next((tmp_path / "runs").iterdir()))
    if name == "antithetic.py":
        assert {row.method for row in found.comparisons} == {"antithetic"}
    if name == "brightness.py":
        # Backgrounds are light or dark, and a share is a share.
        assert all(0 < arm.metrics["brightness"].mean < 1 for arm in found.arms)
    if name == "stars.py":
        assert "stars" in {arm.prompts for arm in found.arms}
        assert {arm.n for arm in found.arms} == {4}
    if name == "nice.py":
        assert "by 2 workers" in done.err
    if name == "trailing_ddim.py":
        assert {arm.sampler for arm in found.arms} == {"ddim_trailing"}
    if name == "freeu.py":
        assert {arm.model for arm in found.arms} == {"freeu"}
        images_are_the_pipelines_own(next((tmp_path / "runs").iterdir()))


def images_are_the_pipelines_own(run: Path) -> None:
    """The standard arm's image is that of diffusers' call with FreeU, to a grey level, and not of one without."""
    import torch
    from diffusers import DiffusionPipeline

    entry = registry.get("models", "shapes-sd")
    (prompt, *_) = registry.get("prompts", "shapes-pickapic").read()
    pipeline = DiffusionPipeline.from_pretrained(entry.source, local_files_only=True)
    pipeline.scheduler = registry.get("samplers", "ddim").build(pipeline.scheduler.config)
    of = {"num_inference_steps": 4, "guidance_scale": entry.guidance, "height": 64, "width": 64}
    made_by = {}
    for with_it in (False, True):
        if with_it:
            pipeline.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
        with torch.no_grad():
            latents = noise.draw(prompt.text, 0, entry.latent)[None]
            made_by[with_it] = np.asarray(pipeline(prompt.text, latents=latents, **of).images[0])
    (row,) = (image for image in bench_package.read(run).images.itertuples() if image.method == "standard")
    made = np.asarray(Image.open(run / row.file).convert("RGB"), dtype=int)
    assert np.abs(made - made_by[True]).max() <= 1
    assert np.abs(made - made_by[False]).max() > 8


def test_a_plugin_file_is_the_first_to_import_the_package_s_own_methods(bench_process: Bench, tmp_path: Path) -> None:
    """Its name is the file's; those that its imports register stay the package's, wherever they are first imported."""
    (tmp_path / "mine.py").write_text(
        "from bench.methods.initno import InitNO\nfrom bench.registry import register\n\n\n"
        '@register("methods", "mine")\nclass Mine(InitNO):\n    about = "mine"\n'
    )
    done = bench_process("ls", "methods", "--json", "--plugin", tmp_path / "mine.py")
    assert done.code == 0, done.err
    packages = {row["name"]: row["package"] for row in json.loads(done.out)}
    assert packages["mine"] != packages["initno"] == packages["standard"] == "bench"


@pytest.fixture(autouse=True)
def forgotten(tmp_path: Path) -> Iterator[None]:
    """What a walk registers does not outlive its test."""
    yield
    for name, _, _ in WALKS:
        registry.forget(str((tmp_path / name).resolve()))
