"""Our scorers against the original packages themselves, run in their environments (`tox -e reference`).

They are skipped unless NOISEBENCH_REFERENCE=1 asks for them, and then the environments must be there. Weights are small
and random, as the vectors' are; images are files of every kind that Pillow opens, given to the package as they
are and to our scorer as `bench.store.images.rgb` reads them.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_blip
import small_clips as small
from PIL import Image

from bench import environments, registry
from bench.prompts.base import Prompt
from bench.store.images import rgb

pytestmark = pytest.mark.usefixtures("one_thread")
PACKAGES: dict[str, tuple[str, Callable[[Path, str], Path], float]] = {
    # metric: environment, what makes its folder, largest difference allowed (as for the vectors)
    "hpsv2": ("hpsv2", small.hps_folder, 1.5e-7),
    "imagereward": ("image-reward", small_blip.reward_folder, 1e-6),
}
PROMPTS = (*small.PROMPTS, "word " * 400, "\u202eعربى", "a\x00b", "<|endoftext|> [ENC] [SEP]")


@pytest.fixture(scope="module", params=PACKAGES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Any, float]:
    """(metric, the package's worker, our scorer, the bar) on the same small random weights."""
    name: str = request.param
    environment, folder_of, bar = PACKAGES[name]
    if os.environ.get("NOISEBENCH_REFERENCE") != "1":
        pytest.skip("the original packages are asked by tox -e reference (NOISEBENCH_REFERENCE=1), minutes each")
    environments.find(environment).check()
    folder = folder_of(tmp_path_factory.mktemp(name), f"{name}/packages")
    entry = registry.get("metrics", name)
    ours: Any = entry.configured(str(folder), "fp32").loaded("cpu")
    ours.backoff.first = 1
    return name, entry.configured(str(folder), "fp32", "package").loaded("cpu"), ours, bar


def test_prompts_and_odd_sizes_as_a_run_asks(both: tuple[str, Any, Any, float]) -> None:
    name, theirs, ours, bar = both
    images = small.images(f"{name}/packages")
    images = [images[i % len(images)] for i in range(len(PROMPTS))]
    prompts = [Prompt(i, text) for i, text in enumerate(PROMPTS)]
    expected = [v.reason or v.value for v in theirs.score(images, prompts)]
    assert [v.value for v in ours.score(images, prompts)] == pytest.approx(expected, rel=0, abs=bar)
    assert np.ptp(np.array(expected)) > 1e4 * bar


def pictures() -> dict[str, tuple[Image.Image, str]]:
    """Pictures by kind, each with the format that holds it."""
    base = Image.fromarray(small.images("kinds")[1])
    opaque = base.convert("RGBA")
    grey = np.asarray(base.convert("L"))
    return {
        "RGB": (base, "PNG"),
        "one pixel": (base.resize((1, 1)), "PNG"),
        "one line": (base.resize((300, 1)), "PNG"),
        "RGBA": (opaque, "PNG"),
        "grey": (base.convert("L"), "PNG"),
        "grey with alpha": (base.convert("LA"), "PNG"),
        "palette": (base.quantize(200), "PNG"),
        "1 bit": (base.convert("1"), "PNG"),
        "CMYK": (base.convert("CMYK"), "TIFF"),
        "16 bit": (Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        "half transparent": (_faded(opaque), "PNG"),
    }


def _faded(picture: Image.Image) -> Image.Image:
    alpha = np.linspace(0, 255, picture.width, dtype=np.uint8)[None].repeat(picture.height, 0)
    picture = picture.copy()
    picture.putalpha(Image.fromarray(alpha))
    return picture


DIFFER = {
    # ImageReward resizes before it makes RGB of an image: Pillow weighs colours by alpha then, takes the nearest pixel
    # of a palette and of 1 bit, and rounds CMYK twice. HPSv2 makes RGB of them first, as we do.
    "hpsv2": {"16 bit"},
    "imagereward": {"16 bit", "half transparent", "palette", "1 bit", "CMYK"},
}
"""Kinds of which the package sees another image than we do; both of 16-bit grey, which Pillow alone cuts off at 255."""

REFUSED = {"hpsv2": {"RGBA", "half transparent"}, "imagereward": set[str]()}
"""Kinds that the package cannot score: HPSv2 keeps alpha as a fourth channel, which its network does not take."""


@pytest.mark.parametrize("kind", pictures())
def test_a_file_of_any_kind(kind: str, both: tuple[str, Any, Any, float]) -> None:
    name, theirs, ours, bar = both
    picture, form = pictures()[kind]
    out = io.BytesIO()
    picture.save(out, form)
    answer = asked(theirs, out.getvalue())
    with Image.open(out) as opened:
        pixels = rgb(opened)
    (value,) = ours.score([pixels], [Prompt(0, "a red circle")])
    if kind in REFUSED[name]:
        assert "channels" in answer["error"]
    elif kind in DIFFER[name]:
        assert abs(value.value - answer["scores"][0]) > bar, "a kind that is reported as different is not"
    else:
        assert answer["scores"] == pytest.approx([value.value], rel=0, abs=bar)
        return
    # Of the pixels that our scorer is given the package says the same.
    (again,) = theirs.score([pixels], [Prompt(0, "a red circle")])
    assert value.value == pytest.approx(again.value, rel=0, abs=bar)


def asked(worker: Any, data: bytes) -> dict[str, Any]:
    """The worker's answer about a file as it is."""
    worker.number += 1
    request = {"protocol": 1, "id": worker.number, "images": [base64.b64encode(data).decode()]}
    answer: dict[str, Any] = worker.ask({**request, "prompts": ["a red circle"]}, 60)
    return answer


def test_an_image_that_is_none_is_refused_and_the_worker_continues(both: tuple[str, Any, Any, float]) -> None:
    _, theirs, _, _ = both
    request = {"protocol": 1, "id": 10_000, "images": ["AAAA"], "prompts": ["x"]}
    assert "UnidentifiedImageError" in theirs.ask(request, 60)["error"]
    (value,) = theirs.score(small.images("on")[4:5], [Prompt(0, "a cat")])
    assert value.reason is None
