"""A run that is killed at random moments ends as one that was left alone; `kills.py` does it 50 times."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from kills import tries

pytestmark = pytest.mark.slow


def test_two_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    kills, problems = tries(2, 3, tmp_path)
    assert problems == []
    assert len(kills) == 2
    assert {one.code for one in kills} <= {0, -signal.SIGKILL}
