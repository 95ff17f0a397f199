"""Progress with rate and time left: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

PLAIN_SECONDS = 5.0


class Progress:
    """`with Progress("generate", total) as p: p.advance(n)`; writes to stderr."""

    def __init__(self, title: str, total: int, unit: str = "images"):
        self.title, self.total, self.unit = title, total, unit
        self.done = 0
        self.fleet = 0
        """Worker processes that do it, said beside the rate; 0: none."""
        self.started = self.spoken = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and self.total:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            rate = TextColumn("{task.fields[rate]:.1f} " + self.unit + "/s{task.fields[fleet]}")
            # Past what keeps a command's output free of control characters: a bar is made of them.
            console = Console(file=getattr(sys.stderr, "unguarded", sys.stderr))
            self._bar = Bar(*columns, rate, TimeRemainingColumn(), console=console)
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, rate=0.0, fleet="")
        return self

    def advance(self, n: int) -> None:
        self.done += n
        now = time.monotonic()
        rate = self.done / max(now - self.started, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=rate, fleet=self._workers())
        elif now - self.spoken >= PLAIN_SECONDS or self.done == self.total:
            self.spoken = now
            left = (self.total - self.done) / max(rate, 1e-9)
            print(
                f"{self.title}: {self.done}/{self.total} {self.unit}, {rate:.1f}/s{self._workers()}, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    def _workers(self) -> str:
        return f" by {self.fleet} worker{'s' * (self.fleet > 1)}" if self.fleet else ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
