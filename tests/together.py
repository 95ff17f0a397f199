"""Runs commands at the same time: the first one's output as it comes, the others' when each has ended.

    python tests/together.py COMMAND ... --and COMMAND ... [--then COMMAND ...] ...

`--then` runs a command after the one before it, where that one passed. The exit code is that of the first command,
from the left, that failed. Tests wait for disks and processes, and a gate makes images for minutes on one core: side by
side no core is idle. The others have a lower priority, so that they last through the pauses of the first, which takes
longest.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

AND, THEN = "--and", "--then"
NICER = 8
"""The niceness of all but the first: about a sixth of its share of a core that both want."""


@dataclass
class Line:
    """Commands that run one after the other."""

    commands: list[list[str]]
    output: IO[bytes] | None
    """Where they write; None: to this program's own output."""
    code: int = 0
    seconds: float = 0.0

    def run(self) -> None:
        started = time.monotonic()
        for command in self.commands:
            self.code = self.code or _run(command, self.output)
        self.seconds = time.monotonic() - started


def _run(command: list[str], output: IO[bytes] | None) -> int:
    if output is not None:
        output.write(f"$ {' '.join(command)}\n".encode())
        output.flush()
    try:
        process = subprocess.Popen(command, stdout=output, stderr=None if output is None else subprocess.STDOUT)
    except OSError as error:
        print(f"error: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    if output is not None and hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICER)
    code = process.wait()
    return code if code >= 0 else 128 - code


def split(words: Sequence[str], at: str) -> list[list[str]]:
    """Words between the words `at`."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == at:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def main(words: Sequence[str]) -> int:
    chains = [split(part, THEN) for part in split(words, AND)]
    if not all(command for chain in chains for command in chain):
        print(f"error: a command is empty; expected COMMAND [{AND}|{THEN} COMMAND] ...", file=sys.stderr)
        return 2
    lines = [Line(chain, None if i == 0 else tempfile.TemporaryFile()) for i, chain in enumerate(chains)]
    threads = [threading.Thread(target=line.run, daemon=True) for line in lines]
    for thread in threads:
        thread.start()
    for line, thread in zip(lines, threads, strict=True):
        thread.join()
        if line.output is not None:
            line.output.seek(0)
            sys.stdout.write(line.output.read().decode(errors="replace"))
            line.output.close()
        print(f"exit code {line.code} after {line.seconds:.0f} s: {' '.join(line.commands[0])}", flush=True)
    return next((line.code for line in lines if line.code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
