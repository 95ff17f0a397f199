"""A finished run whose suite has gates, and its frozen baseline."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Bench, Run
from suite_texts import write_suite

GATES = {
    "shapes-clipscore": {"method": "inversion", "delta": -3.0},
    "calls": {"method": "inversion", "ratio": 1.6},
}


@pytest.fixture(scope="module")
def frozen(bench: Bench, finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run's baseline."""
    path = tmp_path_factory.mktemp("frozen") / "tiny.json"
    assert bench("baseline", "freeze", finished.folder, "--out", path).code == 0
    return path


@pytest.fixture
def gated(finished: Run, tmp_path: Path) -> Run:
    """A copy of the finished run whose suite has gates."""
    copy = finished.copy(tmp_path)
    suite = tmp_path / "gated.yaml"
    write_suite(suite, gates=GATES)
    return Run(suite, copy.runs, copy.cache, copy.folder)
