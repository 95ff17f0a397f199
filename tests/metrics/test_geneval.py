"""GenEval on transformers' Mask2Former: boxes, masks and scores as mmdet's formulas give them, colours as open_clip."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference import small_clips as small
from reference.small_detectors import geneval_folder, mask2former_folder

from bench import registry
from bench.errors import UserError
from bench.metrics.geneval import COLORS, TEMPLATES, cut_out
from bench.metrics.geneval_rules import Detection, judge
from bench.metrics.mask2former import NAMES, box_of, prepared
from bench.prompts.base import Prompt
from bench.runner.score import _tasks

pytestmark = pytest.mark.usefixtures("one_thread")
SHARED = Path(__file__).parents[3] / "shared" / "prompts" / "geneval_object_names.txt"


def entry_at(folder: Path) -> Any:
    return registry.get("metrics", "geneval").configured(str(folder), "fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return geneval_folder(tmp_path_factory.mktemp("geneval"), "port", file=True)


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Any:
    return entry_at(folder).scorer("cpu")


def pictures() -> list[np.ndarray]:
    """Two flat ones of one size, whose network input is padded, and a square one."""
    one, two = small.images("geneval")[:2]
    return [one[60:100, :200], two[60:100, :200], small.images("geneval")[3][:90, :90]]


@pytest.fixture(scope="module")
def seen(scorer: Any) -> list[list[Detection]]:
    """What is seen in the pictures."""
    with torch.inference_mode():
        found: list[list[Detection]] = scorer.detect(pictures())
    return found


def by_mmdet(network: Any, image: np.ndarray) -> list[tuple[str, float, tuple[float, ...], np.ndarray]]:
    """Every one of the best 100 (query, class) pairs, in mmdet's order of steps, without a threshold."""
    pixels, size = prepared([image])
    with torch.no_grad():
        out = network(pixel_values=pixels)
    up = torch.nn.functional.interpolate(out.masks_queries_logits, size=pixels.shape[2:], mode="bilinear")
    up = torch.nn.functional.interpolate(up[:, :, : size[0], : size[1]], size=image.shape[:2], mode="bilinear")[0]
    scores = out.class_queries_logits[0].softmax(-1)[:, :-1]
    best, where = scores.flatten(0, 1).topk(100, sorted=False)
    found = []
    for score, place in zip(best, where, strict=True):
        mask = up[place // 80]
        inside = (mask > 0).float()
        confidence = score * (mask.sigmoid() * inside).sum() / (inside.sum() + 1e-6)
        if inside.any():
            rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
            box = (float(columns[0]), float(rows[0]), float(columns[-1]) + 1, float(rows[-1]) + 1)
            found.append((NAMES[place % 80], float(confidence), box, inside.bool().numpy()))
    return found


def test_objects_are_those_of_mmdets_formulas(scorer: Any, seen: list[list[Detection]]) -> None:
    assert sum(map(len, seen)) > 10
    for image, ours in zip(pictures(), seen, strict=True):
        theirs = [d for d in by_mmdet(scorer.detector.network, image) if d[1] > 0.3]
        theirs.sort(key=lambda d: -d[1])
        assert [d.class_name for d in ours] == [d[0] for d in theirs]
        np.testing.assert_allclose([d.confidence for d in ours], [d[1] for d in theirs], rtol=0, atol=2e-5)
        assert [d.box for d in ours] == [d[2] for d in theirs]
        # A logit within rounding of zero may fall on either side: batches of one and two differ in their last bits.
        apart = [np.mean(d.mask != t[3]) for d, t in zip(ours, theirs, strict=True)]
        assert max(apart) < 1e-3


def test_an_image_is_resized_padded_and_normalised_as_by_mmdet() -> None:
    x, size = prepared([np.full((300, 500, 3), 200, np.uint8)])
    assert size == (800, 1333)
    assert x.shape == (1, 3, 800, 1344)
    assert x[0, :, 0, 0].tolist() == pytest.approx(
        [(200 - 123.675) / 58.395, (200 - 116.28) / 57.12, (200 - 103.53) / 57.375]
    )
    assert x[0, 0, 0, -1].item() == pytest.approx((128 - 123.675) / 58.395)
    assert prepared([np.zeros((512, 512, 3), np.uint8)])[0].shape == (1, 3, 800, 800)
    # Without antialiasing a level is a mean of at most four pixels: of alternating rows some stay unmixed.
    stripes = np.zeros((1600, 1600, 3), np.uint8)
    stripes[::4] = 255
    levels = prepared([stripes])[0][0, 0] * 58.395 + 123.675
    assert levels.min() == pytest.approx(0, abs=1e-3)
    assert levels.max() > 120


def test_an_object_is_shown_on_grey_as_pillow_cuts_it() -> None:
    image = small.images("cut")[1]
    mask = np.zeros(image.shape[:2], bool)
    mask[40:120, 30:90] = True
    mask[60:70, 20:140] = True
    ours = cut_out(image, Detection("bench", 1.0, box_of(mask), mask))
    whole = Image.composite(
        Image.fromarray(image), Image.new("RGB", image.shape[1::-1], color="#999"), Image.fromarray(mask)
    )
    assert np.array_equal(ours, np.asarray(whole.crop((20, 40, 140, 120))))


def test_colours_are_those_of_open_clips_zero_shot_classifier(scorer: Any) -> None:
    import open_clip

    towers = scorer.towers
    image = small.images("colours")[0]
    found: list[Detection] = []
    for k, name in enumerate(("bench", "hot dog", "bench")):
        mask = np.zeros(image.shape[:2], bool)
        mask[40 * k : 40 * k + 90, 30:200] = True
        found.append(Detection(name, 0.9 - k / 10, box_of(mask), mask))
    with torch.inference_mode():
        named = scorer.colors(image, found)
    directions = {}
    for name in ("bench", "hot dog"):
        templates = [lambda c, t=t, name=name: t.format(color=c, name=name) for t in TEMPLATES]
        directions[name] = open_clip.build_zero_shot_classifier(
            towers.model, open_clip.get_tokenizer("ViT-L-14"), COLORS, templates, num_classes_per_batch=None
        )
    for detection, color in zip(found, named, strict=True):
        weights = directions[detection.class_name]
        with torch.no_grad():
            seen = towers.model.encode_image(scorer.placed(_clip_pixels(cut_out(image, detection))))
        logits = 100 * torch.nn.functional.normalize(seen, dim=-1) @ weights
        assert color == COLORS[int(logits.argmax())]
        with torch.inference_mode():
            torch.testing.assert_close(scorer._directions(detection.class_name).T, weights, rtol=0, atol=1e-6)
    assert scorer.colors(image, []) == []


def _clip_pixels(image: np.ndarray) -> torch.Tensor:
    import open_clip

    return open_clip.image_transform(224, is_train=False, resize_mode="shortest", interpolation="bicubic")(
        Image.fromarray(image)
    )[None]


def test_a_score_is_the_public_rules_on_what_is_seen(scorer: Any, seen: list[list[Detection]]) -> None:
    images = pictures()
    first = seen[0][0].class_name
    there = {"tag": "single_object", "include": [{"class": first, "count": 1}], "prompt": f"a photo of a {first}"}
    absent = next(name for name in NAMES if all(name != d.class_name for d in seen[0]))
    lacking = {**there, "include": [{"class": absent, "count": 1}]}
    prompts = [Prompt(i, "it", "single_object", data) for i, data in enumerate((there, lacking, there))]
    values = scorer.score([images[0], images[0], images[2]], prompts)
    assert [v.value for v in values[:2]] == [1.0, 0.0]
    assert values[1].detail == {"tag": "single_object", "wrong": [f"expected {absent} >= 1, found 0"]}
    assert values[2].value == float(judge(there, seen[2], None)[0])


def test_both_layouts_of_clip_name_the_same_colours(tmp_path: Path, scorer: Any) -> None:
    other = entry_at(geneval_folder(tmp_path, "port")).scorer("cpu")
    with torch.inference_mode():
        ours, theirs = (one._directions("traffic light") for one in (scorer, other))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


GENEVAL2 = {
    "prompt": "two metal toys",
    "atom_count": 3,
    "vqa_list": [["Are the toys metal?", "Yes"]],
    "skills": ["attribute"],
}


def test_prompts_with_metadata_of_another_kind_are_skipped_and_never_a_key_error(scorer: Any) -> None:
    entry = registry.get("metrics", "geneval")
    prompts = [Prompt(0, "two metal toys", "3 atoms", GENEVAL2), Prompt(1, "a bench")]
    cells = [("standard", ("m", "p", "s", 1, 1.0, p.index, 0), f"job{p.index}", p) for p in prompts]
    assert _tasks(entry, cells, "standard") == []
    values = scorer.score(pictures()[:2], prompts)
    assert [v.reason for v in values] == ["its prompt carries no metadata of GenEval's kind"] * 2


def test_a_digest_follows_the_detector_and_a_layout_that_lacks_it_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert entry_at(copy).digest() == entry_at(folder).digest()
    mask2former_folder(copy / "mask2former-swin-small-coco-instance", "another")
    assert entry_at(copy).digest() != entry_at(folder).digest()
    shutil.rmtree(copy / "mask2former-swin-small-coco-instance")
    with pytest.raises(UserError, match="lacks mask2former-swin-small-coco-instance"):
        entry_at(copy)


def test_a_network_of_other_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    mask2former_folder(copy / "mask2former-swin-small-coco-instance", "panoptic", labels=133)
    with pytest.raises(UserError, match="has 133 classes, expected COCO's 80") as caught:
        entry_at(copy).scorer("cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not SHARED.is_file(), reason="the public list of names is not here")
def test_the_names_are_genevals() -> None:
    assert list(NAMES) == [line.strip() for line in SHARED.read_text().splitlines() if line.strip()]
