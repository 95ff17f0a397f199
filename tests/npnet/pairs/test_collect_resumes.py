"""A collection that was killed or damaged ends as one left alone, and one that cannot resume says why."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Plug
from own_forks import killed_while

from bench import registry
from bench.errors import UserError
from bench.metrics.base import MetricEntry
from npnet.pairs import dataset
from npnet.pairs.collect import run
from npnet.pairs.collector import Collector
from npnet.pairs.rescore import score

from .collecting import images, quiet, settings_of, shards, together

pytestmark = pytest.mark.usefixtures("kept_models")


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def test_a_collection_killed_half_way_ends_as_one_left_alone(
    prompts: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with two of its three shards written, and what it may leave half-written beside them."""
    given, out = settings_of(prompts), tmp_path / "killed"
    inner = Collector.batch

    def batch(self: Collector, numbers: Sequence[int]) -> Any:
        if numbers[0] == 4:
            time.sleep(600)
        return inner(self, numbers)

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "batch", batch)
        collecting = partial(run, given, out=out, device="cpu", threads=1, say=quiet)
        number = killed_while(collecting, lambda: len(dataset.shards(out)) == 2)
    (out / f".pairs-000002.safetensors.{number}.tmp").write_bytes(b"half")
    (out / "images" / f".000005-source.png.{number}.tmp").write_bytes(b"half")
    for left in out.rglob("*.tmp"):
        os.utime(left, (0, 0))
    assert run(given, out=out, device="cpu", say=quiet) == 2
    assert not list(out.rglob("*.tmp"))
    assert shards(out) == shards(whole)
    assert images(out) == images(whole)
    assert run(given, out=out, device="cpu", say=quiet) == 0


def test_a_truncated_shard_is_named_and_made_again_once_deleted(whole: Path, prompts: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "c")
    path = dataset.shard_path(out, 1)
    good = path.read_bytes()
    path.write_bytes(good[:-100])
    with pytest.raises(UserError, match=r"pairs-000001\.safetensors: not a whole shard.*delete it"):
        run(settings_of(prompts), out=out, device="cpu", say=quiet)
    path.unlink()
    assert run(settings_of(prompts), out=out, device="cpu", say=quiet) == 2
    assert path.read_bytes() == good


def test_what_another_machine_may_still_be_writing_stays(whole: Path, prompts: Path, tmp_path: Path) -> None:
    """Its process number means nothing here; only what was not touched for a day is removed."""
    out = copied(whole, tmp_path / "c")
    fresh, old = out / ".pairs-000001.safetensors.4194305.tmp", out / "images" / ".000004-source.png.4194305.tmp"
    for path in (fresh, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    run(settings_of(prompts), out=out, device="cpu", say=quiet)
    assert (fresh.exists(), old.exists()) == (True, False)


def test_a_batch_that_does_not_fit_a_gpus_memory_is_halved(
    whole: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, tried = Collector.batch, []

    def batch(self: Collector, numbers: Sequence[int]) -> Any:
        tried.append(len(numbers))
        if len(numbers) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(self, numbers)

    monkeypatch.setattr(Collector, "batch", batch)
    run(settings_of(prompts, pairs=4), out=tmp_path, device="cpu", say=quiet)
    assert tried == [2, 1, 1, 1, 1]
    np.testing.assert_array_equal(together(tmp_path).source, together(whole).source[:4])


def test_scores_of_another_scorer_are_not_gone_on_with(whole: Path, prompts: Path, tmp_path: Path, plug: Plug) -> None:
    out = copied(whole, tmp_path / "c")
    dataset.shard_path(out, 2).unlink()
    entry: MetricEntry = registry.get("metrics", "shapes-clipscore")
    other = replace(entry, identify=lambda: "another")
    plug("metrics", **{"shapes-clipscore": other})
    with pytest.raises(
        UserError, match=r"scored by another shapes-clipscore \(\S+ there, another\+code:\w+ here\); score it again"
    ):
        run(settings_of(prompts), out=out, device="cpu", say=quiet)
    assert score(out, metrics=["shapes-clipscore"], device="cpu") == 8
    assert run(settings_of(prompts), out=out, device="cpu", say=quiet) == 2


def test_a_lost_image_is_made_again(whole: Path, prompts: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "c")
    dataset.image_path(out, 5, "target").unlink()
    assert run(settings_of(prompts), out=out, device="cpu", say=quiet) == 2
    assert images(out) == images(whole)
