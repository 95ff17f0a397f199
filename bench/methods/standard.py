"""Standard: sample from the Gaussian latent as it was drawn."""

from __future__ import annotations

from typing import ClassVar

from bench.methods.base import Method
from bench.registry import register


@register("methods", "standard")
class Standard(Method):
    about: ClassVar[str] = "the Gaussian latent as drawn; the baseline"
    cost: ClassVar[str] = "+0"
    changes_pixels: ClassVar[bool] = False
