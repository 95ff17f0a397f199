"""Real scorers on small random checkpoints: digests, precision, memory, pixels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import small_blip
from reference import small_clips as small
from small_scorers import PROMPTS, entry_at, pictures
from small_scorers import hps as hps

from bench import registry
from bench.errors import UserError
from bench.metrics.base import MetricEntry
from bench.metrics.pixels import cropped, padded
from bench.prompts.base import Prompt

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_digest_follows_content_and_precision_not_place(hps: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(hps, tmp_path / "copy"))
    first, own = entry_at("hpsv2", hps).digest(), entry_at("hpsv2", hps).identify()
    assert entry_at("hpsv2", copy).digest() == first
    assert entry_at("hpsv2", copy, "bf16").identify() == f"{own}:bf16"
    file = copy / "HPS_v2.1_compressed.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    assert entry_at("hpsv2", copy).digest() != first
    assert registry.get("metrics", "hpsv2").digest() != first, "the published file is another one"
    second = entry_at("hpsv2", copy).digest()
    config = copy / "open_clip_config.json"
    config.write_text(config.read_text() + "\n")
    assert entry_at("hpsv2", copy).digest() != second, "the same weights by another architecture"


def test_a_file_that_is_not_published_is_known_by_its_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry: MetricEntry = registry.get("metrics", "mps")
    digests = [entry.digest()]
    for place, content in (("one", b"a"), ("two", b"b"), ("three", b"a")):
        monkeypatch.setenv("BENCH_SCORERS", str(tmp_path / place))
        digests.append(entry.digest())
        assert digests[-1] == digests[0]
        assert not entry.of_this_machine
        (tmp_path / place).mkdir()
        (tmp_path / place / "MPS_overall_state.pth").write_bytes(content)
        digests.append(entry.digest())
        assert entry.of_this_machine
    assert digests[2] == digests[6]
    assert len(set(digests)) == 3


def test_half_precision_is_near_and_is_not_single(hps: Path) -> None:
    exact, half = (
        np.array([v.value for v in entry_at("hpsv2", hps, dtype).scorer("cpu").score(pictures(), PROMPTS)])
        for dtype in ("fp32", "bf16")
    )
    assert 1e-6 < np.abs(exact - half).max() < 0.03


def test_a_batch_that_does_not_fit_is_halved_until_it_does(hps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer: Any = entry_at("hpsv2", hps).scorer("cpu")
    expected = [v.value for v in scorer.score(pictures() * 3, PROMPTS * 3)]
    tried: list[int] = []
    judge = scorer.judge

    def little_memory(images: Any, prompts: Any) -> Any:
        tried.append(len(images))
        if len(images) > fits:
            raise torch.OutOfMemoryError("no room")
        return judge(images, prompts)

    monkeypatch.setattr(scorer, "judge", little_memory)
    fits = 2
    values = [v.value for v in scorer.score(pictures() * 3, PROMPTS * 3)]
    np.testing.assert_allclose(values, expected, rtol=0, atol=5e-7)
    assert tried == [6, 3, 1, 1, 1, 1, 1, 1]
    fits = 0
    with pytest.raises(UserError, match="one image does not fit the memory of cpu"):
        scorer.score(pictures(), PROMPTS)


def test_pixels_are_torchvisions_and_transformers_own() -> None:
    """The two croppings differ where a margin is odd, and each is its library's."""
    from PIL import Image
    from torchvision import transforms
    from transformers import CLIPImageProcessorPil

    from bench.metrics.pixels import CLIP_MEAN, CLIP_STD

    resize = transforms.Resize(224, interpolation=transforms.InterpolationMode.BICUBIC)
    steps = [resize, transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(CLIP_MEAN, CLIP_STD)]
    theirs, processor = transforms.Compose(steps), CLIPImageProcessorPil()
    apart = 0
    for image in small.images("pixels"):
        ours = [cropped([image], 224, crop)[0] for crop in ("torchvision", "transformers")]
        torch.testing.assert_close(ours[0], theirs(Image.fromarray(image)), rtol=0, atol=5e-7)
        expected = processor(images=Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(ours[1], expected, rtol=0, atol=5e-7)
        apart += not torch.equal(*ours)
    assert apart, "no margin of these sizes is rounded another way"


def test_an_image_of_one_long_side_is_padded_with_black_on_both_sides() -> None:
    flat = padded([np.full((30, 448, 3), 255, np.uint8)], 224)[0]
    black, white = flat[:, 0, 0], flat[:, 112, 112]
    assert torch.equal(flat[:, :104].flatten(1).amax(1), black)
    assert torch.equal(flat[:, 119:].flatten(1).amax(1), black)
    assert torch.allclose(flat[:, 106:117].flatten(1).amin(1), white, atol=1e-3)
    # The package leaves an image of 224 by less as it is, and its network then fails; here it is padded too.
    assert padded([np.zeros((100, 224, 3), np.uint8)], 224).shape == (1, 3, 224, 224)
    assert padded([np.zeros((1, 1000, 3), np.uint8)], 224).shape == (1, 3, 224, 224)


def test_imagereward_cuts_a_prompt_at_35_tokens(tmp_path: Path) -> None:
    scorer: Any = entry_at("imagereward", small_blip.reward_folder(tmp_path, "cut")).scorer("cpu")
    texts = ["red cat " * n for n in (16, 17, 40)]  # 33 words of a prompt fit between the two tokens at its ends
    first, second, third = (
        scorer.score(pictures()[:1], [Prompt(0, text + end)])[0].value
        for text, end in zip(texts, (" dog", "", ""), strict=True)
    )
    assert second == third
    assert abs(first - second) > 1e-3
