"""A prompt and a prompt set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Prompt:
    """One prompt of a set: its place, text, category, and GenEval metadata where the set has them."""

    index: int
    text: str
    category: str = ""
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class PromptSet:
    """A named list of prompts; `read` is called once a run and may raise UserError."""

    name: str
    size: int
    read: Callable[[], list[Prompt]]
    source: str
    license: str = ""
    twin_of: tuple[str, ...] = ()
    images_per_prompt: int = 1
    about: str = field(default="")
