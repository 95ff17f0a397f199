"""Metrics as their original packages compute them: by a worker in an environment of its own, over a pipe.

`{use: hpsv2, implementation: package}` in a suite. The digest has the checkpoint's content, the lock file of the
environment and the worker's own code.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from bench import environments
from bench.digests import file_digest
from bench.errors import without_secrets
from bench.metrics.base import MetricEntry
from bench.metrics.checkpoint import Checkpoint
from bench.metrics.outside import LONGEST, PROTOCOL, Broken, Gone, Outside, parsed, plain
from bench.needs.base import Made, Need

PROGRAM = Path(environments.__file__).parents[1] / "workers" / "packages.py"
PACKAGES = {"hpsv2": "hpsv2", "hpsv2-v2.0": "hpsv2", "imagereward": "image-reward"}
"""By metric, the environment and the package that computes it."""
ENDED = "it ended"
LOADING = 900.0
"""Seconds that a worker may take to load its networks."""


def packaged(row: MetricEntry, checkpoint: Checkpoint) -> Callable[[str | None, float | None], MetricEntry] | None:
    """What makes a metric of its package; None for a metric that has no environment."""
    name = PACKAGES.get(row.name)
    if name is None:
        return None

    def of(folder: str | None, timeout: float | None) -> MetricEntry:
        place = checkpoint if folder is None else checkpoint.at(folder)

        def fetch() -> None:
            environments.find(name).check()
            place.fetch()

        def identify() -> str:
            made_of = f"{environments.lock_digest(name)}:{file_digest(PROGRAM)[:16]}"
            return f"{row.name}-package-{PROTOCOL}:{place.identity()}:{made_of}"

        def load(device: str) -> Worker:
            return Worker(name, place, device, timeout)

        def needs() -> tuple[Need, ...]:
            made = Made(environments.find(name).mark, f"python -m bench env make {name}")
            return (Need(f"metric {row.name}", f"environment {name}", made), *place.needs())

        return replace(row, load=load, identify=identify, fetch=fetch, needs=needs, configure=None)

    return of


class Worker(Outside):
    """A process that scores; it is started when it is first asked, and again after it died."""

    def __init__(self, package: str, checkpoint: Checkpoint, device: str, timeout: float | None) -> None:
        super().__init__(timeout)
        place = environments.find(package)
        place.check()
        self.package = package
        self.folder = tempfile.TemporaryDirectory(prefix="bench-worker-")
        for part in checkpoint.parts:
            (Path(self.folder.name) / part.name).symlink_to(checkpoint.path(part.name).resolve())
        self.beside(checkpoint)
        program = [str(place.python), "-I", "-X", "utf8", str(PROGRAM), package]
        self.command = [*program, "--checkpoint", self.folder.name, "--device", device]
        self.process: Process | None = None

    def beside(self, checkpoint: Checkpoint) -> None:
        """The architecture that a folder of the user's may name, as our own scorer reads it."""
        config = checkpoint.architecture
        if config is not None:
            (Path(self.folder.name) / config.name).symlink_to(config)

    def ask(self, request: dict[str, Any], seconds: float) -> Any:
        try:
            if self.process is None:
                self._start()
            assert self.process is not None
            self.process.say(json.dumps(request).encode() + b"\n")
            answer = parsed(self.process.line(seconds))
            if not isinstance(answer, dict) or answer.get("id") != request["id"]:
                raise Broken("an answer to no request of ours")
            return answer
        except Broken as error:
            kind = type(error)
            # What it may yet say would be taken for the answer to the next request.
            how = self.process.ended() if self.process else ""
            self.process = None
            suffix = how if str(error).endswith(ENDED) else ""
            raise kind(f"the worker of {self.package}: {error}{suffix}") from None

    def _start(self) -> None:
        """Start it and have it load its networks; Gone where it does not, for it would not the next time either."""
        try:
            self.process = Process(self.command)
            first = parsed(self.process.line(LOADING))
        except Broken as error:
            raise Gone(f"it does not start: {error}") from None
        if not isinstance(first, dict) or first.get("protocol") != PROTOCOL:
            raise Gone("it does not speak our protocol")
        if "ready" not in first:
            raise Gone(f"it does not load: {plain(first.get('error', 'no reason given'))}")


class Process:
    """A running program, and its lines one by one; it is killed when this is no longer referenced."""

    def __init__(self, command: list[str]) -> None:
        inherited = {k: v for k, v in without_secrets(os.environ).items() if not k.startswith("PYTHON")}
        # Nothing is fetched behind our back: the checkpoint is given.
        inherited |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        self.log = tempfile.TemporaryFile()
        try:
            self.running = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=inherited,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Broken(f"it cannot be started ({error.strerror})") from error
        self.lines: queue.Queue[bytes] = queue.Queue()
        assert self.running.stdout is not None
        threading.Thread(target=_read, args=(self.running.stdout, self.lines), daemon=True).start()
        self.stop = weakref.finalize(self, _kill, self.running)

    def say(self, line: bytes) -> None:
        """Write a line without waiting for it to be read: whoever does not read does not answer either."""
        assert self.running.stdin is not None
        threading.Thread(target=_write, args=(self.running.stdin, line), daemon=True).start()

    def line(self, seconds: float) -> bytes:
        """The next line; Broken where none comes in time, or the process has ended."""
        try:
            found = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise Broken(f"no answer within {seconds:g} s") from None
        if not found:
            raise Broken(ENDED)
        if not found.endswith(b"\n"):
            raise Broken(f"an answer that was cut off, or is longer than {LONGEST} bytes")
        return found

    def ended(self) -> str:
        """Kill it; how it ended and the last line that it printed, for messages."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.running.wait(0.2)
        code = self.running.poll()
        self.stop()
        how = "" if code is None else f" (exit code {code})" if code >= 0 else f" (signal {-code})"
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - 2000))
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return how + (f": {plain(lines[-1])}" if lines and code else "")


def _read(pipe: IO[bytes], lines: queue.Queue[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while line := pipe.readline(LONGEST):
            lines.put(line)
    lines.put(b"")
    pipe.close()


def _write(pipe: IO[bytes], line: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):
        pipe.write(line)
        pipe.flush()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        process.wait(5)
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
