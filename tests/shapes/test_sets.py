"""The embedded stand-ins of set metrics: what they tell apart, and that their reference is what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from covering import FULL

from bench import registry
from bench.metrics.distances import spread
from bench.shapes import sets
from bench.shapes.plugin import WEIGHTS
from bench.shapes.scenes import SIZE
from bench.shapes.tasks import captioned

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scenes() -> np.ndarray:
    return captioned(np.random.default_rng(5), 150, "pick-a-pic")[1]


def value(images: np.ndarray) -> float:
    entry = registry.get("metrics", "shapes-fid")
    rows = entry.loaded("cpu").features(list(images), [])
    return entry.value(rows.astype("<f4").astype(np.float64), np.ones(len(rows)))


def test_drawn_scenes_are_near_and_what_is_drawn_worse_is_further(scenes: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 25, scenes.shape)
    noisy = (scenes + noise).clip(0, 255).astype(np.uint8)
    one = np.repeat(scenes[:5], 30, axis=0)
    near, far, collapsed = value(scenes), value(noisy), value(one)
    assert near < 0.5 * min(far, collapsed), (near, far, collapsed)


def test_seeds_of_a_caption_differ_and_copies_do_not(scenes: np.ndarray) -> None:
    scorer = registry.get("metrics", "shapes-diversity").loaded("cpu")
    assert spread(scorer.features(list(scenes[:6]), [])) > 0.1
    assert spread(scorer.features([scenes[0]] * 6, [])) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_the_reference_is_what_is_drawn() -> None:
    """All of it every week; 400 other scenes have its mean within 5 standard errors in each of 64 features."""
    stored = np.load(sets.FILE)
    if FULL:
        for name, array in zip(("mu", "sigma"), sets.draw(WEIGHTS / "shapes-clip"), strict=True):
            np.testing.assert_allclose(array, stored[name], atol=1e-4 * np.abs(stored[name]).max())
    _, images = captioned(np.random.default_rng(6), 400, sets.SPLIT)
    rows = sets.ClipFeatures(WEIGHTS / "shapes-clip", "cpu").features(list(images)).astype(np.float64)
    apart = (rows.mean(0) - stored["mu"]) / (np.diag(stored["sigma"]) / len(rows)) ** 0.5
    assert np.abs(apart).max() < 5
    assert SIZE == 64


def test_every_set_metric_has_a_stand_in() -> None:
    names = ("fid", "kid", "fd_dinov2", "cmmd", "diversity", "lpips_diversity", "vendi")
    twins = {name: registry.twin("metrics", name) for name in names}
    assert set(twins.values()) == {"shapes-fid", "shapes-diversity", "shapes-vendi"}
    assert registry.twin("prompts", "imagenet-fish") is not None
