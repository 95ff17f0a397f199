"""A time limit for code that may never end: a method at work on a batch, a scorer on its images.

The limit is a signal (SIGALRM), so Python code ends within it, and a single call into native code, such as one matrix
product or a download, ends first. Where signals cannot be had, outside of a process's main thread, too long a time is
found afterwards: then the work is as lost, and it took its time.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN = 1.0
"""Seconds after which the signal comes again: code may catch everything, this too."""


class OverTime(BaseException):
    """The limit is reached. Not an Exception, which code under a limit may catch and continue."""


@contextmanager
def limited(seconds: float | None, said: str) -> Iterator[None]:
    """Within, `OverTime` with these words after so many seconds; None: there is no limit."""
    if seconds is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        started = time.monotonic()
        yield
        if time.monotonic() - started > seconds:
            raise OverTime(said)
        return

    def over(signum: int, frame: FrameType | None) -> None:
        raise OverTime(said)

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
