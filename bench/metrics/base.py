"""What a metric is: a catalogue entry without torch, and a scorer that it loads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.prompts.base import Prompt


@dataclass(frozen=True)
class Value:
    """A score and, where the metric can say more, details that go into the ledger as JSON."""

    value: float
    detail: dict[str, Any] = field(default_factory=dict)


class Scorer(Protocol):
    """A loaded metric."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        """One value an image; images are (H, W, 3) uint8. The value may not depend on the rest of the batch."""
        ...


@runtime_checkable
class Differentiable(Protocol):
    """What a scorer may have beside `score`: values that a gradient flows through, for what climbs a metric."""

    def differentiable(self, images: torch.Tensor, prompts: Sequence[Prompt]) -> torch.Tensor:
        """(B,) values of images (B, 3, H, W), fp32 in [0, 1]; of whole grey levels they are `score`'s, to rounding."""
        ...


@dataclass(frozen=True)
class MetricEntry:
    """A metric by name. `load(device)` is None for a metric of the catalogue whose scorer is not built yet."""

    name: str
    title: str
    unit: str
    load: Callable[[str], Scorer] | None
    identify: Callable[[], str]
    """Digest of all that decides a score: weights, preprocessing, code version."""
    higher_is_better: bool = True
    scale: str = ""
    """How the paper prints the metric."""
    needs_metadata: bool = False
    """Whether it judges only prompts that carry GenEval metadata."""
    partial: bool = False
    """Whether it judges a part of the pairs only, as people do: what it has not judged is not missing."""
    twin_of: tuple[str, ...] = ()
    about: str = ""

    def digest(self) -> str:
        return self.identify()

    def scorer(self, device: str) -> Scorer:
        """The loaded scorer; UserError where there is none yet."""
        if self.load is None and self.partial:
            raise UserError(
                f"metric {self.name!r} is not computed; leave it out of the suite, and give a run's votes to "
                f"`python -m bench score RUN --metric {self.name} --votes FILE`"
            )
        if self.load is None:
            raise UserError(
                f"metric {self.name!r} is in the catalogue but its scorer is not built yet; "
                "leave it out with --metric, or run the embedded twin with --twin"
            )
        return self.load(device)
