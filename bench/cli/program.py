"""What every program of this project has in common: commands, exit codes, one line for a mistake."""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from bench import __version__
from bench.cli.terminal import inert_output, plain
from bench.errors import BenchError, Terminated, UserError, masked, nearest
from bench.moved import OldName
from bench.remote.address import Url

AGAIN = 10.0
"""Seconds after which a SIGTERM that ended nothing ends the command; what is tidied up takes less."""
Command = Callable[[argparse.Namespace], int]
Add = Callable[[str, Command, str], argparse.ArgumentParser]
"""Adds a command to a program: `add(name, command, about)`."""


class Parser(argparse.ArgumentParser):
    """Says one line for a wrong value, and the usage of the command that was asked for with all other mistakes."""

    def parse_known_args(  # type: ignore[override]  # argparse has an overload for each form of namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As argparse's, without words that are left over: a command refuses those itself, for it knows its options."""
        given = list(sys.argv[1:] if args is None else args)
        if self._subparsers is None:
            self._refuse_unknown(given)
        self.exit_on_error = False
        try:
            found, left = super().parse_known_args(given, namespace)
        except argparse.ArgumentError as error:
            if error.argument_name is None:
                self.error(error.message)
            self.exit(UserError.exit_code, f"error: {plain(error)}\n")
        if left:
            self.error(f"unexpected argument {plain(left[0])!r}")
        return found, left

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"unknown {value!r}{nearest(value, map(str, action.choices))}")

    def _refuse_unknown(self, given: Sequence[str]) -> None:
        """Before a missing argument is complained of: a misspelt option is the mistake that explains it."""
        known = [name for name in self._option_string_actions if name.startswith("--")]
        for word in given[: given.index("--")] if "--" in given else given:
            name = word.partition("=")[0]
            if name.startswith("--") and " " not in name and not any(one.startswith(name) for one in known):
                near = nearest(name, known)
                self.error(f"unknown option {plain(name)}{near if 'did you mean' in near else ''}")


def guarded(command: Command, options: argparse.Namespace) -> int:
    """A command's exit code, whatever becomes of it: mistakes and interruptions are one line, faults a traceback.

    What it prints on either stream is text alone (`terminal`), and its errors show no secrets.
    """
    with inert_output(), _old_names_noted(), _sigterm_ends():
        return _code(command, options)


@contextmanager
def _old_names_noted() -> Iterator[None]:
    """Within, an old name is shown as one line, and every other warning as Python does."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, OldName):
            print(f"note: {plain(message)}", file=sys.stderr)
        else:
            before(message, category, *place, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


@contextmanager
def _sigterm_ends() -> Iterator[None]:
    """Within, SIGTERM ends the command as Ctrl-C does, so that workers end and the line on resuming is said."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        # Python drops what is raised while an object is deleted, so it is raised once more.
        signal.setitimer(signal.ITIMER_REAL, AGAIN if number == signal.SIGTERM else 0)
        raise Terminated

    before = signal.signal(signal.SIGTERM, end), signal.signal(signal.SIGALRM, end)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip((signal.SIGTERM, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)


def _code(command: Command, options: argparse.Namespace) -> int:
    try:
        for file in getattr(options, "plugin", ()):
            from bench import plugins

            plugins.load(file)
        _bring(options)
        return command(options)
    except BenchError as error:
        print(f"error: {masked(plain(error))}", file=sys.stderr)
        return code_of(error)
    except KeyboardInterrupt as stop:
        print("interrupted; what is finished is kept, run the same command again to resume", file=sys.stderr)
        return code_of(stop)
    except SystemExit as stop:
        # A command returns its exit code. Code of others that ends the program must not pass for a gate that passed.
        from bench.runner.faults import of_plugin

        said = of_plugin(stop) or f"SystemExit: {stop.code!r}: something ended the program before the command had ended"
        print(f"error: {masked(plain(said))}", file=sys.stderr)
        return UserError.exit_code if of_plugin(stop) else BenchError.exit_code
    except sqlite3.DatabaseError as error:
        print(f"error: {masked(plain(_damaged(error)))}", file=sys.stderr)
        return UserError.exit_code
    except BrokenPipeError:
        # The reader (`| head`) has gone; that is no fault, and Python must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        print(masked(traceback.format_exc()), end="", file=sys.stderr)
        from bench.runner.faults import of_plugin

        if theirs := of_plugin(error):
            print(f"error: {masked(plain(theirs))}; report it to its authors, with the lines above", file=sys.stderr)
            return code_of(error)
        print("error: internal error; please report it with the lines above", file=sys.stderr)
        return code_of(error)


def _bring(options: argparse.Namespace) -> None:
    """Put folders on this machine in the place of addresses, with what a command will read of them."""
    for name, value in vars(options).items():
        given = value if isinstance(value, list) else [value]
        if any(isinstance(one, Url) for one in given):
            from bench.remote.opening import local_place

            found = [local_place(one) if isinstance(one, Url) else one for one in given]
            setattr(options, name, found if isinstance(value, list) else found[0])


def _damaged(error: sqlite3.DatabaseError) -> str:
    return f"a ledger cannot be read or written ({error}); `python -m bench verify RUN` says what is broken in it"


def code_of(error: BaseException) -> int:
    """The exit code of a command that this ends."""
    if isinstance(error, BenchError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGTERM if isinstance(error, Terminated) else 130
    from bench.runner.faults import of_plugin

    return UserError.exit_code if of_plugin(error) else BenchError.exit_code


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
        sub.add_argument(
            "--plugin", action="append", default=[], metavar="FILE.py", help="a file that defines plugins; repeatable"
        )
        return sub

    return add


def seconds(text: str) -> float:
    """An argument's number of seconds, above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return value


def positive(text: str) -> int:
    """An argument's whole number from 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return value
