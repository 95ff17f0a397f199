"""The synthetic labels that the embedded scorers are trained on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bench.shapes.captions import Caption, foil, sample, scene
from bench.shapes.detector import detect
from bench.shapes.scenes import BACKGROUNDS, Object, Scene, render
from bench.shapes.votes import faithfulness, rating, utility, vote

RED_AND_BLUE = Caption(
    "a red circle and a blue square",
    "color_attr",
    ({"class": "circle", "count": 1, "color": "red"}, {"class": "square", "count": 1, "color": "blue"}),
)
CIRCLE, SQUARE = Object("circle", "red", 20, 5, 5), Object("square", "blue", 20, 35, 35)


def test_faithfulness_is_the_share_of_what_was_asked_for() -> None:
    """Two clauses with a colour each have four parts; an extra object costs a fifth of the whole."""

    def of(*objects: Object) -> float:
        return faithfulness(RED_AND_BLUE, detect(render(Scene("white", objects))))

    assert of(CIRCLE, SQUARE) == 1
    assert of(CIRCLE) == pytest.approx(2 / 4)
    assert of(CIRCLE, Object("square", "red", 20, 35, 35)) == pytest.approx(3 / 4)
    assert of(CIRCLE, SQUARE, Object("star", "green", 18, 40, 5)) == pytest.approx(0.8)
    assert of() == 0


def test_voters_like_a_true_scene_better_than_its_foils() -> None:
    rng = np.random.default_rng(20)
    for _ in range(100):
        caption = sample(rng, "scorers")
        false = foil(caption, rng)
        assert false is not None
        true_image = render(scene(caption, rng))
        false_image = render(scene(false, rng, allow_held_out=True))
        if caption.tag != "position":  # a scene near the diagonal may be true for both
            assert utility(caption, true_image) > utility(caption, false_image)


def test_voters_like_a_clean_drawing_better_than_a_noisy_one() -> None:
    rng = np.random.default_rng(21)
    image = render(Scene("white", (CIRCLE, SQUARE)))
    noisy = np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
    assert utility(RED_AND_BLUE, image) > utility(RED_AND_BLUE, noisy)


def test_ratings_lie_between_one_and_ten_and_look_at_the_picture_alone() -> None:
    rng = np.random.default_rng(22)
    values = [rating(render(scene(sample(rng, "scorers"), rng))) for _ in range(200)]
    values += [rating(render(Scene(g, ()))) for g in BACKGROUNDS]
    assert all(1 <= v <= 10 for v in values)
    assert np.ptp(values) > 2


@pytest.mark.parametrize("difference", [-2.0, 0.0, 0.5, 3.0])
def test_a_vote_is_bradley_terrys(difference: float) -> None:
    """The first of two wins with probability 1 / (1 + exp(u2 - u1)): five standard errors of 20,000 votes."""
    n = 20_000
    votes = vote(torch.tensor([[1.0 + difference, 1.0]]).expand(n, 2), np.random.default_rng(23))
    p = 1 / (1 + math.exp(-difference))
    assert set(votes.unique().tolist()) <= {0.0, 1.0}
    assert abs(float(votes.mean()) - p) < 5 * math.sqrt(p * (1 - p) / n)
