"""The tokenizer: a token a word of the grammar, and no text that it cannot take."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.metrics.geneval_rules import TASKS
from bench.shapes.captions import draw, foil, vocabulary
from bench.shapes.tokenizer import MAX_LENGTH, build_tokenizer


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
    drawn = [draw(rng, TASKS[i % 6]) for i in range(2000)]
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
    texts = {draw(rng, TASKS[i % 6]).prompt for i in range(1000)}
    assert len({tuple(tokens()(t)) for t in texts}) == len(texts)
