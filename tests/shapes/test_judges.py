"""What the preference model is trained on, and that its training resumes where it was killed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.shapes import training
from bench.shapes.captions import RELATIONS, sample, scene
from bench.shapes.detector import detect
from bench.shapes.judges import Crowd, train_preference
from bench.shapes.scenes import render
from bench.shapes.training import _schedule
from bench.shapes.votes import all_relations, faithfulness, utility

pytestmark = pytest.mark.usefixtures("one_thread")

Data = tuple[list, np.ndarray, np.ndarray, None]  # type: ignore[type-arg]


@pytest.fixture(scope="module")
def data() -> Data:
    """A dozen captions, every fourth one of places, with a true scene of each and three scenes of others."""
    rng = np.random.default_rng(30)
    captions = [sample(rng, "train", "position" if i % 4 == 0 else None) for i in range(12)]
    images = np.stack([[render(scene(captions[(i + k) % 12], rng)) for k in range(4)] for i in range(len(captions))])
    utilities = np.array([[utility(c, i) for i in four] for c, four in zip(captions, images, strict=True)])
    return captions, images, utilities, None


def test_of_the_scenes_of_all_relations_one_shows_it_and_the_opposite_lacks_it() -> None:
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    rng = np.random.default_rng(31)
    for _ in range(40):
        caption = sample(rng, "train", "position")
        said = caption.include[1]["position"][0]
        four = zip(RELATIONS, all_relations(caption, rng), strict=True)
        faith = {relation: faithfulness(caption, detect(image)) for relation, image in four}
        assert faith[said] == 1
        # Of three parts, two things and where they are; the other two may be diagonal, which is also right.
        assert faith[opposite[said]] == pytest.approx(2 / 3)
        assert all(f == 1 or f == pytest.approx(2 / 3) for f in faith.values())


def test_what_a_crowd_feels_is_what_voters_feel_of_the_very_pixels_it_is_shown(data: Data) -> None:
    """Mirrored or not, for a caption's own images: the mirror image's detections are not taken from its pixels."""
    crowd = Crowd(*data[:3], say=lambda text: None)
    assert len(crowd.captions) == 12 + len([c for c in data[0] if c.tag == "position"])
    rows = np.arange(len(crowd.captions))
    pixels, worth = crowd.gather(rows, np.random.default_rng(32))
    assert not (pixels.reshape(crowd.images.shape) == crowd.images).all(axis=(2, 3, 4)).all()
    for row in rows:
        for k in range(4):
            own = utility(crowd.captions[row], pixels[4 * row + k])
            assert float(worth[row, 4 * row + k]) == pytest.approx(own, abs=0.05)


def test_training_ends_the_same_when_it_was_killed_on_the_way(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def trained(out: Path) -> dict[str, torch.Tensor]:
        model, totals = train_preference(out, data, steps=2, batch=6, say=said.append)
        assert totals["steps"] == 2
        return dict(model.state_dict())

    whole, gather, calls = trained(tmp_path / "whole"), Crowd.gather, []

    def dying(self: Crowd, *args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return gather(self, *args)

    with monkeypatch.context() as killed:
        killed.setattr(training, "CHECKPOINT_SECONDS", 0.0)
        killed.setattr(Crowd, "gather", dying)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "parts")
    parts = trained(tmp_path / "parts")
    assert "preference: resuming at step 1" in said
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_the_learning_rate_rises_again_at_a_restart_to_half() -> None:
    rates = [_schedule(step, 300, warmup=10, restarts=(100, 200, 900)) for step in range(300)]
    assert rates[9] == pytest.approx(1, rel=0.05)
    assert rates[99] == pytest.approx(0.02, abs=0.01)
    assert max(rates[100:200]) == pytest.approx(0.5, rel=0.05) == max(rates[200:])
    assert rates[100] == pytest.approx(0.05)
    plain = [_schedule(step, 300, warmup=10, restarts=()) for step in range(300)]
    assert all(a >= b for a, b in itertools.pairwise(plain[9:]))
