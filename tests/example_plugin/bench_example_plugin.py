"""A noise method in a package of its own: one class, named in pyproject.toml."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.methods.base import Method

if TYPE_CHECKING:
    import torch

    from bench.sampling.session import Session


class Flip(Method):
    """The drawn latent with its sign turned, as likely under the Gaussian as the latent itself."""

    about: ClassVar[str] = "the latent times -1: another image of the same prompt at no cost"

    strength: float = Field(1.0, ge=0, le=1)
    """1 turns the sign; 0 leaves the latent as it is."""

    def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
        return x * (1 - 2 * self.strength)
