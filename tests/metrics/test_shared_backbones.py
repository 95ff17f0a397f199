"""Metrics of one published file share a network, what a plan makes of it, and what is remembered of an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import small_clips as small
from reference.small_detectors import compbench_folder, geneval_folder, qwen_folder
from watched import dino as dino
from watched import pictures, sets

from bench import registry, suite
from bench.job import preflight
from bench.metrics import sharing
from bench.runner.judging import Asked, together
from bench.runner.plan import make_plan

pytestmark = pytest.mark.usefixtures("one_thread")

# Who shares -----------------------------------------------------------------------------------------------------------


def groups(*names: str) -> list[list[str]]:
    asked = [Asked(registry.get("metrics", name), "", {}) for name in names]
    return [[one.entry.name for one in group] for group in together(asked)]


def test_metrics_of_one_published_file_are_scored_together_and_no_others() -> None:
    """PickScore, HPSv2 and MPS are tunings of one architecture: their weights differ."""
    assert groups("fid", "pickscore", "diversity", "kid", "hpsv2", "fd_dinov2", "mps", "vendi") == [
        ["fid", "kid"], ["pickscore"], ["diversity", "fd_dinov2", "vendi"], ["hpsv2"], ["mps"]
    ]  # fmt: skip
    assert groups("clipscore", "aesthetic", "imagereward", "geneval", "cmmd", "t2i_compbench") == [
        ["clipscore", "t2i_compbench"], ["aesthetic", "geneval"], ["imagereward"], ["cmmd"]
    ]  # fmt: skip
    assert groups("vqascore", "soft_tifa") == [["vqascore"], ["soft_tifa"]], "readers of two sizes"


def test_another_precision_or_another_content_is_another_network(dino: Any, tmp_path: Path) -> None:
    vendi, other = dino["vendi"], sets().dino_folder(tmp_path, "another")
    assert vendi.networks() == dino["diversity"].networks() != registry.get("metrics", "vendi").networks()
    halves = [registry.get("metrics", name).configured(str(other), "bf16") for name in ("vendi", "diversity")]
    assert halves[0].networks() == halves[1].networks() != vendi.networks()
    assert halves[0].networks() != registry.get("metrics", "vendi").configured(str(other), "fp32").networks()


def test_the_embedded_metrics_share_as_the_real_ones_do() -> None:
    assert groups("shapes-clipscore", "shapes-geneval", "shapes-preference", "shapes-fid", "shapes-pickscore",
                  "shapes-diversity", "shapes-mps", "shapes-vendi", "shapes-aesthetic") == [
        ["shapes-clipscore", "shapes-fid", "shapes-diversity", "shapes-vendi", "shapes-aesthetic"],
        ["shapes-geneval"], ["shapes-preference", "shapes-pickscore"], ["shapes-mps"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("clipscore", lambda f: small.clip_folder(f / "clip-vit-base-patch32", "who", act="quick_gelu") and f),
        ("aesthetic", lambda f: small.aesthetic_folder(f, "who")),
        ("geneval", lambda f: geneval_folder(f, "who")),
        ("t2i_compbench", lambda f: compbench_folder(f, "who")),
        ("vqascore", lambda f: qwen_folder(f / "Qwen3-VL-2B-Instruct", "who") and f),
        ("vendi", lambda f: sets().dino_folder(f, "who")),
    ],
)
def test_what_a_metric_says_it_shares_is_what_it_loads(name: str, make: Any, tmp_path: Path) -> None:
    entry = registry.get("metrics", name).configured(str(make(tmp_path)), "fp32")
    loaded: Any = entry.loaded("cpu")
    network = loaded.backbone if hasattr(loaded, "backbone") else loaded.towers.backbone
    keys = [key for key, one in sharing._LOADED.items() if one is network]
    assert [key[1] for key in keys] == list(entry.networks())


def test_a_plan_prices_a_shared_network_once() -> None:
    text = "name: s\nmodels: [shapes-sdxl]\nprompts: [shapes-pickapic]\nsamplers: [ddim]\nsteps: 2\nguidance: 5.0\n"
    text += "seeds: [0, 1]\nbaseline: standard\nmethods: [standard]\nmetrics: "
    costs = {
        metrics: preflight.scoring(make_plan(suite.parse(text + metrics, file="s", limit=3), placeholders=True))
        for metrics in ("[vendi]", "[diversity, vendi]", "[vendi, clipscore]", "[clipscore]")
    }
    assert costs["[vendi]"].seconds == pytest.approx(6 * registry.get("metrics", "vendi").ms / 1000)
    assert costs["[diversity, vendi]"].seconds == costs["[vendi]"].seconds
    assert costs["[diversity, vendi]"].gib == costs["[vendi]"].gib
    both = costs["[vendi]"].seconds + costs["[clipscore]"].seconds
    assert costs["[vendi, clipscore]"].seconds == pytest.approx(both)


# What is remembered ---------------------------------------------------------------------------------------------------


def means(images: Sequence[np.ndarray]) -> torch.Tensor:
    ran.append(len(images))
    return torch.tensor([[float(image.mean())] for image in images])


ran: list[int] = []


def test_rows_are_of_one_network_one_way_and_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = pictures(3)
    network, other = sharing.Network(None), sharing.Network(None)
    ran.clear()
    ticks = iter(range(100))
    monkeypatch.setattr("bench.metrics.sharing.time.perf_counter", lambda: float(next(ticks)))
    network.once([a, a], "way", means)
    assert ran == [2], "outside nothing is remembered"
    with sharing.remembering() as memory:
        first = network.once([a, b], "way", means)
        again = network.once([b, c, a, b], "way", means)
        assert ran == [2, 2, 1]
        assert torch.equal(again, torch.stack([first[1], again[1], first[0], first[1]]))
        assert memory.spared == pytest.approx(3 * 0.5), "a second for two images, and three rows were spared"
        network.once([a], "another way", means)
        other.once([a], "way", means)
        network.once([a.copy()], "way", means)
        assert ran == [2, 2, 1, 1, 1, 1]
    network.once([a], "way", means)
    assert ran[-1] == 1


def test_what_did_not_fit_is_not_remembered() -> None:
    images = pictures(2)

    def large(some: Sequence[np.ndarray]) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    network = sharing.Network(None)
    with sharing.remembering() as memory:
        with pytest.raises(torch.OutOfMemoryError):
            network.once(images, "way", large)
        assert not memory.rows
        assert network.once(images[:1], "way", means).shape == (1, 1)
