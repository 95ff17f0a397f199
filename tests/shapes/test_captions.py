"""Captions: GenEval's form, true for their scenes, and evaluation sets that training never sees."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
from covering import FULL
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import registry
from bench.metrics.geneval_rules import TASKS, Detection, judge
from bench.prompts.base import Prompt
from bench.shapes import captions, prompt_sets
from bench.shapes.captions import (
    BUCKETS,
    PLURALS,
    SPLITS,
    Caption,
    bucket,
    distinct,
    distinct_held_out,
    draw,
    foil,
    held_out,
    sample,
    scene,
    vocabulary,
)
from bench.shapes.scenes import BACKGROUNDS, HELD_OUT, SIZES, Scene
from bench.shapes.tokenizer import MAX_LENGTH, build_tokenizer

SETS = {
    "shapes-pickapic": 100,
    "shapes-drawbench": 200,
    "shapes-hpd": 100,
    "shapes-geneval": 120,
    "shapes-compbench": 120,
}


@cache
def evaluation(name: str) -> list[Prompt]:
    found: list[Prompt] = registry.get("prompts", name).read()
    return found


def truth(drawn: Scene) -> list[Detection]:
    """The scene's own objects as a perfect detector would name them."""
    return [Detection(o.shape, 1.0, (o.x, o.y, o.x + o.size, o.y + o.size), color=o.color) for o in drawn.objects]


def true(caption: Caption, drawn: Scene) -> bool:
    def colors(some: Sequence[Detection]) -> list[str]:
        return [d.color or "" for d in some]

    return judge(caption.metadata(), truth(drawn), colors)[0]


# Splits -------------------------------------------------------------------------------------------------------------


def test_the_splits_share_no_bucket() -> None:
    """A caption's bucket is a hash of its text, so splits of buckets are splits of captions."""
    buckets = [b for split in SPLITS.values() for b in split]
    assert sorted(buckets) == list(range(BUCKETS))


def test_buckets_are_even_and_fixed() -> None:
    """A changed hash would move captions between training and evaluation."""
    # int.from_bytes(sha256(b"a circle").digest()[:4], "big") % 20, by sha256sum
    assert bucket("a circle") == int("0db88fe7", 16) % 20
    rng = np.random.default_rng(0)
    texts = {draw(rng, TASKS[i % 6]).prompt for i in range(20_000)}
    counts = Counter(bucket(t) for t in texts)
    expected = len(texts) / BUCKETS
    assert max(abs(counts[b] - expected) for b in range(BUCKETS)) < 5 * expected**0.5


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_draws_from_its_own_buckets_and_names_no_held_out_pair(split: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        caption = sample(rng, split)
        assert bucket(caption.prompt) in SPLITS[split]
        assert not held_out(caption)
        assert not {(c["class"], c.get("color")) for c in caption.include} & HELD_OUT


@pytest.mark.parametrize("tag", TASKS)
def test_no_training_scene_shows_a_held_out_pair(tag: str) -> None:
    """Captioned or not: colours that a caption leaves open are drawn without them too."""
    rng = np.random.default_rng(2)
    for _ in range(300):
        drawn = scene(sample(rng, "train", tag), rng)
        assert not {(o.shape, o.color) for o in drawn.objects} & HELD_OUT


def test_without_the_rule_open_colors_would_show_held_out_pairs() -> None:
    rng = np.random.default_rng(2)
    drawn = [scene(sample(rng, "train", "two_object"), rng, allow_held_out=True) for _ in range(300)]
    assert any({(o.shape, o.color) for o in d.objects} & HELD_OUT for d in drawn)


@pytest.mark.parametrize("name", SETS)
def test_evaluation_sets_have_their_sizes_and_no_prompt_twice(name: str) -> None:
    prompts = evaluation(name)
    assert len({p.text for p in prompts}) == len(prompts) == SETS[name] == registry.get("prompts", name).size
    assert [p.index for p in prompts] == list(range(len(prompts)))


def test_evaluation_sets_are_disjoint() -> None:
    for a, b in itertools.combinations(SETS, 2):
        assert not {p.text for p in evaluation(a)} & {p.text for p in evaluation(b)}, (a, b)


@pytest.mark.parametrize("name", SETS)
def test_no_evaluation_prompt_can_be_drawn_in_training(name: str) -> None:
    used = {*SPLITS["train"], *SPLITS["scorers"], *SPLITS["validation"]}
    for p in evaluation(name):
        assert p.metadata is not None
        pairs = {(c["class"], c.get("color")) for c in p.metadata["include"]}
        if name == "shapes-compbench":
            assert pairs & HELD_OUT
        else:
            assert bucket(p.text) not in used
            assert not pairs & HELD_OUT


def test_no_evaluation_prompt_is_drawn_in_training() -> None:
    known = {p.text for name in SETS for p in evaluation(name)}
    rng = np.random.default_rng(3)
    assert not known & {sample(rng, "train").prompt for _ in range(5000)}


@pytest.mark.parametrize("name", [n for n in SETS if n != "shapes-compbench"])
def test_the_first_prompts_of_a_set_hold_every_task(name: str) -> None:
    """--limit takes the first N."""
    assert {p.category for p in evaluation(name)[:40]} == set(TASKS)


def test_geneval_has_as_many_captions_of_each_task() -> None:
    assert Counter(p.category for p in evaluation("shapes-geneval")) == dict.fromkeys(TASKS, 20)


def test_a_split_that_is_too_small_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    only = draw(np.random.default_rng(4), "single_object")
    monkeypatch.setattr(captions, "sample", lambda rng, split, tag: only)
    with pytest.raises(ValueError, match="'hpd' has only 1 captions of task 'single_object'; 2 were asked for"):
        distinct(np.random.default_rng(4), "hpd", {"single_object": 2})


# The grammar --------------------------------------------------------------------------------------------------------


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
    n = 1000 if FULL else 300
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


# The tokenizer ------------------------------------------------------------------------------------------------------


@cache
def tokens() -> Callable[[str], list[int]]:
    tokenizer = build_tokenizer()
    return lambda text: list(tokenizer(text, truncation=True, max_length=MAX_LENGTH).input_ids)


def test_every_word_of_the_grammar_is_one_token_of_its_own() -> None:
    ids = [tokens()(word) for word in vocabulary()]
    assert {len(i) for i in ids} == {3}  # start, the word, end
    assert len({i[1] for i in ids}) == len(vocabulary())


def test_the_vocabulary_covers_every_caption_and_its_foils() -> None:
    rng = np.random.default_rng(9)
    drawn = [draw(rng, TASKS[i % 6]) for i in range(3000)]
    foils = [f for c in drawn if (f := foil(c, rng))]
    used = {word for c in drawn + foils for word in c.prompt.split()}
    assert used <= set(vocabulary())
    # And it holds no word that the grammar cannot produce.
    assert used == set(vocabulary())


def test_the_longest_captions_fit() -> None:
    """Fourteen words, start and end: 16 of 24 tokens."""
    longest = "a drawing of a purple circle and an orange square on a mint background"
    assert len(tokens()(longest)) == 16
    rng = np.random.default_rng(10)
    assert max(len(tokens()(draw(rng, TASKS[i % 6]).prompt)) for i in range(1200)) == 16


@pytest.mark.parametrize(
    "text", ["", "a zebra", "Ein grüner Bär", "圆形", "a photo of a 🙂", "red" * 50, "a\ncircle\t"]
)
def test_unknown_words_fall_apart_and_do_not_crash(text: str) -> None:
    ids = tokens()(text)
    assert 2 <= len(ids) <= MAX_LENGTH
    assert (ids[0], ids[-1]) == (tokens()("")[0], tokens()("")[-1])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_tokens(text: str) -> None:
    assert 2 <= len(tokens()(text)) <= MAX_LENGTH


def test_two_different_captions_have_different_tokens() -> None:
    rng = np.random.default_rng(11)
    texts = {draw(rng, TASKS[i % 6]).prompt for i in range(2000)}
    assert len({tuple(tokens()(t)) for t in texts}) == len(texts)


def test_the_prompt_sets_on_file_are_what_the_grammar_draws() -> None:

    assert json.loads(prompt_sets.FILE.read_text()) == json.loads(json.dumps(prompt_sets.draw()))


def test_training_captions_are_drawn_once_a_process() -> None:
    """They take more than a second, and a plan reads them several times."""
    first, again = (registry.get("prompts", "shapes-train").read() for _ in range(2))
    assert first is not again
    assert all(one is other for one, other in zip(first, again, strict=True))
