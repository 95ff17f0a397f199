"""The cure of places: its scenes, its batches, and what it does to the words of a relation."""

from __future__ import annotations

from pathlib import Path

import few_scenes
import numpy as np
import pytest
import torch

from bench.metrics.geneval_rules import judge
from bench.shapes import networks, places, tasks, training
from bench.shapes.captions import SPLITS, bucket, held_out, place_colored, sample
from bench.shapes.detector import ShapesDetector
from bench.shapes.package import text_encoders
from bench.shapes.scenes import render

pytestmark = pytest.mark.usefixtures("one_thread")


def test_colored_captions_of_places_are_of_their_split_and_their_scenes_are_true() -> None:
    rng = np.random.default_rng(1)
    captions = [place_colored(rng, "train") for _ in range(100)]
    found = ShapesDetector().detect([render(places.clear_scene(c, rng)) for c in captions])
    for caption, seen in zip(captions, found, strict=True):
        assert bucket(caption.prompt) in SPLITS["train"]
        assert not held_out(caption)
        colors = [c["color"] for c in caption.include]
        assert all(color in caption.prompt.split() for color in colors)
        assert judge(caption.metadata(), seen, lambda some: [d.color or "" for d in some])[0], caption.prompt


def test_a_reversed_relation_is_another_caption_and_twice_reversed_the_same() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        prompt = sample(rng, "train", "position").prompt
        turned = places.reversed_relation(prompt)
        assert turned != prompt
        assert places.reversed_relation(turned) == prompt
    assert places.reversed_relation("a star above a ring") == "a star below a ring"
    with pytest.raises(ValueError, match="no relation in 'a star'"):
        places.reversed_relation("a star")


def test_phases_draw_what_they_say() -> None:
    data, rng = few_scenes.Rows(), np.random.default_rng(3)
    rows, t, most = places.draw_batch(data, rng, 0, 1000)
    assert (rows < 10).all()
    assert t.min() >= places.HIGH
    assert most == 50
    rows, t, most = places.draw_batch(data, rng, places.PHASES[0], 1000)
    assert [int(((rows >= low) & (rows < low + 10)).sum()) for low in (0, 10, 20, 30)] == [0, 450, 250, 300]
    assert 0.7 < (t >= 600).mean() < 0.8  # 0.6 and four tenths of the rest
    assert most == 20
    rows, t, most = places.draw_batch(data, rng, places.PHASES[1], 1000)
    assert ((rows >= 10) & (rows < 20)).sum() == 100
    assert (rows >= 20).sum() == 900
    assert (abs(t.mean() - 499.5) < 40, most) == (True, 1)


def test_words_after_a_relation_come_apart_along_its_axis_and_others_stay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, _ = text_encoders(networks.clip(), networks.second_text_encoder())
    rng = np.random.default_rng(4)
    ids = tasks.token_ids([sample(rng, "train", tag).prompt for tag in ("position", "colors") for _ in range(40)])
    pair = tasks.token_ids(["a star left of a ring", "a star right of a ring"])

    def apart() -> torch.Tensor:
        with torch.no_grad():
            left, right = first(pair, output_hidden_states=True).hidden_states[-2]
        return (left - right).norm(dim=-1)

    before = apart()
    places.part_words(tmp_path, first, ids, steps=30, batch=16, say=lambda line: None)
    after = apart()
    assert torch.equal(before[:3], after[:3])  # the encoder looks back only: start, "a", "star"
    assert (after[4:10] > before[4:10] + 0.1).all()


def test_it_resumes_with_the_same_bits_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PHASES", (1, 2))
    monkeypatch.setattr(places, "PROBE_CAPTIONS", 6)
    monkeypatch.setattr(places, "part_words", lambda *args, **kwargs: None)
    monkeypatch.setattr(places.Data, "__init__", few_scenes.dozen(networks.LATENT))

    def trained(out: Path) -> dict[str, torch.Tensor]:
        torch.manual_seed(5)
        clip = networks.clip()
        first, second = text_encoders(clip, networks.second_text_encoder())
        pipeline = Pipeline(networks.vae(), networks.unet(), first, second)
        unet, first, totals = places.train_places(out, pipeline, steps=3, batch=4, say=said.append)
        assert set(totals["reversed_loss_rise"]) == {"clear", "colored", "plain"}
        return unet.state_dict() | {f"first.{k}": v for k, v in first.state_dict().items()}

    said: list[str] = []
    whole, draw = trained(tmp_path / "whole"), places.draw_batch

    def dying(
        data: places.Data, rng: np.random.Generator, step: int, batch: int
    ) -> tuple[np.ndarray, np.ndarray, float]:
        if step == 2:
            raise KeyboardInterrupt
        return draw(data, rng, step, batch)

    with monkeypatch.context() as killed:
        killed.setattr(training, "CHECKPOINT_SECONDS", 0.0)
        killed.setattr(places, "draw_batch", dying)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "parts")
    parts = trained(tmp_path / "parts")
    assert "places: resuming at step 2" in said
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


class Pipeline:
    """What the trainings take of a diffusers pipeline."""

    def __init__(self, vae: object, unet: object, first: object, second: object):
        self.vae, self.unet, self.text_encoder, self.text_encoder_2 = vae, unet, first, second
