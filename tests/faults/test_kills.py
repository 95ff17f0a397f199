"""A run that is killed at random moments ends as one that was left alone; `kills.py` does it 50 times.

Every week, by NOISEBENCH_FULL=1: `test_resume.py` kills a run at chosen moments with each push.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from covering import FULL

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not FULL, reason="every week, by NOISEBENCH_FULL=1")]
TRIES = 12


def test_kills_at_random_moments_lose_nothing() -> None:
    command = [sys.executable, str(Path(__file__).with_name("kills.py")), "--tries", str(TRIES), "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, total = done.stdout.strip().splitlines()
    assert total.startswith(f"{TRIES} tries, ")
    assert total.endswith(", 0 problems")
