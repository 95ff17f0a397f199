"""An attention method in a package of its own: of two noises, the one in which a token is looked at more."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.methods.base import Method
from bench.sampling.records import ATTENTION, Nfe, Sampling, calls_at

if TYPE_CHECKING:
    import torch

    from bench.sampling.session import Session


class Stare(Method):
    """Keeps of x_T and one more draw the noise whose cross-attention to token `token` has the higher peak."""

    about: ClassVar[str] = "of two noises, the one with the higher attention to a token"
    cost: ClassVar[str] = "+2 conditional calls"
    needs: ClassVar[frozenset[str]] = frozenset({ATTENTION})

    token: int = Field(2, ge=0, lt=77)
    """Position in the prompt's tokens; the start token is 0."""

    def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
        import torch

        offered, peaks = (x, s.randn("stare")), []
        for latents in offered:
            with s.record("cross") as maps:
                s.predict(latents, s.timesteps[0], 1.0)
            peaks.append(maps.mean()[..., self.token].amax(1))
        other = (peaks[1] > peaks[0]).view(-1, 1, 1, 1)
        for i, taken in enumerate(other.flatten().tolist()):
            s.note(i, "stare_took_the_second", taken)
        return torch.where(other, offered[1], offered[0])

    def noise_nfe(self, p: Sampling) -> Nfe:
        return calls_at(1.0, 2)
