"""T2I-CompBench: questions and their answers, what boxes are worth, and every category by its own scorer."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference import small_clips as small
from reference.small_detectors import compbench_folder
from torchvision.transforms.functional import resize

from bench import registry
from bench.metrics import compbench_rules as rules
from bench.metrics.compbench_rules import Words
from bench.metrics.depth import grey_levels
from bench.prompts.base import Prompt
from bench.runner.score import _tasks

pytestmark = pytest.mark.usefixtures("one_thread")
SHARED = Path(__file__).parents[3] / "shared" / "prompts"
COLOR, PLACE = "a green bench and a blue bowl", "a giraffe next to a lamp"
DEEP = "a dog in front of a desk"
COMPLEX = "The red hat was on top of the brown coat rack."


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = compbench_folder(tmp_path_factory.mktemp("compbench"), "port")
    return registry.get("metrics", "t2i_compbench").configured(str(folder), "fp32").scorer("cpu")


def test_the_words_are_spacys() -> None:
    words = rules.words(COLOR, "color")
    assert words is not None
    assert words.questions == ("a green bench?", "a blue bowl?")
    words = rules.words(PLACE, "spatial")
    assert words is not None
    assert (words.things, words.place) == (("giraffe", "lamp"), "next to")
    words = rules.words(DEEP, "3d_spatial")
    assert words is not None
    assert (words.things, words.place) == (("dog", "desk"), "in front of")
    words = rules.words(COMPLEX, "complex")
    assert words is not None
    assert words.of == "spatial"
    assert words.questions == ("the red hat?", "the brown coat rack?")
    assert words.bare == "The hat was on top of the coat rack."
    words = rules.words("a girl on the top of a frog", "spatial")
    assert words is not None
    assert words.things == ("person", "frog")
    words = rules.words("six airplanes", "numeracy")
    assert words is not None
    assert words.counted == (("airplane", 6),)
    assert rules.words("a prompt of one's own", "color") is None


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public prompts are not here")
@pytest.mark.parametrize("category", rules.KNOWN)
def test_every_validation_prompt_has_its_words(category: str) -> None:
    text = (SHARED / f"t2i_compbench_{category}_val.txt").read_text()
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    assert len(prompts) == 300
    assert all(rules.words(p, category) for p in prompts)
    if category in rules.ATTRIBUTES:
        assert all(rules.words(p, category).questions for p in prompts)  # type: ignore[union-attr]


def test_questions_are_cleaned_as_blips_code_cleans_them() -> None:
    assert rules.question('The "Big" (red) hat: #1!') == "the big red hat 1?"
    assert len(rules.question("word " * 80).split(" ")) == 50


A, B = (10.0, 100.0, 60.0, 150.0), (300.0, 110.0, 350.0, 160.0)


@pytest.mark.parametrize(
    ("place", "one", "other", "worth"),
    [
        ("on the left of", A, B, 1.0),
        ("on the right of", A, B, 0.0),
        ("on the right of", B, A, 1.0),
        ("on the top of", A, B, 0.0),
        ("on the top of", (100, 0, 150, 50), (110, 200, 160, 250), 1.0),
        ("on the bottom of", (110, 200, 160, 250), (100, 0, 150, 50), 1.0),
        ("on top of", (100, 0, 150, 50), (110, 200, 160, 250), 0.0),
        ("next to", A, B, 1.0),
        ("near", (0, 0, 10, 10), (300, 200, 310, 210), 0.5),
        # Half of each box is shared: an overlap of a third.
        ("on the left of", (0, 0, 100, 100), (50, 0, 150, 100), pytest.approx(0.1 / (1 / 3))),
        ("on the left of", (0, 0, 100, 100), (40, 40, 140, 140), 0.0),
    ],
)
def test_what_a_relation_is_worth(place: str, one: Any, other: Any, worth: Any) -> None:
    assert rules.relation(place, one, other) == worth


def test_spatial_scores_below_a_half_are_none() -> None:
    words = Words(things=("cat", "dog"), place="on the left of")
    assert rules.spatial(words, {"cat": [(0.8, A)], "dog": [(0.6, B), (0.5, A)]}) == pytest.approx(0.35 + 0.5)
    assert rules.spatial(words, {"cat": [(0.9, B)], "dog": [(0.9, A)]}) == 0.0
    assert rules.spatial(words, {"cat": [(1.0, A)], "dog": []}) == 0.0


def test_counts_are_of_distinct_boxes() -> None:
    words = Words(counted=(("cat", 2), ("dog", 1)))
    far: rules.Box = (300.0, 300.0, 340.0, 340.0)
    within: rules.Box = (11.0, 101.0, 59.0, 149.0)
    assert rules.numeracy(words, {"cat": [(0.9, A), (0.8, within), (0.7, far)], "dog": [(0.9, B)]}) == 1.0
    assert rules.numeracy(words, {"cat": [(0.9, A)], "dog": []}) == 0.25
    assert rules.without_overlaps([(0.3, A), (0.9, within), (0.5, far)]) == [(0.9, within), (0.5, far)]


def test_boxes_are_measured_in_an_image_of_479_pixels() -> None:
    assert rules.scale(512, 512) == 479 / 512
    assert rules.scale(1024, 512) == 480 / 1024


def test_three_in_one_is_the_mean_of_what_a_prompt_asks_for() -> None:
    assert rules.three_in_one(Words(of="spatial"), 0.8, 0.6, 0.3) == pytest.approx(0.7)
    assert rules.three_in_one(Words(of="action"), 0.8, 0.6, 0.3) == pytest.approx(0.55)
    assert rules.three_in_one(Words(of="both"), 0.8, 0.6, 0.3) == pytest.approx(1.7 / 3)


def test_answers_are_p_yes_over_p_yes_and_no_at_the_first_token(scorer: Any) -> None:
    """By BlipForQuestionAnswering's own `generate`, on pixels by torchvision, one question at a time."""
    from torchvision import transforms

    steps = [transforms.Resize((480, 480), transforms.InterpolationMode.BICUBIC), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)))
    image, questions = small.images("blip")[1], ("a green bench?", "the bowl?")
    with torch.inference_mode():
        ours = scorer.answers(image, questions)
        for question, answer in zip(questions, ours, strict=True):
            given = scorer.asked(question, return_tensors="pt")
            given.input_ids[:, 0] = 30523
            made = scorer.reader.generate(
                input_ids=given.input_ids,
                attention_mask=given.attention_mask,
                pixel_values=transforms.Compose(steps)(Image.fromarray(image))[None],
                interpolate_pos_encoding=True,
                max_new_tokens=1,
                output_logits=True,
                return_dict_in_generate=True,
            )
            p = made.logits[0][0].softmax(-1)
            assert answer == pytest.approx(float(p[2748] / (p[2748] + p[2053])), abs=1e-5)
    assert abs(ours[0] - ours[1]) > 1e-4


def test_boxes_are_those_of_transformers_post_processing(scorer: Any) -> None:
    image = small.images("owl")[1]
    with torch.inference_mode():
        seen = scorer.seen(image, ["bench", "bowl", "bench"])
        texts = ["a photo of a bench", "a photo of a bowl"]
        given = scorer.named(texts, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
        out = scorer.detector(**given, pixel_values=scorer.prepare(images=[image], return_tensors="pt").pixel_values)
    (theirs,) = scorer.prepare.post_process_object_detection(out, threshold=0.2, target_sizes=[image.shape[:2]])
    assert len(theirs["scores"])
    factor = rules.scale(*image.shape[:2])
    for k, name in enumerate(("bench", "bowl")):
        of = theirs["labels"] == k
        assert bool(seen[name]) == bool(of.any())
        if of.any():
            best = int(theirs["scores"][of].argmax())
            assert seen[name][0][0] == pytest.approx(float(theirs["scores"][of][best]), abs=1e-5)
            np.testing.assert_allclose(seen[name][0][1], factor * theirs["boxes"][of][best].numpy(), atol=1e-2)


def test_what_is_nearer_is_in_front_and_counts_by_overlap() -> None:
    near = np.zeros((60, 60), np.float32)
    near[:, 30:] = 1.0  # the right half is nearer
    left, right = (0.0, 0.0, 40.0, 60.0), (20.0, 0.0, 60.0, 60.0)  # a third of their union is shared
    seen: rules.Seen = {"dog": [(0.8, right)], "desk": [(0.6, left)]}
    front, behind = (Words(things=("dog", "desk"), place=p) for p in ("in front of", "behind"))
    assert rules.in_depth(front, seen, near, upright=True) == pytest.approx(0.35 + (1 / 3) / 0.5 / 2)
    assert rules.in_depth(behind, seen, near, upright=True) == pytest.approx(0.35)
    assert rules.in_depth(front, seen, near.T) == pytest.approx(0.35 + (1 / 3) / 0.5 / 2), (
        "as published: axes exchanged"
    )
    assert rules.in_depth(front, {"dog": [(0.8, right)]}, near) == pytest.approx(0.2), "no half from which it counts"
    same: rules.Seen = {"dog": [(0.8, (10.0, 0.0, 60.0, 60.0))], "desk": [(0.6, (0.0, 0.0, 60.0, 60.0))]}
    assert rules.in_depth(front, same, near, upright=True) == pytest.approx(0.35 + 0.5), "from a half of overlap on"
    outside: rules.Seen = {"dog": [(0.8, (70.0, 70.0, 90.0, 90.0))], "desk": [(0.6, left)]}
    assert rules.in_depth(front, outside, near) == pytest.approx(0.35)


def test_the_depth_map_is_spread_over_grey_levels_and_sized_as_the_detectors_image() -> None:
    assert grey_levels(torch.tensor([[2.0, 4.0], [3.0, 6.0]]), (2, 2)).tolist() == [[0, 127], [63, 255]]
    assert not grey_levels(torch.ones(3, 3), (5, 4)).any(), "a flat one has no near side"
    for height, width in ((1024, 1024), (512, 1024), (600, 601), (900, 512), (97, 300)):
        theirs = resize(Image.new("L", (width, height)), [479], max_size=480)
        assert rules.detector_size(height, width) == theirs.size[::-1]


def test_depth_is_transformers_own_on_the_squashed_image(scorer: Any) -> None:
    image = small.images("depth")[1]
    near = scorer.depth.near(image, (48, 64))
    assert (near.shape, near.min() >= 0, near.max() <= 1) == ((48, 64), True, True)
    assert near.std() > 0.01, "parts are distinguished"
    network = scorer.depth.network
    own = np.asarray(Image.fromarray(image).resize((480, 480), Image.Resampling.BILINEAR))
    with torch.inference_mode():
        found = network(pixel_values=(torch.from_numpy(own.copy()).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5)
    levels = grey_levels(found.predicted_depth[0], image.shape[:2])
    again = np.asarray(Image.fromarray(levels).resize((64, 48), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(near, again / np.float32(255), atol=1e-6)
    assert found.predicted_depth.shape == (1, 480, 480)


def test_each_category_is_judged_by_its_own_and_others_get_the_reason(scorer: Any) -> None:
    action = "A person is looking at a rainbow and marveling at its beauty."
    given = {
        COLOR: "color",
        PLACE: "spatial",
        DEEP: "3d_spatial",
        action: "non_spatial",
        COMPLEX: "complex",
        "six airplanes": "numeracy",
    }
    prompts = [Prompt(i, text, "", {"compbench": kind}) for i, (text, kind) in enumerate(given.items())]
    image = small.images("all")[0]
    values = {v.detail["category"]: v for v in scorer.score([image] * len(prompts), prompts)}
    assert set(values) == set(given.values())
    color, whole = values["color"], values["complex"]
    assert {"depths", "upright"} <= set(values["3d_spatial"].detail)
    assert color.value == pytest.approx(math.prod(color.detail["questions"].values()))
    assert whole.value == pytest.approx((whole.detail["attributes"] + whole.detail["places"]) / 2)
    bad = [
        Prompt(0, "a prompt of one's own behind a cat", "", {"compbench": "3d_spatial"}),
        Prompt(1, "mine", "", {"compbench": "color"}),
    ]
    assert all("no validation prompt" in (v.reason or "") for v in scorer.score([image] * 2, bad))


def test_prompts_of_other_sets_are_skipped() -> None:
    entry = registry.get("metrics", "t2i_compbench")
    prompts = [Prompt(0, "a bench", "", {"tag": "single_object", "include": []}), Prompt(1, "a bench")]
    prompts.append(Prompt(2, COLOR, "", {"compbench": "color"}))
    cells = [("standard", ("m", "p", "s", 1, 1.0, p.index, 0), f"job{p.index}", p) for p in prompts]
    assert [task.job_id for task in _tasks(entry, cells, "standard")] == ["job2"]
    assert hashlib.sha256(rules.FILE.read_bytes()).hexdigest()[:16] in entry.digest()
