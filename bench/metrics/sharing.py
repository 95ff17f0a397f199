"""Networks that scorers share: loaded once for all that hold one, and run once on an image that several ask about.

A network is known by how it is read, what its file holds, its precision and its device. Nothing here keeps one: it is
in memory for as long as a scorer holds it. What a network computes of an image is kept only inside `remembering`, which
whoever scores a batch with several scorers enters for that batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    import numpy as np
    import torch

Key = tuple[str, ...]


class Network:
    """A loaded network, shared by every scorer that uses it."""

    def __init__(self, module: Any):
        self.module = module

    def once(
        self, images: Sequence[np.ndarray], way: str, run: Callable[[Sequence[np.ndarray]], torch.Tensor]
    ) -> torch.Tensor:
        """(B, ...) `run(images)`; inside `remembering` it is run only on images that it was not run on before.

        `way` names how `run` prepares images and what it reads of the network: rows of one way are never another's.
        """
        return _MEMORIES[-1].rows_of(self, images, way, run) if _MEMORIES else run(images)


def load_shared(key: Key, read: Callable[[], Any]) -> Network:
    """The network that some scorer already holds under this key, else the one that `read` loads."""
    found = _LOADED.get(key)
    if found is None:
        found = Network(read())
        _LOADED[key] = found
    return found


_LOADED: WeakValueDictionary[Key, Network] = WeakValueDictionary()


class _Row(NamedTuple):
    image: np.ndarray
    """Referenced so that no other image can take its identity."""
    value: torch.Tensor
    seconds: float


class Memory:
    """What networks computed of the images of one batch."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, str, int], _Row] = {}
        self.spared = 0.0
        """Seconds that scorers would have taken in addition, had each run its networks alone."""

    def rows_of(
        self,
        network: Network,
        images: Sequence[np.ndarray],
        way: str,
        run: Callable[[Sequence[np.ndarray]], torch.Tensor],
    ) -> torch.Tensor:
        """As `Network.once`; where `run` raises, nothing is kept of it."""
        import torch

        keys = [(id(network), way, id(image)) for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self.rows}
        old = [key for key in keys if key not in new]
        if new:
            started = time.perf_counter()
            found = run(list(new.values()))
            if found.is_cuda:
                torch.cuda.synchronize(found.device)
            each = (time.perf_counter() - started) / len(new)
            for (key, image), value in zip(new.items(), found, strict=True):
                self.rows[key] = _Row(image, value, each)
        self.spared += sum(self.rows[key].seconds for key in old)
        return torch.stack([self.rows[key].value for key in keys])


_MEMORIES: list[Memory] = []


@contextmanager
def remembering() -> Iterator[Memory]:
    """Let networks keep what they compute of images, by the image's identity, until this is left."""
    memory = Memory()
    _MEMORIES.append(memory)
    try:
        yield memory
    finally:
        _MEMORIES.remove(memory)
