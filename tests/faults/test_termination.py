"""SIGTERM ends a command wherever it arrives."""

from __future__ import annotations

import argparse
import os
import signal
import time

import pytest

from bench.cli import program


class Deleted:
    """Python drops an exception that is raised while an object is deleted."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_sigterm_while_an_object_is_deleted_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "AGAIN", 0.05)

    def command(options: argparse.Namespace) -> int:
        thing: Deleted | None = Deleted()
        thing = None
        assert thing is None
        time.sleep(5)
        return 0

    started = time.monotonic()
    assert program.guarded(command, argparse.Namespace()) == 128 + signal.SIGTERM
    assert time.monotonic() - started < 4
    assert "run the same command again" in capsys.readouterr().err
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
