"""The few error types; each becomes one line on the terminal and one exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """Something a user can act on; the message says what was given, what was expected and what to do."""

    exit_code = 4


class UserError(BenchError):
    """The user's mistake: a file, a name, a value, a folder."""

    exit_code = 2


class NotComparable(BenchError):
    """Two things that cannot be compared: nothing measured, another protocol, another suite."""

    exit_code = 3


class MethodFault(BenchError):
    """A hook of a method gave what it may not give; the images of its arm fail for it."""


class Regression(BenchError):
    """A gate rule failed."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """What an error says, cut to its first line; its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, else `; known: a, b, c`; empty without known names."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
