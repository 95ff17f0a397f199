"""What a loaded scorer is, by the kind of its metric, and what it gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from bench.prompts.base import Prompt


@dataclass(frozen=True)
class Value:
    """A score and, where the metric can say more, details that go into the ledger as JSON."""

    value: float
    detail: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def failed(cls, reason: str) -> Value:
        """What a scorer gives where it has no value: the score is marked failed for that reason, a line."""
        return cls(math.nan, {"failed": reason})

    @property
    def reason(self) -> str | None:
        """Why there is no value; None where there is one."""
        if math.isfinite(self.value):
            return None
        return str(self.detail.get("failed") or f"its score is not finite ({self.value})")


class Scorer(Protocol):
    """A loaded metric of the kind `image`."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        """One value an image; images are (H, W, 3) uint8. The value may not depend on the rest of the batch.

        A value that is not finite is marked failed with its image; the others are kept.
        """
        ...


class PairScorer(Protocol):
    """A loaded metric of the kind `pair`."""

    def score_pairs(
        self, baseline_images: Sequence[np.ndarray], method_images: Sequence[np.ndarray], prompts: Sequence[Prompt]
    ) -> list[Value]:
        """One value in [0, 1] a prompt: the probability, or share, by which the method's image is preferred to the
        baseline's; a tie is 0.5. Images are (H, W, 3) uint8. A value outside [0, 1], or one that is not a
        number, is marked failed.

        Where the order of the two images matters, the entry says `both_orders`: the scorer is then asked a second time
        with the images exchanged, and p and 1 - p' are averaged. Two equal images are a tie and are not asked about.
        """
        ...


class SetScorer(Protocol):
    """A loaded metric of the kind `set`; the value of a set is `MetricEntry.value`, which needs no scorer."""

    def features(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> NDArray[np.floating[Any]]:
        """(B, D) finite features of images (H, W, 3) uint8, kept as float32. D is always the same, and a row may not
        depend on the rest of the batch. Anything else fails the batch's images.
        """
        ...


@runtime_checkable
class Differentiable(Protocol):
    """What a scorer may have beside `score`: values that a gradient flows through, for what climbs a metric."""

    def differentiable(self, images: torch.Tensor, prompts: Sequence[Prompt]) -> torch.Tensor:
        """(B,) values of images (B, 3, H, W), fp32 in [0, 1]; of whole grey levels they are `score`'s, to rounding."""
        ...
