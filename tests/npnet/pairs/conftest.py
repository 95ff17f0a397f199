"""Five prompts, one finished collection, a plain pipeline, and a scorer that anybody can work out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Plug
from kept_models import kept
from kept_models import kept_models as kept_models


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from .collecting import PROMPTS

    path = tmp_path_factory.mktemp("prompts") / "five.txt"
    path.write_text("\n".join(PROMPTS) + "\n\n")
    return path


@pytest.fixture(scope="session")
def whole(prompts: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A finished collection of six pairs, which tests read and never change."""
    from npnet.pairs.collect import run

    from .collecting import PAIRS, quiet, settings_of

    out = tmp_path_factory.mktemp("whole")
    with kept():
        assert run(settings_of(prompts), out=out, device="cpu", say=quiet) == PAIRS
    return out


@pytest.fixture(scope="session")
def pipeline() -> Any:
    """The embedded model as a plain diffusers pipeline with DDIM, nothing of ours around it."""
    from diffusers import DDIMScheduler, DiffusionPipeline

    from bench import registry

    pipe = DiffusionPipeline.from_pretrained(registry.get("models", "shapes-sdxl").source, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    return pipe


@pytest.fixture
def darkness(plug: Plug) -> None:
    from bench.metrics.base import MetricEntry

    from .collecting import Darkness

    entry = MetricEntry("darkness", "Darkness", "grey", load=lambda device: Darkness(), identify=lambda: "darkness-1")
    plug("metrics", darkness=entry)
