"""Commands of the program in the test's process, in one of their own, and in forks; and how they ended."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error line; a second one, or a traceback, fails the test."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err, self.err
        assert self.err.rstrip().endswith(lines[0]), "an error has one line, and it is the last one"
        return lines[0]


Bench = Callable[..., Done]


def call(*arguments: object) -> Done:
    """`bench ARGUMENTS` in this process."""
    from bench.cli import main

    return call_main(main, *arguments)


def call_main(main: Callable[[list[str]], int], *arguments: object) -> Done:
    """A program's `main` with ARGUMENTS, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:  # argparse leaves this way
            code = int(stop.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def bench(one_thread: None) -> Bench:
    """Runs a command of the program in this process."""
    return call


@pytest.fixture(scope="session")
def bench_process() -> Bench:
    """Runs a command of the program in a process of its own."""

    def process(*arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "bench", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            timeout=300,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return process


@pytest.fixture(scope="session")
def bench_forked(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Runs a command of the program in a fork of a process that has imported torch and diffusers: `forks`.

    Its surroundings count from there on. What is read at the import of those, such as HF_ENDPOINT, is not read again.
    """
    from fork_server import Forked

    def process(*arguments: object, env: dict[str, str] | None = None) -> Done:
        running = Forked(arguments, tmp_path_factory.mktemp("forked"), env)
        return Done(running.wait(), running.out, running.err)

    return process


InTurn = Callable[..., list[Done]]
IN_TURN = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from bench.cli import main

done = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
    done.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(done))
"""


@pytest.fixture(scope="session")
def bench_in_turn() -> InTurn:
    """Runs commands one after the other in one process of their own: a second of imports once, and not each time."""

    def process(*commands: Sequence[object], env: dict[str, str] | None = None) -> list[Done]:
        given = json.dumps([[str(word) for word in command] for command in commands])
        done = subprocess.run(
            [sys.executable, "-c", IN_TURN, given],
            capture_output=True,
            text=True,
            env={**os.environ, **(env or {})},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return [Done(*one) for one in json.loads(done.stdout)]

    return process
