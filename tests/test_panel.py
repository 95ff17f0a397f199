"""A group of scorers in work: what does not fit a device's memory is judged in smaller parts, by any kind of scorer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.metrics.base import Kind, MetricEntry, Value
from bench.prompts.base import Prompt
from bench.runner.panel import Ask, File, Item, Panel, Said
from bench.store.images import pixel_digest

HUGE = 255
"""The grey level of the image that fits no memory."""


class Small:
    """A scorer of every kind on a device with room for two images."""

    def __init__(self) -> None:
        self.tried: list[int] = []

    def grey(self, images: Sequence[np.ndarray]) -> list[float]:
        self.tried.append(len(images))
        grey = [float(image.mean()) for image in images]
        if len(images) > 2 or HUGE in grey:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return grey

    def score(self, images: Any, prompts: Any) -> list[Value]:
        assert len(images) == len(prompts)
        return [Value(grey) for grey in self.grey(images)]

    def score_pairs(self, baseline_images: Any, method_images: Any, prompts: Any) -> list[Value]:
        assert len(baseline_images) == len(prompts)
        return [Value(grey / 255) for grey in self.grey(method_images)]

    def features(self, images: Any, prompts: Any) -> np.ndarray:
        return np.array([[grey] for grey in self.grey(images)], dtype=np.float32)


def entry(name: str, kind: Kind, scorer: Any) -> MetricEntry:
    value = (lambda features, weights: 0.0) if kind == "set" else None
    return MetricEntry(name, name, "levels", lambda device: scorer, lambda: f"{name}-1", kind=kind, value=value)


def asked(greys: Sequence[int], *metrics: str, pair: bool = False) -> Ask:
    """One-coloured images to judge; for a metric of pairs each beside a black one."""
    items, files = [], {}
    for number, grey in enumerate([*greys, 0]):
        pixels = np.full((4, 4, 3), grey, np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        files[pixel_digest(pixels)] = File(f"{grey}.png", content.getvalue())
        shown = (pixel_digest(pixels), pixel_digest(np.zeros((4, 4, 3), np.uint8)))[: 2 if pair else 1]
        items.append(Item((*shown, str(number)), shown, Prompt(number, "grey"), metrics))
    return Ask(tuple(items[:-1]), files)


def kept(said: Said) -> list[Any]:
    return [one if isinstance(one, str) else one[0] for _, one in said.kept]


@pytest.mark.parametrize("kind", ["image", "pair", "set"])
def test_a_batch_that_does_not_fit_is_halved_and_later_ones_stay_as_small(kind: Kind) -> None:
    scorer = Small()
    panel = Panel([entry("small", kind, scorer)], "cpu")
    (said,) = panel.do(asked([1, 2, 3, 4, 5], "small", pair=kind == "pair"))()
    expected = {"image": [1, 2, 3, 4, 5], "pair": [i / 255 for i in range(1, 6)],
                "set": [np.float32(i).tobytes() for i in range(1, 6)]}  # fmt: skip
    assert kept(said) == expected[kind], "each image has its own score, in the order of the batch"
    assert scorer.tried == [5, 2, 2, 1]
    scorer.tried.clear()
    panel.do(asked([6, 7, 8], "small", pair=kind == "pair"))()
    assert scorer.tried == [2, 1]


def test_an_image_that_does_not_fit_alone_has_no_score_and_costs_no_other_one_or_metric() -> None:
    small, other = entry("small", "image", Small()), Small()
    roomy = entry("roomy", "image", other)
    other.grey = lambda images: [float(image.mean()) for image in images]  # type: ignore[method-assign]
    said = Panel([small, roomy], "cpu").do(asked([1, HUGE, 3], "small", "roomy"))()
    assert [one.metric for one in said] == ["small", "roomy"]
    assert kept(said[0]) == [1, "one image does not fit the memory of cpu", 3]
    assert kept(said[1]) == [1, HUGE, 3]
