"""The program in processes of its own that are forks of one that has imported everything.

Most of a small run's time is importing torch and diffusers. A server process imports them once for all tests of a
session; what it forks runs the program as a started process does, and can be stopped and killed as one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path

IMPORTED = [
    "torch",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "transformers.models.clip.modeling_clip",
    "bench.cli",
    "bench.job.stages",
    "bench.runner.generator",
    "bench.shapes.plugin",
    "npnet.training.train",
]
"""What a run of the embedded world or a training imports. This starts no thread, and the server runs no network."""


def server() -> ForkServerContext:
    """Starts processes by forks of the one that has imported everything; unlike forks of this one they may train."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


class Forked:
    """`bench ARGUMENTS` in a process that has everything imported; what it prints goes to files in an empty folder."""

    def __init__(self, arguments: Sequence[object], folder: Path, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._said = folder / "out", folder / "err"
        words = [str(word) for word in arguments]
        self._process = server().Process(target=_program, args=(words, self._said, {**os.environ, **(env or {})}))
        self._process.start()

    @property
    def number(self) -> int:
        """Its process number."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, negative for a signal's number; None while it runs."""
        return self._process.exitcode

    def kill(self, with_: signal.Signals = signal.SIGKILL) -> int:
        """Send it a signal; returns its exit code."""
        os.kill(self.number, with_)
        return self.wait()

    def wait(self, seconds: float = 300) -> int:
        """Its exit code, when it has ended."""
        self._process.join(seconds)
        code = self._process.exitcode
        assert code is not None, f"it has not ended after {seconds:g} s"
        return code

    @property
    def out(self) -> str:
        """What it has printed."""
        return _text(self._said[0])

    @property
    def err(self) -> str:
        """What it has said on its standard error."""
        return _text(self._said[1])


def commands_with(*words: str) -> list[str]:
    """Command lines of all processes of this machine that have these words."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue  # it has ended
        if all(word in line for word in words):
            found.append(line)
    return found


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""


def _program(words: list[str], said: tuple[Path, Path], environment: dict[str, str]) -> None:
    # A parent in the background may have been started to ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    added = [one for one in environment.get("PYTHONPATH", "").split(os.pathsep) if one and one not in sys.path]
    sys.path[:0] = added
    for stream, file in enumerate(said, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    from bench.cli import main

    sys.exit(main(words))
