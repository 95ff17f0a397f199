"""Which names of prompt sets are places: `file:PATH`, `hf:OWNER/NAME@COMMIT:SPLIT:COLUMN`, or a bare `.jsonl` file."""

from __future__ import annotations

from bench.prompts import hub, own
from bench.prompts.base import PromptSet
from bench.registry import add_resolver


def is_place(name: str) -> bool:
    """Whether a suite names a place rather than a known set."""
    return name.startswith(("file:", "hf:")) or name.endswith(".jsonl")


def set_of(name: str) -> PromptSet:
    """The set at a place; UserError for one that cannot be read."""
    return hub.set_of(name) if name.startswith("hf:") else own.set_of(name)


add_resolver("prompts", is_place, set_of)
