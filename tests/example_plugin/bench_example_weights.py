"""A weight swap in a package of its own: a LoRA from a folder."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bench.methods.base import Method
from bench.sampling.records import Weights
from bench.weights.files import pin


class Lora(Method):
    """The model with the low-rank updates of `folder` added `scale` times."""

    about: ClassVar[str] = "a LoRA from a folder"
    cost: ClassVar[str] = "+0"

    folder: str
    scale: float = Field(1.0, ge=-4, le=4)

    def adapters(self) -> tuple[Weights, ...]:
        from dataclasses import replace

        return (replace(pin(self.folder, of="example-lora", kind="lora"), scale=self.scale),)
