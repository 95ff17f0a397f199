"""A batch's first call of the network, kept for another session of the same batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Memory:
    """The first call of the network in a batch, for another session of the batch that begins with the same one.

    The inputs must agree bit by bit (tensors, timestep, embeddings), hence so does the answer.
    """

    inputs: Any = None
    output: Any = None
    calls: int = 0
    """Calls that the network computed."""
    reused: int = 0
    """Calls answered from memory."""


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two calls' inputs are equal to the last bit; small ones are compared before large ones."""
    import torch

    if a.keys() != b.keys():
        return False
    for key in sorted(a, key=lambda k: getattr(a[k], "nbytes", 0)):
        x, y = a[key], b[key]
        if not isinstance(x, torch.Tensor):
            if x != y:
                return False
        elif (x.shape, x.dtype, x.device) != (y.shape, y.dtype, y.device) or not torch.equal(x, y):
            return False
    return True
