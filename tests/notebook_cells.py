"""Cells of a notebook, and methods that they define."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from bench import identity, registry

SUITE: dict[str, Any] = {
    "name": "api",
    "models": ["shapes-sdxl"],
    "prompts": ["shapes-pickapic"],
    "samplers": ["ddim"],
    "steps": 2,
    "baseline": "standard",
    "methods": ["standard", "inversion", "reseed"],
    "metrics": ["shapes-clipscore", "shapes-geneval"],
    "controls": {"reseed": "zero"},
    "gates": [{"metric": "shapes-clipscore", "method": "reseed", "delta": -9.0, "prompts": "shapes-pickapic"}],
}
SHIFTED = """\
from bench.methods.base import Method

COLUMNS = 1


def shift(x, by):
    return x.roll(by * COLUMNS, dims=-1)


class Shifted(Method):
    by: int = 1

    def noise(self, s, x):
        return shift(x, self.by)
"""
BRIGHTER = """\
from bench.metrics.base import MetricEntry, Value


class Brighter:
    def score_pairs(self, baseline_images, method_images, prompts):
        return [Value(float(m.mean() > b.mean())) for b, m in zip(baseline_images, method_images)]


brighter = MetricEntry("brighter", "Brighter", "preference", lambda device: Brighter(), lambda: "1", kind="pair")
"""


class Notebook:
    """A module `__main__` without a file, whose cells have their source where tracebacks look it up."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.module = ModuleType("__main__")
        self.cells = 0
        patch.setitem(sys.modules, "__main__", self.module)

    def cell(self, text: str) -> None:
        self.cells += 1
        name = f"<cell {self.cells} of {id(self)}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        self.run(text, name)

    def run(self, text: str, name: str) -> None:
        exec(compile(text, name, "exec", dont_inherit=True), vars(self.module))

    def digest(self, name: str) -> str:
        """Of the code of a class or function, as job ids have it."""
        code = identity.of(vars(self.module)[name])
        assert code is not None
        return code.digest

    def __getitem__(self, name: str) -> Any:
        return vars(self.module)[name]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    yield Notebook(monkeypatch)
    registry.forget(registry.NOTEBOOK)
