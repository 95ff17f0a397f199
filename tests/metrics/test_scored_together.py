"""Networks that metrics share are loaded once and run once an image, change no value, and are freed before others."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept_models import nothing_kept as nothing_kept
from reference import small_clips as small
from reference.small_detectors import compbench_folder, geneval_folder
from watched import dino as dino
from watched import judged, kept, ledger_of, pictures, sets, watching

from bench import registry
from bench.metrics import sharing
from bench.metrics.features import DinoFeatures, InceptionFeatures, inception, set_entry
from bench.prompts.base import Prompt
from bench.runner import judging
from bench.runner.score import Task, score

pytestmark = pytest.mark.usefixtures("one_thread", "nothing_kept")
ACTION = "A person is looking at a rainbow and marveling at its beauty."


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


# Resuming -------------------------------------------------------------------------------------------------------------


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
