"""What every program of this project does alike: commands, exit codes, one line for a mistake."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable

from bench import __version__
from bench.errors import BenchError

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")

Command = Callable[[argparse.Namespace], int]
Add = Callable[[str, Command, str], argparse.ArgumentParser]
"""Adds a command to a program: `add(name, command, about)`."""


def guarded(command: Command, options: argparse.Namespace) -> int:
    """A command's exit code, whatever becomes of it: mistakes and interruptions are one line, faults a traceback."""
    try:
        return command(options)
    except BenchError as error:
        print(f"error: {plain(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone; that is no fault, and Python must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        traceback.print_exc()
        from bench.faults import of_plugin

        if said := of_plugin(error):
            print(f"error: {plain(said)}; report it to its authors, with the lines above", file=sys.stderr)
            return 2
        print("error: this is a fault of ours, please report it with the lines above", file=sys.stderr)
        return 4


def plain(text: object) -> str:
    """One line that a terminal takes for text alone: names come from files that others wrote."""
    return _UNSEEN.sub(" ", str(text))


def say(lines: Iterable[object]) -> None:
    """Print each as one plain line."""
    for line in lines:
        print(plain(line))


def commands(parser: argparse.ArgumentParser) -> Add:
    """Give a program its `--version` and what adds a command to it: `add(name, command, about)`."""
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, about: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=about, description=about)
        sub.set_defaults(command=command)
        return sub

    return add


def positive(text: str) -> int:
    """An argument's whole number from 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return value
