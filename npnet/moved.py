"""Modules of npnet that moved into its rooms: for one release their old names are found too, with one warning each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from bench.moved import Old, deprecated, sentence

ROOMS = {
    "network": ("architecture", "blocks", "checkpoint", "convert", "header", "model", "pickled", "published"),
    "pairs": ("collect", "collection", "dataset", "folders", "gains", "mapped", "prompting", "rescore", "scores",
              "select", "singular"),
    "teachers": ("ascent", "work"),
    "training": ("caches", "loop", "losses", "settings", "start", "state", "train"),
}  # fmt: skip
MOVED = {f"npnet.{name}": f"npnet.{room}.{name}" for room, names in ROOMS.items() for name in names}
MOVED["npnet.batches"] = "npnet.training.data"
"""Where each module is now. `npnet.teachers` was a module too, and gives the names of `npnet.teachers.base`."""


def say(old: str, new: str) -> None:
    """The one line for whoever imports from an old place."""
    deprecated(sentence(old, new))


class _Finder(MetaPathFinder):
    """Asked last, for names that no file has."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return Old(MOVED).spec(name)


def install() -> None:
    """Let the old names be found, after all else that finds modules."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
