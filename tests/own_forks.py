"""Processes that are forks of this one: all is imported in them, where a new one imports torch for seconds.

Not for what runs backwards: torch refuses gradients in a fork of a process that has computed some.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Pipe

from bench.runner.executors.fleet import Hand
from bench.runner.executors.local import Local, Process
from bench.runner.executors.worker import main

FORK = multiprocessing.get_context("fork")


def killed_while(work: Callable[[], object], reached: Callable[[], bool]) -> int:
    """Kill a process that does some work, as `kill -9` does, once `reached`; returns its process number."""
    process = FORK.Process(target=work, daemon=True)
    process.start()
    while not reached():
        process.join(0.005)
        assert process.exitcode is None, "it ended before the moment came"
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    return process.pid or 0


def done_in_a_fork(work: Callable[[], object], seconds: float = 120) -> None:
    """Let a fork do some work, such as what is not to change this process; it prints what it raises."""
    process = FORK.Process(target=work, daemon=True)
    process.start()
    process.join(seconds)
    process.kill()
    assert process.exitcode == 0


class Fork(Process):
    """A worker of `local` in all but its start."""

    def __init__(self, number: int) -> None:
        Hand.__init__(self, number)
        self.connection, theirs = Pipe()
        with theirs:
            self.process = FORK.Process(target=self._work, args=(theirs.fileno(),), daemon=True)
            self.process.start()

    def _work(self, descriptor: int) -> None:
        self.connection.close()
        os._exit(main(descriptor))

    def end(self) -> str:
        with contextlib.suppress(OSError):
            self.connection.send_bytes(b"")
        self.process.join(5)
        self.process.kill()
        self.process.join(60)
        self.connection.close()
        return f"exit code {self.process.exitcode}"


class Forks(Local):
    """Workers of `local` that are forks."""

    def start(self, number: int, setting: bytes) -> Hand:
        hand = Fork(number)
        hand.send(setting)
        hand.place = self._free_place()
        return hand
