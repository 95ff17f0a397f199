"""A prompt and a prompt set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.needs.base import Need
from bench.prompts.control import ControlImage

if TYPE_CHECKING:
    from bench.needs.base import Source

ANY_KIND = ""
"""The key of a control image that serves every kind."""


@dataclass(frozen=True)
class Prompt:
    """One prompt of a set: its place, text, category, GenEval metadata and control images where the set has them."""

    index: int
    text: str
    category: str = ""
    metadata: Mapping[str, Any] | None = None
    control: Mapping[str, ControlImage] | None = None
    """Control images by kind, such as canny, depth or openpose."""
    seeds: tuple[int, ...] = ()
    """Seeds that its set gives it, which `seeds: own` of a suite takes; they are no part of what it is."""

    def control_image(self, kind: str) -> ControlImage:
        """Its image of a kind; UserError where it carries none."""
        there = self.control or {}
        found = there.get(kind) or there.get(ANY_KIND)
        if found is None:
            known = f"it carries {', '.join(sorted(there))}" if there else "it carries none"
            raise UserError(f"no control image of kind {kind!r} ({known}); give one in the prompt set's file")
        return found


@dataclass(frozen=True)
class PromptSet:
    """A named list of prompts; `read` is called once a run and may raise UserError."""

    name: str
    size: int
    """Its number of prompts; 0 where only its file says that."""
    read: Callable[[], list[Prompt]]
    source: str
    license: str = ""
    twin_of: tuple[str, ...] = ()
    images_per_prompt: int = 1
    about: str = field(default="")
    revision: str = ""
    """The commit of `source` that its content is taken from; empty where nothing is fetched."""
    files: tuple[Source, ...] = ()
    """What must be here before it can be read."""
    seeds: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """The prompts' own seeds by index, known without the file."""
    carries: tuple[str, ...] = ()
    """Keys of the metadata that each of its prompts has, known without the file; read prompts say it themselves."""

    def needs(self) -> tuple[Need, ...]:
        """What must be here before it can be read, and where that comes from."""

        def named(file: Source) -> Need:
            what, size = getattr(file, "file", self.name), getattr(file, "about_bytes", None)
            return Need(f"prompts {self.name}", what, file, size)

        return tuple(map(named, self.files))
