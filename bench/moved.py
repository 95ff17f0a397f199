"""Names that have a new place: for one release the old one gives them too, with one line that says where they are."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def moved(old: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a module `old` for names that are now in the modules given; others are not there."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        deprecated(f"{old}.{name} is now {names[name]}.{name}; the old place is gone in the next release")
        return getattr(importlib.import_module(names[name]), name)

    return find


def deprecated(said: str) -> None:
    """One line for whoever wrote the plugin or script that uses an old name."""
    warnings.warn(said, FutureWarning, stacklevel=3)
