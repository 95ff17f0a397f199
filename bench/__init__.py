"""A benchmark and evaluation harness for noise methods of text-to-image diffusion.

`bench.run` and `bench.read` are the Python API (docs/api.md). What they need is imported when they are first used.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing `typing` for it takes longer than all else here
if TYPE_CHECKING:
    from typing import Any

    from bench.api import Run, read, run

__version__ = "1.0.0"
__all__ = ["Run", "__version__", "read", "run"]


def __getattr__(name: str) -> Any:
    if name not in ("Run", "read", "run"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("bench.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _OldPlaces:
    """Asked last for a module: one that has moved is found at its new place, with one line that says so."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        if not name.startswith("bench.") or name == "bench.moved":
            return None
        from bench.moved import MOVED, Old

        return Old(MOVED).spec(name)


sys.meta_path.append(_OldPlaces)  # type: ignore[arg-type]
