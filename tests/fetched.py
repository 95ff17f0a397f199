"""Two small repositories on a hub on loopback, and what tests of `bench fetch` ask of it."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_unet
from hub import Hub, serving

from bench.errors import UserError
from bench.needs.hub import HubPipeline, OnHub


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two repositories: a pipeline, and another denoiser for it."""
    home = tmp_path_factory.mktemp("repositories")
    for name in ("model", "tuned"):
        tiny_unet.save_sd(home / "small" / name, sharpness=1.0 if name == "model" else 0.5)
    return home


@pytest.fixture
def hub(files: Path, tmp_path: Path) -> Iterator[Hub]:
    """A hub of copies that a test may change."""
    with serving(shutil.copytree(files, tmp_path / "hub")) as found:
        yield found


def got(hub: Hub, source: OnHub, home: Path) -> list[str]:
    """What is said while a source is brought here, and whether it is then here."""
    said = []
    with hub.used(home / "hf"):
        try:
            source.size()
            source.get(tell=lambda line: None)
        except UserError as error:
            said.append(str(error))
        return [*said, f"here {source.here()}"]


def weights(hub: Hub, repo: str = "model") -> str:
    return f"small/{repo}/unet/diffusion_pytorch_model.safetensors"


def pipeline(hub: Hub) -> HubPipeline:
    return HubPipeline("small/model", hub.commit)


def served(hub: Hub, content: bytes, name: str = "data/prompts.csv") -> tuple[str, str]:
    """(address, sha256) of a file as a forge serves it."""
    path = hub.home / "someone" / "code" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"{hub.url}/someone/code/raw/{hub.commit}/{name}", hashlib.sha256(content).hexdigest()


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that wait before they ask again wait for a hundredth of a second at most."""
    wait = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: wait(min(seconds, 0.01)))
