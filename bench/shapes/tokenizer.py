"""A CLIP tokenizer whose vocabulary is the caption grammar's words; anything else falls apart into bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.shapes.captions import vocabulary

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

MAX_LENGTH = 24
"""Tokens of a prompt, start and end included; the longest caption of the grammar has 16."""

END = "<|endoftext|>"


def build_tokenizer() -> CLIPTokenizer:
    """A `CLIPTokenizer` in which each grammar word is one token.

    Byte-pair merges join each word from the left. A word's merges come after those of the words before it,
    and merges are applied in order of rank, so later words cannot disturb earlier ones.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(c + "</w>" for c in letters)]
    merges: list[tuple[str, str]] = []
    for word in vocabulary():
        parts = _apply([*word[:-1], word[-1] + "</w>"], merges)
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            pieces.append(parts[0] + parts[1])
            parts = _apply(parts, merges[-1:])
    pieces += ["<|startoftext|>", END]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_LENGTH, pad_token=END)


def _apply(parts: list[str], merges: list[tuple[str, str]]) -> list[str]:
    for a, b in merges:
        i = 0
        while i < len(parts) - 1:
            if (parts[i], parts[i + 1]) == (a, b):
                parts[i : i + 2] = [a + b]
            i += 1
    return parts
