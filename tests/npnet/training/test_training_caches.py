"""Embeddings and singular values on disk: made once, as those of every step are, where there is room for them."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.errors import UserError
from bench.models.base import Family, ModelEntry
from npnet.network.blocks import recompose
from npnet.training.caches import World, embeddings, singular_values
from npnet.training.data import SelectionSettings, choose, gather

from .small import SMALL, farthest, losses_of, train

pytestmark = pytest.mark.usefixtures("one_thread", "no_figures")


def test_cached_values_train_as_those_computed_in_every_step(pairs: Path, trained: Path, tmp_path: Path) -> None:
    train(pairs, tmp_path / "neither", epochs=2, cache_svd=False, cache_embeddings=False)
    train(pairs, tmp_path / "both", epochs=2, svd_dtype="float32")
    assert farthest(tmp_path / "neither/last.safetensors", tmp_path / "both/last.safetensors") < 1e-4
    # Adam makes steps of one size of the smallest gradients, so half precision shows in some weight; not in the loss.
    exact, half = ([float(row[2]) for row in losses_of(out)[:2]] for out in (tmp_path / "neither", trained))
    assert half == pytest.approx(exact, rel=1e-2)
    assert half != exact


def test_caches_are_made_once_and_put_noise_together_again(pairs: Path, tmp_path: Path) -> None:
    data = gather(choose([pairs], SelectionSettings(metrics=("taste",))), limit=None, seed=0)
    said: list[str] = []
    world = World(say=said.append)
    u, s, vh = singular_values(data, tmp_path, dtype="float32", world=world)
    # 48 decompositions of 16 x 16 matrices: the whole shards, as more than half of each is used.
    assert said == [f"singular values of 48 source noises: 101 kB in {tmp_path / 'svd'}"]
    ids = np.array([35, 2])
    factors = tuple(torch.from_numpy(rows[ids]) for rows in (u, s, vh))
    source = torch.from_numpy(data.source[ids]).float()
    assert (recompose(factors, factors[1], (4, 8, 8)) - source).abs().max() < 1e-4  # type: ignore[arg-type]
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    embeddings(data, tmp_path, cached=True, world=world)
    other = gather(choose([pairs], None), limit=None, seed=0)
    singular_values(other, tmp_path, dtype="float32", world=world)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert said[1:] == [f"embeddings of 24 prompts: 295 kB in {tmp_path / 'embeddings'}"]


def test_the_model_is_let_go_once_its_embeddings_are_there(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline of SDXL takes 7 GB of the memory that the training needs."""
    loaded: list[weakref.ref[Family]] = []
    load = ModelEntry.load

    def watched(self: ModelEntry, device: str) -> Family:
        model = load(self, device)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(ModelEntry, "load", watched)
    data = gather(choose([pairs], None), limit=None, seed=0)
    world = World(say=lambda _line: None)
    kept = [embeddings(data, tmp_path, cached=True, world=world)]
    assert [model() for model in loaded] == [None]
    kept.append(embeddings(data, tmp_path, cached=False, world=world))
    assert loaded[1]() is not None
    ids = np.array([3, 1, 2])
    assert torch.equal(kept[0][ids], kept[1][ids])


@pytest.mark.parametrize(
    ("text", "said"),
    [("none", "101 kB for singular values of 48 source noises"), ("modulation", "295 kB for embeddings of 24 prompts")],
)
def test_a_disk_without_room_is_said_before_anything_is_computed(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1000})())
    network = {**SMALL, "text": text}
    with pytest.raises(UserError, match=rf"{said}, and 1 kB are free; give another cache folder"):
        train(pairs, tmp_path / "out", cache=tmp_path / "cache", svd_dtype="float32", network=network)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
