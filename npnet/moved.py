"""Modules of npnet that moved into its rooms: for one release their old names are found too, with one warning each.

The old name gives the very module of the new one, so that classes and settings are the same by both.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

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
    # importlib's own frames are left out of the count: the line is that of the import.
    warnings.warn(f"{old} is now {new}; the old name is gone in the next release", DeprecationWarning, stacklevel=3)


class _Finder(MetaPathFinder, Loader):
    """Asked last, for names that no file has."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, origin=MOVED[name]) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        say(spec.name, MOVED[spec.name])
        module = importlib.import_module(MOVED[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # It has run under its new name, whose spec it keeps.
        given: Any = module.__spec__
        module.__spec__ = given.loader_state


def install() -> None:
    """Let the old names be found, after all else that finds modules."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
