"""Captions: GenEval's form, true for their scenes, false for their foils'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from covering import FULL
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.metrics.geneval_rules import TASKS, Detection, judge
from bench.shapes.captions import PLURALS, Caption, distinct_held_out, draw, foil, held_out, sample, scene
from bench.shapes.scenes import BACKGROUNDS, SIZES, Scene


def truth(drawn: Scene) -> list[Detection]:
    """The scene's own objects as a perfect detector would name them."""
    return [Detection(o.shape, 1.0, (o.x, o.y, o.x + o.size, o.y + o.size), color=o.color) for o in drawn.objects]


def true(caption: Caption, drawn: Scene) -> bool:
    def colors(some: Sequence[Detection]) -> list[str]:
        return [d.color or "" for d in some]

    return judge(caption.metadata(), truth(drawn), colors)[0]


@pytest.mark.parametrize("tag", TASKS)
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_metadata_has_genevals_form(tag: str, seed: int) -> None:
    caption = draw(np.random.default_rng(seed), tag)
    line = caption.metadata()
    assert list(line) == ["tag", "include", *(["exclude"] if tag == "counting" else []), "prompt"]
    assert (line["tag"], line["prompt"]) == (tag, caption.prompt)
    include = line["include"]
    assert [set(c) for c in include] == {
        "single_object": [{"class", "count"}],
        "two_object": [{"class", "count"}] * 2,
        "counting": [{"class", "count"}],
        "colors": [{"class", "count", "color"}],
        "position": [{"class", "count"}, {"class", "count", "position"}],
        "color_attr": [{"class", "count", "color"}] * 2,
    }[tag]
    assert len({c["class"] for c in include}) == len(include)
    if tag == "counting":
        # Public file: exclude one more than is included.
        assert line["exclude"] == [{"class": include[0]["class"], "count": include[0]["count"] + 1}]
        assert 2 <= include[0]["count"] <= 4
    if tag == "position":
        assert include[1]["position"][1] == 0


def says(caption: Caption) -> bool:
    """Whether the text holds the words of all clauses, in the order of the grammar."""
    words = caption.prompt.split()
    clauses = caption.include[::-1] if caption.tag == "position" else caption.include
    at = 0
    for clause in clauses:
        wanted = [clause["color"]] if "color" in clause else []
        wanted.append(PLURALS[clause["class"]] if clause["count"] > 1 else clause["class"])
        if "position" in clause:
            wanted += clause["position"][0].split()
        for word in wanted:
            at = words.index(word, at) + 1
    return True


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(TASKS), st.integers(0, 2**31))
def test_the_text_says_what_the_metadata_say(tag: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    caption = draw(rng, tag)
    false = foil(caption, rng)
    assert says(caption)
    assert false is not None
    assert says(false)
    articles = zip(caption.prompt.split(), caption.prompt.split()[1:], strict=False)
    assert all((a == "an") == (b[0] in "aeiou") for a, b in articles if a in ("a", "an"))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(TASKS), st.integers(0, 2**31))
def test_a_foil_is_a_small_change_within_the_grammar(tag: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    caption = draw(rng, tag)
    before = caption.metadata()
    false = foil(caption, rng)
    assert false is not None
    assert false.prompt != caption.prompt
    assert (false.tag, false.background, false.size) == (caption.tag, caption.background, caption.size)
    # One clause's word, two colours swapped, or a relation; an article changes along with its noun.
    gone = Counter(caption.prompt.split()) - Counter(false.prompt.split())
    assert gone.total() <= 3
    # The caption itself is left as it was.
    assert caption.metadata() == before
    if tag == "counting":
        assert false.exclude == ({"class": false.include[0]["class"], "count": false.include[0]["count"] + 1},)


@pytest.mark.parametrize("tag", TASKS)
def test_scenes_are_true_for_their_captions_and_false_for_foils(tag: str) -> None:
    """Under the public rules, on the scene's own boxes.

    Near a diagonal a second relation may hold beside the caption's own, and a foil may happen to name it.
    """
    rng = np.random.default_rng(6)
    n = 1000 if FULL else 150
    fooled = 0
    for _ in range(n):
        caption = sample(rng, "train", tag)
        drawn = scene(caption, rng)
        assert true(caption, drawn), caption
        assert len(drawn.objects) == sum(c["count"] for c in caption.include)
        assert caption.background in (None, drawn.background)
        if caption.size:
            low, high = SIZES[caption.size]
            assert all(low <= o.size <= high for o in drawn.objects)
        false = foil(caption, rng)
        assert false is not None
        fooled += true(false, drawn)
    assert fooled <= (0.02 * n if tag == "position" else 0)


def test_held_out_captions_have_true_scenes_too() -> None:
    rng = np.random.default_rng(7)
    found = distinct_held_out(rng, 200)
    assert Counter(c.tag for c in found) == {"colors": 100, "color_attr": 100}
    for caption in found:
        assert held_out(caption)
        assert true(caption, scene(caption, rng))


def test_open_backgrounds_and_colors_vary() -> None:
    rng = np.random.default_rng(8)
    caption = Caption("a circle", "single_object", ({"class": "circle", "count": 1},))
    drawn = [scene(caption, rng) for _ in range(300)]
    assert {d.background for d in drawn} == set(BACKGROUNDS)
    assert len({d.objects[0].color for d in drawn}) == 7  # all colours but the held-out purple circle's
