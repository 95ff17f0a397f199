"""`--executor local`: worker processes on this machine, each with a pipe to the driver that ends it when it closes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe, wait

from bench.runner.executors import Wanted, executor
from bench.runner.executors.fleet import Fleet, Hand
from bench.runner.executors.worker import Setting

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Process(Hand):
    """A worker process. What it prints is kept in a file without a name, whose last line says why it ended."""

    def __init__(self, number: int, environment: dict[str, str]) -> None:
        super().__init__(number)
        self.connection, theirs = Pipe()
        self.log = tempfile.TemporaryFile()
        with theirs:
            self.running = subprocess.Popen(
                [sys.executable, "-m", "bench.runner.executors.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C is for the driver, which ends its workers
            )

    def send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):
            self.connection.send_bytes(message)

    def receive(self) -> bytes | None:
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def end(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.ready and not self.waiting:
                self.send(b"")
                self.running.wait(2)
            elif self.running.poll() is None:
                self.running.wait(0.2)  # it may be about to end, and then it says how
        code = self.running.poll()
        if code is None:
            with contextlib.suppress(OSError):
                os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()
        self.connection.close()
        return self._how(code)

    def _how(self, code: int | None) -> str:
        with self.log as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 2000))
            lines = log.read().decode(errors="replace").strip().splitlines()
        if code is not None and code < 0:
            killed = ", as where memory runs out" if code == -signal.SIGKILL else ""
            return f"ended by signal {-code}{killed}"
        return f"exit code {code}{f': {lines[-1][:300]}' if lines else ''}"


@executor("local")
class Local(Fleet):
    """Worker processes on this machine."""

    name = "local"

    def __init__(self, workers: int, setting: Setting, *, gpus: float = 0.0):
        super().__init__(workers, setting)
        self.gpus = gpus

    @classmethod
    def opened(cls, wanted: Wanted, setting: Setting, *, device: str) -> Local:
        from bench.runner.executors.thrifty import cores

        known = isinstance(wanted.workers, int) and wanted.workers
        workers = known or max(1, cores() // (setting.threads or 1))
        return cls(workers, setting, gpus=(wanted.gpus_per_worker or 1.0) if device == "cuda" else 0.0)

    def start(self, number: int, setting: bytes) -> Hand:
        threads = {"OMP_NUM_THREADS": str(self.setting.threads)} if self.setting.threads else {}
        hand = Process(number, {**threads, **self._gpus()})
        hand.send(setting)
        hand.place = self._free_place()
        return hand

    def _free_place(self) -> int:
        """The lowest place, from 0, that no worker has: one that takes the place of another has its GPU."""
        taken = {hand.place for hand in self.hands}
        return next(place for place in range(self.workers + 1) if place not in taken)

    def _gpus(self) -> dict[str, str]:
        """The GPUs of the worker that is started next, as CUDA is to see them."""
        if not self.gpus:
            return {}
        visible = os.environ.get(VISIBLE)
        known = [one.strip() for one in visible.split(",")] if visible else None
        first = int(self._free_place() * self.gpus)
        numbers = range(first, first + max(1, int(self.gpus)))
        return {VISIBLE: ",".join(known[number] if known else str(number) for number in numbers)}

    def heard(self, hands: Sequence[Hand], seconds: float) -> list[Hand]:
        by_connection: dict[Connection, Hand] = {hand.connection: hand for hand in hands if isinstance(hand, Process)}
        return [by_connection[one] for one in wait(list(by_connection), seconds) if isinstance(one, Connection)]
