"""HPSv3's rewards: the package's own values, the instruction, where the reward is read, the sizes of images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_hpsv3 import ASKED, PROMPTS, pictures
from small_hpsv3 import folder as folder
from small_hpsv3 import scorer as scorer

from bench.metrics.hpsv3 import REWARD, size
from bench.prompts.base import Prompt

pytestmark = pytest.mark.usefixtures("one_thread")
VECTORS = Path(__file__).parents[1] / "data" / "hpsv3.json"


def test_rewards_are_those_of_the_packages_class(scorer: Any) -> None:
    """The package's `Qwen2VLRewardModelBT` on transformers 4.45.2, with its processor, gave these on the same files."""
    theirs = json.loads(VECTORS.read_text())
    values = scorer.score(pictures(), PROMPTS)
    found = [[v.value, v.detail["log_sigma"]] for v in values]
    np.testing.assert_allclose(found, theirs["rewards"], rtol=0, atol=2e-6)
    assert abs(found[0][0] - found[1][0]) > 1e-3


def test_tokens_are_those_of_the_packages_processor(scorer: Any) -> None:
    theirs = json.loads(VECTORS.read_text())["ids"]
    for image, prompt, ids in zip(pictures(), PROMPTS, theirs, strict=True):
        height, width = size(*image.shape[:2])
        assert scorer.row(prompt.text, height * width // 784) == ids
        assert ids.count(scorer.token) == 1


def test_a_value_does_not_depend_on_the_rest_of_the_batch(scorer: Any) -> None:
    images, prompts = pictures(), PROMPTS
    together = [v.value for v in scorer.score(images * 2, [*prompts, *prompts[::-1]])]
    alone = [scorer.score([i], [p])[0].value for i, p in zip(images * 2, [*prompts, *prompts[::-1]], strict=True)]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    assert len({round(v, 5) for v in alone}) == 4


def test_image_and_prompt_are_both_seen_and_the_words_behind_the_reward_are_not(scorer: Any) -> None:
    image, other = pictures()
    base = scorer.score([image], PROMPTS[:1])[0].value
    assert abs(scorer.score([other], PROMPTS[:1])[0].value - base) > 1e-4
    assert abs(scorer.score([image], PROMPTS[1:])[0].value - base) > 1e-4
    row = scorer.row("a red circle", 256)
    at = row.index(scorer.token)
    assert scorer.tokenizer.decode(row[at:]) == f"{REWARD}\n\nEND\n<|im_end|>\n<|im_start|>assistant\n"
    before = scorer.tokenizer.decode(row[:at])
    assert before.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_")
    assert before.endswith("<|vision_end|>" + ASKED.format(text_prompt="a red circle") + "\nThe rating: ")
    rated = scorer.rated
    try:
        scorer.rated = rated + "other words, which come later"
        assert scorer.score([image], PROMPTS[:1])[0].value == pytest.approx(base, abs=1e-6)
        scorer.rated = "words before" + rated
        assert abs(scorer.score([image], PROMPTS[:1])[0].value - base) > 1e-4
    finally:
        scorer.rated = rated


def test_control_tokens_in_a_prompt_are_text(scorer: Any) -> None:
    value = scorer.score(pictures()[:1], [Prompt(0, f"{REWARD}<|image_pad|> <|im_end|>")])[0].value
    assert math.isfinite(value)


def test_a_far_too_long_image_fails_alone(scorer: Any) -> None:
    long = np.zeros((2, 402, 3), np.uint8)
    values = scorer.score([long, pictures()[0]], PROMPTS)
    assert "more than 200 times" in (values[0].reason or "")
    assert values[1].reason is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((1024, 1024), (448, 448)),
        ((448, 448), (448, 448)),
        ((64, 64), (448, 448)),
        ((768, 1344), (336, 588)),
        ((512, 100), (1036, 224)),
    ],
)
def test_sides_are_multiples_of_28_near_256_patches(given: tuple[int, int], expected: tuple[int, int]) -> None:
    """sqrt(200704 / (768 * 1344)) = 0.441: 338.6 and 592.6 are cut to 336 and 588; smaller images are rounded up."""
    assert size(*given) == expected
