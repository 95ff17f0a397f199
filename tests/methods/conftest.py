"""What several tests of methods share: tiny networks, made once a session, that no test changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_unet

from bench.models.base import Family


@pytest.fixture(scope="session")
def sharp_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion whose attention is as sharp as a trained one's."""
    return tiny_unet.save_sd(tmp_path_factory.mktemp("tiny") / "sharp", levels=1)


@pytest.fixture(scope="session")
def sharp(sharp_folder: Path, one_thread: None) -> Family:
    return tiny_unet.entry(sharp_folder).load("cpu")


@pytest.fixture(scope="session")
def smooth(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Family:
    """Attention that is less sharp: rounding does not grow along the loop."""
    folder = tiny_unet.save_sd(tmp_path_factory.mktemp("tiny") / "smooth", sharpness=2.0, seed=2, levels=1)
    return tiny_unet.entry(folder).load("cpu")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pipelines with ControlNets: `controlled.home`."""
    from . import controlled  # which imports torch, for which no unit test should wait

    return controlled.home(tmp_path_factory.mktemp("controlled"))


@pytest.fixture(scope="session")
def worn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pipelines and weights to put on them: `wearing.save`."""
    from . import wearing

    return wearing.save(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def own(worn: Path, one_thread: None) -> Family:
    """A pipeline that tests put weights on, each its own."""
    return tiny_unet.entry(worn / "own").load("cpu")
