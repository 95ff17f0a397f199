"""The embedded judges without a training of their own: what each prefers, what it shares, and that the table fills."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import registry, suite
from bench.metrics.geneval_rules import Detection
from bench.prompts.base import Prompt
from bench.runner.plan import make_plan
from bench.runner.score import planned
from bench.shapes import captions, judge_twins
from bench.shapes.scenes import Object, Scene, render
from bench.shapes.votes import utility

pytestmark = pytest.mark.usefixtures("one_thread")
SUITE = Path(__file__).parents[2] / "suites" / "sdxl_main.yaml"


def scenes(n: int, seed: int) -> tuple[list[Prompt], list[np.ndarray], list[np.ndarray]]:
    """Captions that no training has, with a true scene and one of a foil each."""
    rng = np.random.default_rng(seed)
    prompts, true, false = [], [], []
    while len(prompts) < n:
        caption = captions.sample(rng, "scorers")
        foil = captions.foil(caption, rng)
        if foil is not None and not captions.held_out(foil):
            prompts.append(Prompt(len(prompts), caption.prompt, caption.tag, caption.metadata()))
            true.append(render(captions.scene(caption, rng)))
            false.append(render(captions.scene(foil, rng)))
    return prompts, true, false


def accuracy(name: str, n: int = 60) -> float:
    """How often the judge prefers the true scene to the foil's."""
    prompts, true, false = scenes(n, 71)
    judge: Any = registry.get("metrics", name).loaded("cpu")
    ours, theirs = (np.array([v.value for v in judge.score(images, prompts)]) for images in (true, false))
    return float(np.mean(ours > theirs) + np.mean(ours == theirs) / 2)


def test_the_paper_s_main_table_has_a_judge_for_every_column_on_the_twin() -> None:
    made = suite.load(SUITE, twin=True, limit=2)
    named = {"shapes-pickscore", "shapes-preference", "shapes-aesthetic", "shapes-imagereward", "shapes-clipscore"}
    assert set(made.metrics) == named | {"shapes-mps", "shapes-geneval"}
    listed = " ".join(planned(make_plan(made)))
    assert "shapes-mps" in listed
    assert "pairs of images" in listed
    assert registry.twin("metrics", "t2i_compbench") == "shapes-compbench-score"


def test_the_towers_know_a_caption_from_its_foil_less_well_than_the_whole_model() -> None:
    assert 0.6 < accuracy("shapes-pickscore") < accuracy("shapes-preference")


def test_the_stylist_shares_nothing_with_captions_and_looks_at_pixels_alone() -> None:
    prompts, true, _ = scenes(4, 72)
    judge: Any = registry.get("metrics", "shapes-imagereward").loaded("cpu")
    values = [v.value for v in judge.score(true, prompts)]
    assert values == [v.value for v in judge.score(true, [Prompt(0, "nothing")] * 4)]
    turned = [np.ascontiguousarray(i[:, ::-1]) for i in true]
    assert values == pytest.approx([v.value for v in judge.score(turned, prompts)])
    grey = [np.repeat(i.mean(-1, keepdims=True), 3, -1).astype(np.uint8) for i in true]
    assert all(a > b.value for a, b in zip(values, judge.score(grey, prompts), strict=True))
    flat, strong = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64, 3), np.uint8)
    strong[:, :32] = 255
    assert [v.value for v in judge.score([flat, strong], prompts[:2])] == pytest.approx([0.0, 15.0])


def test_the_crowd_s_preference_is_the_logistic_of_the_voters_utilities() -> None:
    prompts, true, false = scenes(6, 73)
    judge: Any = registry.get("metrics", "shapes-mps").loaded("cpu")
    there, back = judge.score_pairs(false, true, prompts), judge.score_pairs(true, false, prompts)
    for prompt, ours, theirs, one, other in zip(prompts, true, false, there, back, strict=True):
        caption = judge_twins.caption_of(prompt)
        apart = utility(caption, ours) - utility(caption, theirs)
        assert one.value == pytest.approx(1 / (1 + np.exp(-apart)))
        assert one.value + other.value == pytest.approx(1)
        assert one.value > 0.5
    assert [v.value for v in judge.score_pairs(true, true, prompts)] == [0.5] * 6


RED = {"class": "circle", "count": 1, "color": "red"}
BLUE = {"class": "square", "count": 1, "color": "blue"}


def seen(name: str, color: str, sure: float, x: float) -> Detection:
    return Detection(name, sure, (x, 20, x + 10, 30), None, color)


def test_soft_scores_of_attributes_counts_and_places() -> None:
    both = [seen("circle", "red", 0.9, 0), seen("square", "blue", 0.8, 30)]
    assert judge_twins.clauses({"include": [RED, BLUE]}, both) == [0.9, 0.8]
    assert judge_twins.clauses({"include": [RED, {**BLUE, "color": "green"}]}, both) == [0.9, 0.0]
    left = {"class": "circle", "count": 1, "position": ["left of", 0]}
    square = {"class": "square", "count": 1}
    assert judge_twins.clauses({"include": [square, left]}, both) == [1.0, pytest.approx(0.25 * 1.7 + 0.5)]
    right = {**left, "position": ["right of", 0]}
    assert judge_twins.clauses({"include": [square, right]}, both) == [1.0, 0.0], "below a half nothing counts"
    assert judge_twins.clauses({"include": [{"class": "star", "count": 1}, left]}, both) == [1.0, 0.0]
    three = [replace(both[0], box=(12.0 * i, 0, 12.0 * i + 10, 10)) for i in range(3)]
    shares = [judge_twins.clauses({"include": [{"class": "circle", "count": n}]}, three)[0] for n in (2, 3, 4)]
    assert shares == [0.0, pytest.approx(0.9), pytest.approx(0.9 * 3 / 4)]


def test_a_scene_of_its_caption_is_worth_more_than_its_foil_s() -> None:
    assert accuracy("shapes-compbench-score") > 0.9
    prompt = Prompt(0, "a red circle and a blue square", "color_attr", {"tag": "color_attr", "include": [RED, BLUE]})
    picture = render(Scene("white", (Object("circle", "red", 20, 5, 5), Object("square", "blue", 20, 35, 35))))
    (value,) = registry.get("metrics", "shapes-compbench-score").loaded("cpu").score([picture], [prompt])
    assert value.value > 0.8
    assert value.detail["tag"] == "color_attr"


def test_a_prompt_without_metadata_is_not_judged_by_what_needs_it() -> None:
    prompts, true, _ = scenes(1, 74)
    bare = [Prompt(0, prompts[0].text)]
    for name in ("shapes-mps", "shapes-compbench-score"):
        assert not registry.get("metrics", name).judges(None)
    crowd: Any = registry.get("metrics", "shapes-mps").loaded("cpu")
    assert crowd.score_pairs(true, true, bare)[0].reason == "its prompt carries no metadata of GenEval's kind"
