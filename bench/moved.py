"""Names and modules that have a new place: for one release the old one gives them too, with one line that says where.

An old module's name gives the very module of the new one, so that a class is the same class by both.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ROOMS = {
    "analysis": (
        "arms",
        "compare",
        "comparisons",
        "costs",
        "differences",
        "equal_compute",
        "evidence",
        "failed",
        "judged",
        "merging",
        "paired",
        "pairing",
        "power",
        "results",
        "sets",
        "votes",
    ),
    "api": ("frames", "objects", "side_by_side"),
    "catalogue": ("cards", "listing", "metric_tables"),
    "identity": ("interactive", "source"),
    "intake": ("foreign", "layouts", "matching", "score_table"),
    "job": ("fetch", "preflight", "resuming", "stages"),
    "metrics": ("direction",),
    "runner": ("engine", "faults", "generate", "jobs", "judging", "memory", "outline", "plan", "score"),
    "sampling": ("measure", "noise"),
    "stats": ("crossed", "intervals", "resampling", "sensitivity"),
    "store": ("cache", "images"),
}
MOVED = {f"bench.{name}": f"bench.{room}.{name}" for room, names in ROOMS.items() for name in names} | {
    "bench.fitting": "bench.backoff",
    "bench.maker": "bench.runner.generator",
    "bench.suite_gates": "bench.suite.gates",
    "bench.suite_models": "bench.suite.models",
    "bench.suite_scorers": "bench.suite.scorers",
    "bench.suite_seeds": "bench.suite.seeds",
    "bench.suite_settings": "bench.suite.settings",
    "bench.suite_yaml": "bench.suite.document",
}
"""Where each module is that once lay in `bench` itself."""


class Old(Loader):
    """Loads modules of a table, from old name to new, by their old names."""

    def __init__(self, places: Mapping[str, str]):
        self.places = places

    def spec(self, name: str) -> ModuleSpec | None:
        """What an import system asks for; None for a name that is not in the table."""
        return ModuleSpec(name, self, origin=self.places[name]) if name in self.places else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = self.places[spec.name]
        # importlib's own frames are left out of the count: the line is that of the import.
        deprecated(sentence(spec.name, new))
        module = importlib.import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # It has run under its new name, whose spec it keeps.
        given: Any = module.__spec__
        module.__spec__ = given.loader_state


def moved(old: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a module `old` for names that are now in the modules given; others are not there."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        deprecated(sentence(f"{old}.{name}", f"{names[name]}.{name}"))
        return getattr(importlib.import_module(names[name]), name)

    return find


def sentence(old: str, new: str) -> str:
    """Where a name is now, for `deprecated`."""
    return f"{old} is now {new}; the old place is gone in the next release"


class OldName(FutureWarning):
    """An old name was used; the programs show its text as one line."""


def deprecated(said: str) -> None:
    """One line for whoever wrote the plugin, script or suite that uses an old name."""
    warnings.warn(said, OldName, stacklevel=3)


def by_todays_names(given: Any, renamed: Mapping[str, str]) -> Any:
    """Parameters with today's names for former ones; what is no mapping as it is. ValueError for one given by both."""
    if not isinstance(given, Mapping):
        return given
    for old, new in renamed.items():
        if old in given and new in given:
            raise ValueError(f"give {new!r} alone: {old!r} is its former name")
    return {renamed.get(key, key): value for key, value in given.items()}


def by_former_names(given: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Parameters as ids have them: what only got another name is the same."""
    former = {new: old for old, new in renamed.items()}
    return {former.get(key, key): value for key, value in given.items()}


def key_sentence(old: str, new: str) -> str:
    """What a key of a suite is called now, for `deprecated`."""
    return f"the key {old!r} is now {new!r}; the old one is read for one release more"
