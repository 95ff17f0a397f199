"""A run that is killed at random moments ends as one that was left alone; `kills.py` does it 50 times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_two_kills_at_random_moments_lose_nothing() -> None:
    command = [sys.executable, str(Path(__file__).with_name("kills.py")), "--tries", "2", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, total = done.stdout.strip().splitlines()
    assert total.startswith("2 tries, ")
    assert total.endswith(", 0 problems")
