"""Which methods may stand together in a chain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from bench.sampling.records import Sampling

if TYPE_CHECKING:
    from bench.methods.base import Method


def split_choice(links: tuple[Method, ...]) -> tuple[tuple[Method, ...], Method | None]:
    """The links that make an image, and the one that chooses among images, if any.

    Raises ValueError for two choosers: which of them sees which candidates would be anybody's guess.
    """
    choosing = [m for m in links if m.judge()]
    if len(choosing) > 1:
        raise ValueError("a chain holds one choosing method (such as best_of_n) at the most")
    return tuple(m for m in links if not m.judge()), (choosing[0] if choosing else None)


def check_chain(links: Sequence[Method], names: Sequence[str], p: Sampling) -> None:
    """ValueError, with the reason, for links that cannot stand together where the suite samples as `p`."""

    def two(found: Iterable[str], said: str) -> None:
        names_ = list(found)
        if len(names_) > 1:
            raise ValueError(f"{names_[0]!r} and {names_[1]!r} cannot stand in one chain: {said}")

    named = list(zip(names, links, strict=True))
    two((n for n, m in named if m.sampling(p) != p), "both set how the image is sampled")
    two((n for n, m in named if any(w.kind == "network" for w in m.adapters())), "both replace the denoiser's weights")
    two((n for n, m in named if any(w.kind == "lora" for w in m.adapters())), "both add a LoRA to the denoiser")
    two((n for n, m in named if m.sets_guidance()), "both set the guidance of every step")
    wrapping = [(n, m) for n, m in named if m.wraps_step()]
    for (name, method), (inner, _) in pairwise(wrapping):
        if method.ignores_next:
            raise ValueError(
                f"{name!r} makes the whole step itself, so {inner!r} after it would not run; leave one out"
            )
