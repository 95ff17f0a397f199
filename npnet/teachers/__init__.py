"""Where target noise comes from: `base` says what a teacher is and has all but one, `ascent` the one that climbs."""

from __future__ import annotations

import importlib
from typing import Any

from npnet.moved import say


def __getattr__(name: str) -> Any:
    """`npnet.teachers` was one module: for one release its names are found here too."""
    base = importlib.import_module("npnet.teachers.base")
    if name.startswith("_") or not hasattr(base, name):
        raise AttributeError(f"module 'npnet.teachers' has no attribute {name!r}")
    say(f"npnet.teachers.{name}", f"npnet.teachers.base.{name}")
    return getattr(base, name)
