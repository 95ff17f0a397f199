"""CFG++ in a package of its own: a method that changes the noise prediction of every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.methods.base import Method
from bench.sampling.records import FIRST_ORDER, UNCONDITIONAL

if TYPE_CHECKING:
    import torch

    from bench.sampling.session import Prediction, Session


class CfgPlusPlus(Method):
    """x_0 from u + scale (c - u), the move along u (Chung et al. 2024, 2406.08070)."""

    about: ClassVar[str] = "x_0 by an interpolated prediction, the move by the unconditional one"
    source: ClassVar[str] = "2406.08070"
    cost: ClassVar[str] = "+0"
    needs: ClassVar[frozenset[str]] = frozenset({FIRST_ORDER, UNCONDITIONAL})

    scale: float = Field(0.6, ge=0, le=1)

    def guide(self, s: Session, i: int, pred: Prediction) -> tuple[torch.Tensor, torch.Tensor]:
        u = pred.uncond
        return u + self.scale * (pred.cond - u), u
