"""Commands that run at the same time: all of their output, and the exit code of the one that failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PYTHON, PROGRAM = sys.executable, Path(__file__).with_name("together.py")


def together(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PYTHON, PROGRAM, *words], capture_output=True, text=True, timeout=60)


def test_two_commands_meet_and_both_are_heard(tmp_path: Path) -> None:
    """Each waits for a file that the other writes: one after the other they would wait for ever."""
    code = (
        "import sys, time; from pathlib import Path; mine, other = map(Path, sys.argv[1:]); mine.touch()\n"
        "while not other.exists(): time.sleep(0.01)\n"
        "print('met', mine.name)"
    )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    done = together(PYTHON, "-c", code, a, b, "--and", PYTHON, "-c", code, b, a)
    assert done.returncode == 0, done.stderr
    assert {"met a", "met b"} <= set(done.stdout.splitlines())


def test_the_next_of_a_chain_waits_and_is_left_out_after_a_failure(tmp_path: Path) -> None:
    def exits(code: int) -> tuple[str, ...]:
        return (PYTHON, "-c", f"print('ran', {code}); raise SystemExit({code})")

    done = together(*exits(0), "--and", *exits(0), "--then", *exits(3), "--then", *exits(4))
    assert done.returncode == 3
    assert [line for line in done.stdout.splitlines() if line.startswith("ran")] == ["ran 0", "ran 0", "ran 3"]


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="this system has no niceness")
def test_all_but_the_first_have_a_lower_priority() -> None:
    code = (
        "import os, sys, time\n"
        "for _ in range(500):\n"
        "    if found := os.getpriority(os.PRIO_PROCESS, 0) - int(sys.argv[1]): break\n"
        "    time.sleep(0.01 * (sys.argv[2] != 'first'))\n"
        "print(sys.argv[2], found > 0)"
    )
    ours = str(os.getpriority(os.PRIO_PROCESS, 0))
    done = together(PYTHON, "-c", code, ours, "first", "--and", PYTHON, "-c", code, ours, "second")
    assert done.returncode == 0, done.stderr
    assert {"first False", "second True"} <= set(done.stdout.splitlines())


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--and", "true"), 2), (("true", "--then"), 2), ((), 2), (("true", "--and", "no-such-program"), 127)],
)
def test_what_cannot_run_is_one_line(words: tuple[str, ...], code: int) -> None:
    done = together(*words)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
