"""Networks that metrics share are loaded once and run once an image, change no value, and are freed before others."""

from __future__ import annotations

import gc
import importlib
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from reference import small_clips as small
from reference.small_detectors import compbench_folder, geneval_folder, qwen_folder

from bench import registry, suite
from bench.job import preflight
from bench.metrics import sharing
from bench.metrics.base import MetricEntry
from bench.metrics.features import DinoFeatures, InceptionFeatures, inception, set_entry
from bench.prompts.base import Prompt
from bench.runner import judging
from bench.runner.judging import Asked, together
from bench.runner.plan import make_plan
from bench.runner.score import Task, score
from bench.store import Image, Ledger
from bench.store.images import pixel_digest

pytestmark = pytest.mark.usefixtures("one_thread")
DINO = ("fd_dinov2", "diversity", "vendi")
TIMES: dict[str, Any] = {"calls_noise": 0, "calls_sampling": 1, "encode_ms": 0, "noise_ms": 0, "sampling_ms": 0}
TIMES |= {"decode_ms": 0}
ACTION = "A person is looking at a rainbow and marveling at its beauty."


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


# Who shares ----------------------------------------------------------------------------------------------------------


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


# A run ---------------------------------------------------------------------------------------------------------------


def test_three_metrics_of_one_network_load_it_once_and_run_it_once_an_image(dino: Any, tmp_path: Path) -> None:
    images, prompt = pictures(5), Prompt(0, "a circle")
    with watching("Dinov2Model") as watched:
        together = judged(tmp_path / "together", images, dino, prompt)
        # One more forward, of a black image, asks for the width that the reference must have.
        assert (len(watched.seen), watched.rows, watched.alive) == (1, len(images) + 1, 0)
    with watching("Dinov2Model") as watched:
        alone: dict[Any, Any] = {}
        for name, entry in dino.items():
            alone |= judged(tmp_path / name, images, {name: entry}, prompt)
        assert (len(watched.seen), watched.rows, watched.alive) == (3, 3 * len(images) + 1, 0)
    assert len(together) == 15
    assert together == alone


def test_inceptions_metrics_say_the_same_together_and_alone(tmp_path: Path) -> None:
    folder = sets().converted_folder(tmp_path / "inception", "shared")
    rows = [replace(registry.get("metrics", name), refer=None, reference=None) for name in ("fid", "kid")]
    entries = {row.name: set_entry(row, InceptionFeatures, inception(row.name).at(str(folder))) for row in rows}
    images, prompt = pictures(3), Prompt(0, "a circle")
    with watching("Inception") as watched:
        together = judged(tmp_path / "together", images, entries, prompt)
        assert (len(watched.seen), watched.rows, watched.alive) == (1, len(images), 0)
    alone = judged(tmp_path / "alone", images, {"kid": entries["kid"]}, prompt)
    assert {key: value for key, value in together.items() if key[2] == "kid"} == alone


def test_clipscore_and_compbench_look_at_an_image_once(tmp_path: Path) -> None:
    """Of the categories that CLIP judges; the words that they compare it with are not the same."""
    folder = compbench_folder(tmp_path / "port", "shared")
    clip = small.clip_folder(tmp_path / "clip" / "clip-vit-base-patch32", "shared", act="quick_gelu").parent
    entries = {
        "t2i_compbench": registry.get("metrics", "t2i_compbench").configured(str(folder), "fp32"),
        "clipscore": registry.get("metrics", "clipscore").configured(str(clip), "fp32"),
    }
    images, prompt = small.images("all")[:3], Prompt(0, ACTION, "", {"compbench": "non_spatial"})
    with watching("CLIPVisionModel") as watched:
        together = judged(tmp_path / "together", images, entries, prompt)
        assert (len(watched.seen), watched.rows, watched.alive) == (1, len(images), 0)
    alone: dict[Any, Any] = {}
    for name, entry in entries.items():
        alone |= judged(tmp_path / name, images, {name: entry}, prompt)
    assert together.keys() == alone.keys()
    np.testing.assert_allclose([together[k] for k in alone], list(alone.values()), rtol=0, atol=1e-6)


def test_the_embedded_clip_is_loaded_once_and_changes_no_value(tmp_path: Path) -> None:
    names = ("shapes-clipscore", "shapes-fid", "shapes-aesthetic", "shapes-diversity", "shapes-vendi")
    entries = {name: registry.get("metrics", name) for name in names}
    images, prompt = pictures(4, side=64), Prompt(0, "a red circle")
    with watching("CLIPVisionModel") as watched:
        together = judged(tmp_path / "together", images, entries, prompt)
        # Once by transformers' own preparation for the cosine, once by ours for the other four.
        assert (len(watched.seen), watched.rows, watched.alive) == (1, 2 * len(images), 0)
    alone: dict[Any, Any] = {}
    for name, entry in entries.items():
        alone |= judged(tmp_path / name, images, {name: entry}, prompt)
    assert together == alone


def test_a_network_is_gone_before_one_that_is_not_its_own_is_loaded(dino: Any, tmp_path: Path) -> None:
    folder = geneval_folder(tmp_path / "geneval", "freed")
    geneval = registry.get("metrics", "geneval").configured(str(folder), "fp32")
    metadata = {"tag": "single_object", "include": [{"class": "bird", "count": 1}]}
    with watching("Mask2FormerForUniversalSegmentation") as first, watching("CLIPVisionModel") as second:
        alive: list[int] = []

        def load(device: str) -> Any:
            alive.append(first.alive + second.alive)
            return dino["vendi"].load(device)

        entries = {"geneval": geneval, "vendi": replace(dino["vendi"], load=load)}
        judged(tmp_path / "run", pictures(2, side=64), entries, Prompt(0, "a bird", "", metadata))
        assert first.rows == 2
        assert alive == [0]


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


# Resuming ------------------------------------------------------------------------------------------------------------


class Killed(KeyboardInterrupt):
    """Stands for a signal, which no plugin's arm or metric holds."""


def test_a_run_that_was_killed_between_sharers_resumes_where_it_was(
    dino: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "BATCH", 2)
    images, prompt = pictures(5), Prompt(0, "a circle")
    whole = judged(tmp_path / "whole", images, dino, prompt)
    work = {name: [Task(str(i), prompt) for i in range(5)] for name in dino}
    ledger = ledger_of(tmp_path / "run", images)
    asked, features = 0, DinoFeatures.features

    def counted(self: DinoFeatures, images: Any, prompts: Any = ()) -> Any:
        nonlocal asked
        asked += len(images) > 1  # one is the black image that asks for the width
        if asked == 5:
            raise Killed
        return features(self, images, prompts)

    with registry.configured("metrics", dino):
        with monkeypatch.context() as patch:
            patch.setattr(DinoFeatures, "features", counted)
            with pytest.raises(Killed):
                score(work, ledger, device="cpu")
        of = {name: sum(key[2] == name for key in kept(ledger)) for name in dino}
        assert of == {"fd_dinov2": 2, "diversity": 2, "vendi": 2}, "a batch is kept by all of them or by none"
        with watching("Dinov2Model") as watched:
            score(work, ledger, device="cpu")
            assert watched.rows == 4, "one black image, and three that were not judged"
            assert score(work, ledger, device="cpu") == {}
    assert kept(ledger) == whole
    gc.collect()
    assert not [network for key, network in sharing._LOADED.items() if key[0] == "dinov2"]


# What is remembered --------------------------------------------------------------------------------------------------


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
