"""A collection to train on, and a finished training."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pairs of 24 prompts."""
    from noise_pairs import collection

    folder = tmp_path_factory.mktemp("pairs")
    collection(folder)
    return folder


@pytest.fixture(scope="session")
def trained(pairs: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """Four epochs without a break; it is never changed."""
    from .small import train

    out = tmp_path_factory.mktemp("trained")
    train(pairs, out, epochs=4)
    return out


@pytest.fixture(scope="session")
def once(pairs: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """One epoch; it is never changed."""
    from .small import train

    out = tmp_path_factory.mktemp("once")
    train(pairs, out, epochs=1)
    return out


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of this test draw no losses, which takes longer than an epoch."""
    from npnet.training import losses

    monkeypatch.setattr(losses, "draw", lambda rows, out: True)
