"""What a score and a cell call a prompt: the key of its text and metadata, and the metadata as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, Protocol


class _Shown(Protocol):
    """A prompt, as far as a metric sees it."""

    @property
    def text(self) -> str: ...
    @property
    def metadata(self) -> Mapping[str, Any] | None: ...


def prompt_key(prompt: _Shown) -> str:
    """16 hex digits of all that a metric sees of a prompt: its text and metadata."""
    return _key(prompt.text, prompt.metadata and dict(prompt.metadata))


def _key(text: str, metadata: Any) -> str:
    shown = json.dumps([text, metadata], sort_keys=True)
    return hashlib.sha256(shown.encode()).hexdigest()[:16]


@lru_cache(maxsize=2**18)
def key_of(text: str, metadata: str | None) -> str:
    """`prompt_key` of a prompt as the ledger has it, its metadata as JSON."""
    return _key(text, json.loads(metadata) if metadata else None)


@cache
def carried_keys(metadata: str | None) -> frozenset[str]:
    """The keys of a prompt's metadata as the ledger has it, which say their kind."""
    return frozenset(json.loads(metadata)) if metadata else frozenset()


def as_json(metadata: Mapping[str, Any] | None) -> str | None:
    """A prompt's metadata as a cell has it."""
    return None if metadata is None else json.dumps(dict(metadata), sort_keys=True)
