"""SDXL and the paper's scorers at true size with random weights: minutes, and gigabytes of memory and disk.

`NOISEBENCH_LARGE=1 python -m pytest tests/perf/test_true_size.py` asks for them, `--benchmark-enable` measures.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.large,
    pytest.mark.skipif(
        os.environ.get("NOISEBENCH_LARGE") != "1",
        reason="networks of true size take minutes and gigabytes: NOISEBENCH_LARGE=1 asks for them",
    ),
    pytest.mark.usefixtures("one_thread"),
]
BATCHES = (1, 8)
MEASURED = ("hpsv2", "pickscore", "aesthetic", "clipscore", "imagereward", "geneval", "fid")


@pytest.fixture(scope="module", params=MEASURED)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A metric and its checkpoint folder, which is removed before the next is written."""
    import shutil

    from true_sizes import checkpoint

    folder = tmp_path_factory.mktemp("true")
    yield request.param, checkpoint(request.param, folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("batch", BATCHES)
def test_our_scorer(benchmark: Any, checkpoint: tuple[str, Path], batch: int) -> None:
    import scorers

    images, prompts = scorers.material(batch, 1024)
    many = scorers.ours(*checkpoint, batch)
    answers = benchmark.pedantic(many, args=(images, prompts), rounds=2, warmup_rounds=1)
    assert len(answers) == batch


def test_the_published_way(benchmark: Any, checkpoint: tuple[str, Path]) -> None:
    import published
    import scorers
    import torch

    from bench.errors import UserError

    metric, folder = checkpoint
    images, prompts = scorers.material(1, 1024)
    with torch.no_grad():
        try:
            one = published.THEIRS[metric](folder)
        except UserError as error:
            pytest.skip(str(error))
        answer = benchmark.pedantic(one, args=(images[0], prompts[0]), rounds=2, warmup_rounds=1)
    if metric in published.SAME:
        ours = scorers.ours(metric, folder, 1)(images, prompts)[0]
        assert answer == pytest.approx(ours, rel=0, abs=published.SAME[metric])


def test_sdxl_is_made_and_scored_by_all_the_papers_metrics(tmp_path: Path) -> None:
    import sdxl
    from true_sizes import FOLDERS

    suite = sdxl.write_suite(tmp_path, tuple(FOLDERS), steps=1, size=256)
    done = sdxl.run(suite, device="cpu", threads=1)
    assert done.code == 0, done.said
    assert done.gib < 16
    images = done.query("SELECT file, calls_sampling FROM images")
    assert [calls for _, calls in images] == [1, 1], "standard and reseed, one step each"
    assert all((done.folder / "images" / Path(file).name).stat().st_size > 10_000 for file, _ in images)
    values = done.query("SELECT metric, value FROM scores UNION ALL SELECT metric, value FROM pair_scores")
    assert {metric for metric, _ in values} == set(FOLDERS) - {"fid"}
    assert all(math.isfinite(value) for _, value in values)
    assert done.query("SELECT COUNT(*) FROM features WHERE metric = 'fid'") == [(2,)]
    assert done.query("SELECT COUNT(*) FROM score_failures") == [(0,)]
