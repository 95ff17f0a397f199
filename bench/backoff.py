"""Batches as large as the memory allows, for whoever makes or judges images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from bench.errors import UserError

T = TypeVar("T")
BatchSize = int | Literal["auto"]
"""Images a batch, or as many as fit and pay (`grown`)."""
AUTO: Literal["auto"] = "auto"
DEFAULT_BATCH = {"cpu": 50, "cuda": 4}
"""Images a batch where nothing is asked for. On a CPU larger ones bring nothing more, so `auto` is this too; on a GPU
four images of 1024 pixels fit where one does."""
LARGEST = 64
"""Images a batch that `grown` tries at most."""
PAYS = 0.97
"""A doubled batch is kept where an image takes at most this share of its time before."""


def size_of(asked: BatchSize | None, device: str) -> BatchSize:
    """The batch size on a device: a number, or AUTO on a GPU."""
    plain = DEFAULT_BATCH[device.split(":")[0]]
    return plain if asked is None or (asked == AUTO and device == "cpu") else asked


def grown(tried: Callable[[int], float], *, largest: int = LARGEST) -> int:
    """The batch size that doubling from one image leads to: the last that fitted and made an image take less time.

    `tried(n)` makes a throwaway batch of n images and returns its seconds; torch.OutOfMemoryError where it does not
    fit. The memory that a method needs besides is not in it: a batch that does not fit later is halved by `Backoff`.
    Where not even one image fits the answer is 1, and the run says so when it makes it.
    """
    import torch

    best, before, size = 1, float("inf"), 1
    while size <= largest:
        try:
            each = tried(size) / size
        except torch.OutOfMemoryError:
            each = float("inf")
        if each > PAYS * before or each == float("inf"):
            break
        best, before, size = size, each, 2 * size
    # Only out here is the failed batch let go, with the exception that referred to it.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return best


class Backoff:
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

        done = 0
        while done < len(items):
            part = items[done : done + self.most.get(of, self.first or len(items))]
            try:
                make(part)
                done += len(part)
                continue
            except torch.OutOfMemoryError:
                pass
            # Only out here: while the exception is being handled, its traceback keeps the failed batch's tensors.
            if len(part) == 1:
                raise UserError(too_large)
            torch.cuda.empty_cache()
            self.most[of] = len(part) // 2
