"""Reseed: fresh noise. A control whose true effect is zero; a harness that finds one is not to be believed."""

from __future__ import annotations

from typing import ClassVar

from bench.methods.base import Method
from bench.registry import register
from bench.sampling.noise import stream


def other_seed(seed: int, k: int) -> int:
    """The k-th stand-in for a seed, far from the seeds that suites count from zero; k = 0 is the seed itself."""
    return seed if k == 0 else stream("", seed, f"candidate-{k}") % 2**31 + 2**31


@register("methods", "reseed")
class Reseed(Method):
    about: ClassVar[str] = "control: the same job with fresh noise; the true effect is zero"
    cost: ClassVar[str] = "+0"
    changes_pixels: ClassVar[bool] = False  # the image is the plain one of another seed

    def seed(self, seed: int) -> int:
        return other_seed(seed, 1)
