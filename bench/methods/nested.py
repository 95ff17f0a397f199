"""What a step costs where several methods stand around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bench.sampling.records import Nfe, Sampling

if TYPE_CHECKING:
    from bench.methods.base import Method

Costs = Callable[[int], Nfe]
"""A cost by call of the loop."""


def nested(links: Sequence[Method], p: Sampling, i: int, inner: Costs, beside: Costs) -> Nfe:
    """What call i costs with these links around it.

    The sampler's own step costs `inner`, and a denoiser call of a method's own comes with `beside`.
    """
    if not links:
        return inner(i)
    first, rest = links[0], links[1:]
    own = first.step_nfe(p, i, Nfe()).forwards
    cost = first.step_nfe(p, i, nested(rest, p, i, inner, beside)) + own * beside(i)
    return sum((nested(rest, p, k, inner, beside) for k in first.revisits(p, i)), cost)
