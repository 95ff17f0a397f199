"""Models and scorers that stay loaded from one test to the next, for tests that are not about loading."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_KEPT: dict[tuple[Any, ...], Any] = {}


@contextmanager
def kept() -> Iterator[None]:
    """Within, a model is loaded once in this process for each entry, device and precision, and a scorer likewise.

    A run leaves nothing on a model: what counts its calls is taken off when the run lets it go.
    """
    with pytest.MonkeyPatch.context() as patch:
        _keep(patch)
        yield


@pytest.fixture
def kept_models(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this test find the models and scorers that earlier tests have loaded.

    By the test's own `monkeypatch`, so that what the test puts over it is undone first.
    """
    _keep(monkeypatch)


@pytest.fixture(scope="module")
def nothing_kept() -> None:
    """Lets go of all that was kept: a network that a kept scorer holds is shared with scorers that are loaded later."""
    _KEPT.clear()
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _keep(patch: pytest.MonkeyPatch) -> None:
    from bench.metrics.base import MetricEntry
    from bench.models.base import ModelEntry

    load, loaded = ModelEntry.load, MetricEntry.loaded

    def model(self: ModelEntry, device: str, dtype: str | None = None) -> Any:
        return _once((self, device, dtype), lambda: load(self, device, dtype))

    def scorer(self: MetricEntry, device: str) -> Any:
        return _once((self.name, self.load, device), lambda: loaded(self, device))

    patch.setattr(ModelEntry, "load", model)
    patch.setattr(MetricEntry, "loaded", scorer)


def _once(key: tuple[Any, ...], load: Callable[[], Any]) -> Any:
    if key not in _KEPT:
        _KEPT[key] = load()
        # It stays, so that no garbage collection needs to look through it: `pytest_runtest_setup` of conftest.
        gc.collect()
        gc.freeze()
    return _KEPT[key]
