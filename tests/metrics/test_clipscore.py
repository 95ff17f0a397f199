"""CLIPScore on the embedded CLIP: 2.5 max(cos, 0), one image at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench import registry
from bench.errors import UserError
from bench.metrics.clipscore import ClipSimilarity
from bench.prompts.base import Prompt
from bench.shapes.plugin import WEIGHTS

FOLDER = WEIGHTS / "shapes-clip"


@cache
def scorer() -> ClipSimilarity:
    found: ClipSimilarity = registry.get("metrics", "shapes-clipscore").scorer("cpu")
    return found


@pytest.fixture(scope="module", autouse=True)
def freed() -> Iterator[None]:
    """No network outlives these tests: others in the same process look whether one does."""
    yield
    scorer.cache_clear()


@cache
def pairs() -> tuple[list[np.ndarray], list[Prompt]]:
    from bench.shapes.captions import sample, scene
    from bench.shapes.scenes import render

    rng = np.random.default_rng(5)
    captions = [sample(rng, "scorers") for _ in range(16)]
    images = [render(scene(c, rng)) for c in captions]
    # Every other caption is another image's.
    order = [i if i % 2 else (i + 2) % 16 for i in range(16)]
    return images, [Prompt(i, captions[j].prompt) for i, j in enumerate(order)]


@cache
def cosines() -> list[float]:
    """By transformers alone: one image and caption at a time, features normalised by hand."""
    from PIL import Image
    from transformers import CLIPModel, CLIPProcessor

    model = CLIPModel.from_pretrained(FOLDER, local_files_only=True, dtype=torch.float32).eval()
    processor = CLIPProcessor.from_pretrained(FOLDER, local_files_only=True)
    found = []
    for image, prompt in zip(*pairs(), strict=True):
        given = processor(
            text=prompt.text, images=Image.fromarray(image), return_tensors="pt", padding="max_length", truncation=True
        )
        with torch.no_grad():
            out = model(**given)
        a, b = out.image_embeds[0].double(), out.text_embeds[0].double()
        found.append(float(a @ b / (a.norm() * b.norm())))
    return found


def test_it_is_two_and_a_half_times_the_cosine_cut_at_zero() -> None:
    values = [v.value for v in scorer().score(*pairs())]
    np.testing.assert_allclose(values, [2.5 * max(c, 0) for c in cosines()], atol=1e-5)
    # The pairs hold what the rule turns on: scores apart from one another.
    assert np.ptp(values) > 0.1


def test_the_value_does_not_depend_on_the_rest_of_the_batch() -> None:
    images, prompts = pairs()
    together = [v.value for v in scorer().score(images, prompts)]
    alone = [scorer().score([i], [p])[0].value for i, p in zip(images, prompts, strict=True)]
    turned = [v.value for v in scorer().score(images[::-1], prompts[::-1])][::-1]
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(turned, together, atol=1e-5)


@pytest.mark.parametrize(("cosine", "value"), [(-0.7, 0.0), (-0.01, 0.0), (0.0, 0.0), (0.33, 0.825), (1.0, 2.5)])
def test_a_negative_cosine_scores_zero(cosine: float, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.82, the paper's level, is a cosine of 0.33."""
    text = torch.tensor([[cosine, (1 - cosine**2) ** 0.5]])
    stub: Any = SimpleNamespace(
        get_image_features=lambda **_: SimpleNamespace(pooler_output=torch.tensor([[3.0, 0.0]])),
        get_text_features=lambda **_: SimpleNamespace(pooler_output=5 * text),
    )
    monkeypatch.setattr(scorer(), "model", stub)
    images, prompts = pairs()
    assert scorer().score(images[:1], prompts[:1])[0].value == pytest.approx(value, abs=1e-6)


def test_no_prefix_stands_before_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The released code leaves out Hessel et al.'s "A photo depicts"."""
    asked: list[str] = []
    real = scorer().processor

    def watched(**given: Any) -> Any:
        asked.extend(given["text"])
        return real(**given)

    monkeypatch.setattr(scorer(), "processor", watched)
    images, prompts = pairs()
    scorer().score(images[:3], prompts[:3])
    assert asked == [p.text for p in prompts[:3]]


def test_a_prompt_of_any_length_is_cut_to_the_text_encoders() -> None:
    images, _ = pairs()
    long = Prompt(0, "a photo of a red circle and a blue square " * 40)
    assert 0 <= scorer().score(images[:1], [long])[0].value <= 2.5


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "clip"))


def test_a_missing_folder_is_the_users_to_fix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not load"):
        ClipSimilarity(tmp_path / "nowhere", "cpu")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors: corrupt"):
        ClipSimilarity(folder, "cpu")


def test_a_file_that_the_card_lists_and_the_folder_lacks_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json: missing"):
        ClipSimilarity(folder, "cpu")


def test_without_a_card_a_truncated_file_is_one_line_all_the_same(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "card.json").unlink()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="does not load") as caught:
        ClipSimilarity(folder, "cpu")
    assert "\n" not in str(caught.value)


def test_the_digest_follows_the_weights(tmp_path: Path) -> None:
    from bench.models.base import folder_digest

    folder = copied(tmp_path)
    before = folder_digest(folder)
    card = folder / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "note": "a card is not weights"}))
    assert folder_digest(folder) == before
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert folder_digest(folder) != before
