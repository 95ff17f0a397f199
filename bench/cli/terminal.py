"""Text that a terminal takes for text alone: prompts, labels, ledgers and messages come from files that others wrote.

A terminal acts on control characters: it moves the cursor over what was printed before, sets its title, or writes to
the clipboard; and marks of writing direction reorder what is read. All that a command prints goes through
`inert_output`, so no print, warning or traceback has to remember it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

_DIRECTIONS = "\u202a-\u202e\u2066-\u2069"
_UNSEEN = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}]+")
# Of lines: line ends and tabs stay. Half a surrogate pair is no text that an encoding could write.
_ACTING = re.compile(f"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}\ud800-\udfff]")
_OF_BARS = re.compile("(?:\r|\n|\x1b\\[A)*")


def plain(text: object) -> str:
    """One line of text: what a terminal would act on is a space."""
    return _UNSEEN.sub(" ", str(text))


def visible(text: str) -> str:
    """Lines of text: what a terminal would act on is written as its code point, such as \\u001b, as JSON has it."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Inert:
    """A text stream that shows what a terminal would act on.

    With `bars`, what other libraries' progress bars write passes: a carriage return at either end of a piece, and
    pieces that only move between lines. Our own bar is drawn on `unguarded`, the stream itself.
    """

    def __init__(self, stream: TextIO, *, bars: bool = False) -> None:
        self.unguarded, self._bars = stream, bars

    def write(self, text: str) -> int:
        """Write a piece of text; returns its length."""
        self.unguarded.write(self._bar(text) if self._bars else visible(text))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write pieces of text."""
        for line in lines:
            self.write(line)

    def _bar(self, text: str) -> str:
        if _OF_BARS.fullmatch(text):
            return text
        inner = text.strip("\r")
        before, _, after = text.partition(inner)
        return f"{before}{visible(inner)}{after}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


@contextmanager
def inert_output() -> Iterator[None]:
    """Within, standard output and standard error take no control characters."""
    out, err = Inert(sys.stdout), Inert(sys.stderr, bars=True)
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
        yield
