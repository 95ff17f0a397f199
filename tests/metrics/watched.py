"""Networks that are watched while images are scored: how many ran, on how many images; and three that share one."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from bench import registry
from bench.metrics.base import MetricEntry
from bench.prompts.base import Prompt
from bench.runner.score import Task, score
from bench.store import Image, Ledger
from bench.store.images import pixel_digest

DINO = ("fd_dinov2", "diversity", "vendi")
TIMES: dict[str, Any] = {"calls_noise": 0, "calls_sampling": 1, "encode_ms": 0, "noise_ms": 0, "sampling_ms": 0}
TIMES |= {"decode_ms": 0}


def sets() -> Any:
    """Small networks of set metrics; their module is read from its own folder, as by the reference environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "reference"))
        return importlib.import_module("small_sets")


class Watched:
    """Networks of a class that ran: how many there were, and on how many images."""

    def __init__(self, name: str):
        self.name, self.seen, self.rows = name, list[Any](), 0

    def __call__(self, module: Any, given: Any, output: Any) -> None:
        if type(module).__name__ == self.name:
            if not any(one() is module for one in self.seen):
                self.seen.append(weakref.ref(module))
            self.rows += (output if isinstance(output, torch.Tensor) else output[0]).shape[0]

    @property
    def alive(self) -> int:
        return sum(one() is not None for one in self.seen)


@contextmanager
def watching(name: str) -> Iterator[Watched]:
    watched = Watched(name)
    handle = torch.nn.modules.module.register_module_forward_hook(watched)
    try:
        yield watched
    finally:
        handle.remove()


def ledger_of(folder: Path, images: Sequence[np.ndarray]) -> Ledger:
    """A run folder with these images, each under a job id of its number."""
    ledger = Ledger(folder, create=True)
    (folder / "images").mkdir()
    rows = []
    for i, pixels in enumerate(images):
        Picture.fromarray(pixels).save(folder / "images" / f"{i}.png")
        rows.append(
            Image(job_id=str(i), digest=pixel_digest(pixels), file=f"images/{i}.png", peak_bytes=0, peak_kind="rss",
                  batch=1, hardware="test", latent_digest="", created="", **TIMES)
        )  # fmt: skip
    ledger.put_images(rows)
    return ledger


def pictures(n: int, side: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(n)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(n)]


def kept(ledger: Ledger) -> dict[tuple[Any, ...], Any]:
    """Scores and features by image, prompt and metric."""
    found: dict[tuple[Any, ...], Any] = {}
    for table, column in (("scores", "value"), ("features", "features")):
        for *key, value in ledger.db.execute(f"SELECT digest, prompt, metric, scorer, {column} FROM {table}"):
            found[tuple(key)] = value
    return found


def judged(folder: Path, images: Sequence[np.ndarray], entries: dict[str, MetricEntry], prompt: Prompt) -> Any:
    """What the metrics say of the images, scored in one run."""
    work = {name: [Task(str(i), prompt) for i in range(len(images))] for name in entries}
    ledger = ledger_of(folder, images)
    with registry.configured("metrics", entries):
        seconds = score(work, ledger, device="cpu")
    assert list(seconds) == list(entries)
    assert all(s > 0 for s in seconds.values())
    return kept(ledger)


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> dict[str, MetricEntry]:
    """The three metrics in DINOv2's features, each on a folder of its own with the same content."""
    found = {}
    for name in DINO:
        folder = sets().dino_folder(tmp_path_factory.mktemp(name), "shared")
        found[name] = registry.get("metrics", name).configured(str(folder), "fp32")
    reference = tmp_path_factory.mktemp("reference") / "dino.npz"
    width: int = sets().DINO["width"]
    np.savez(reference, mu=np.zeros(width), sigma=np.eye(width))
    refer: Any = found["fd_dinov2"].refer
    return found | {"fd_dinov2": refer(str(reference))}
