"""Splits of captions, and the evaluation sets drawn from them, which training never sees."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from functools import cache

import numpy as np
import pytest

from bench import registry
from bench.metrics.geneval_rules import TASKS
from bench.prompts.base import Prompt
from bench.shapes import captions, prompt_sets
from bench.shapes.captions import BUCKETS, SPLITS, bucket, distinct, draw, held_out, sample, scene
from bench.shapes.scenes import HELD_OUT

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


def test_the_splits_share_no_bucket() -> None:
    """A caption's bucket is a hash of its text, so splits of buckets are splits of captions."""
    buckets = [b for split in SPLITS.values() for b in split]
    assert sorted(buckets) == list(range(BUCKETS))


def test_buckets_are_even_and_fixed() -> None:
    """A changed hash would move captions between training and evaluation."""
    # int.from_bytes(sha256(b"a circle").digest()[:4], "big") % 20, by sha256sum
    assert bucket("a circle") == int("0db88fe7", 16) % 20
    rng = np.random.default_rng(0)
    texts = {draw(rng, TASKS[i % 6]).prompt for i in range(6000)}
    counts = Counter(bucket(t) for t in texts)
    expected = len(texts) / BUCKETS
    assert max(abs(counts[b] - expected) for b in range(BUCKETS)) < 5 * expected**0.5


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_draws_from_its_own_buckets_and_names_no_held_out_pair(split: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(120):
        caption = sample(rng, split)
        assert bucket(caption.prompt) in SPLITS[split]
        assert not held_out(caption)
        assert not {(c["class"], c.get("color")) for c in caption.include} & HELD_OUT


@pytest.mark.parametrize("tag", TASKS)
def test_no_training_scene_shows_a_held_out_pair(tag: str) -> None:
    """Captioned or not: colours that a caption leaves open are drawn without them too."""
    rng = np.random.default_rng(2)
    for _ in range(200):
        drawn = scene(sample(rng, "train", tag), rng)
        assert not {(o.shape, o.color) for o in drawn.objects} & HELD_OUT


def test_without_the_rule_open_colors_would_show_held_out_pairs() -> None:
    rng = np.random.default_rng(2)
    drawn = [scene(sample(rng, "train", "two_object"), rng, allow_held_out=True) for _ in range(200)]
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
    assert not known & {sample(rng, "train").prompt for _ in range(3000)}


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


def test_the_prompt_sets_on_file_are_what_the_grammar_draws() -> None:
    assert json.loads(prompt_sets.FILE.read_text()) == json.loads(json.dumps(prompt_sets.draw()))


def test_training_captions_are_drawn_once_a_process() -> None:
    """They take more than a second, and a plan reads them several times."""
    first, again = (registry.get("prompts", "shapes-train").read() for _ in range(2))
    assert first is not again
    assert all(one is other for one, other in zip(first, again, strict=True))
