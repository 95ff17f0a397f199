"""Batches as large as the memory allows, for whoever makes or judges images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from bench.errors import UserError

T = TypeVar("T")


class Fitting:
    """A batch that does not fit a GPU's memory is halved, and later ones stay as small."""

    def __init__(self, first: int | None = None) -> None:
        """`first` is the largest batch that is tried; None: whatever is given."""
        self.first = first
        self.most: dict[str, int] = {}
        """By network, the largest batch that may still fit; only of those of which one did not."""

    def each(self, items: Sequence[T], make: Callable[[Sequence[T]], None], *, model: str, one: str) -> None:
        """`make` all items, in parts that fit; UserError where a single one (`one` says of what) does not."""
        self.parts(items, make, of=model, too_large=f"model {model!r}: one {one} does not fit this GPU's memory")

    def parts(self, items: Sequence[T], make: Callable[[Sequence[T]], None], *, of: str, too_large: str) -> None:
        """The same for a network of any kind; `too_large` is the error's message."""
        import torch

        begun = 0
        while begun < len(items):
            part = items[begun : begun + self.most.get(of, self.first or len(items))]
            try:
                make(part)
                begun += len(part)
                continue
            except torch.OutOfMemoryError:
                pass
            # Only out here: while the exception is being handled, its traceback keeps the failed batch's tensors.
            if len(part) == 1:
                raise UserError(too_large)
            torch.cuda.empty_cache()
            self.most[of] = len(part) // 2
