"""RePaint's resampling without a mask: step down, put noise back on, step down again (Lugmayr et al. 2022, 2201.09865).

Up from place i to place j <= i is the forward process, x_j = sqrt(w) x_i + sqrt(1 - w) z with w = abar_j / abar_i
(eq. 2), so latents that are distributed as images noised to place i stay such at place j. The Golden Noise paper
names the method without settings; `repaint_first` is the nearest code that it released (`call_renoise`), and
`repaint_every` a line of that code that is commented out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.errors import UserError
from bench.methods.base import Method
from bench.registry import register
from bench.sampling.records import MEMORYLESS, Nfe, Sampling, guided_calls

if TYPE_CHECKING:
    import torch

    from bench.sampling.session import Next, Session, Step

RELEASED = "xie-lab-ml/Golden-Noise-for-Diffusion-Models @ aa7103e, call_renoise"


def _at_least_two(p: Sampling, name: str) -> Sampling:
    if p.steps < 2:
        raise UserError(f"{name} puts noise back on after a step that is not the last; give 2 steps or more, not 1")
    return p


@register("methods", "repaint_first")
class RepaintFirst(Method):
    """x' = sqrt(w) DDIM(x, t0 -> t1) + sqrt(1 - w) z at t0: noise of unit variance like any other, so kind A."""

    about: ClassVar[str] = "RePaint once: the first step down, noise put back on, and sampling from there"
    source: ClassVar[str] = RELEASED
    cost: ClassVar[str] = "+1 call"

    def sampling(self, p: Sampling) -> Sampling:
        return _at_least_two(p, "repaint_first")

    def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
        down = s.move(x, 0, 1, s.predict(x, s.timesteps[0]).eps)
        return s.renoise(down, 1, 0)

    def noise_nfe(self, p: Sampling) -> Nfe:
        return guided_calls(p)


@register("methods", "repaint_every")
class RepaintEvery(Method):
    """Every step but the last is taken twice, with fresh noise in between: 2N - 1 calls for N steps."""

    about: ClassVar[str] = "RePaint at every step but the last: down, noise put back on, down again"
    source: ClassVar[str] = f"{RELEASED} (the commented line); 2201.09865, algorithm 1 with U = 2"
    cost: ClassVar[str] = "2N - 1 calls"
    needs: ClassVar[frozenset[str]] = frozenset({MEMORYLESS})

    def sampling(self, p: Sampling) -> Sampling:
        return _at_least_two(p, "repaint_every")

    def step(self, s: Session, x: torch.Tensor, i: int, following: Next) -> Step:
        down = following(x)
        if i + 1 == len(s.timesteps):
            return down
        return following(s.renoise(down.x, i + 1, i))

    def step_nfe(self, p: Sampling, i: int, inner: Nfe) -> Nfe:
        return inner if i + 1 == p.steps else 2 * inner


def jumps(steps: int, length: int, i: int) -> bool:
    """Whether the published schedule jumps back once call i of the loop is done.

    There `get_schedule_jump` counts t = steps - 1, ..., 0 where places count 0, ..., steps - 1, and jumps from those of
    t = 0, length, 2 length, ... that lie below steps - length. Call i ends at t = steps - 2 - i.
    """
    t = steps - 2 - i
    return 0 <= t < steps - length and t % length == 0


@register("methods", "repaint_jump")
class RepaintJump(Method):
    """The published schedule: N + (r - 1) j (ceil(N / j) - 1) calls for N steps; 2,410 for N = 250, j = r = 10.

    The way up is one draw where the published code makes j: the same distribution, as the forward process composes.
    """

    about: ClassVar[str] = "RePaint's own schedule: back by j steps, r times in all, at every j-th step"
    source: ClassVar[str] = "2201.09865, section 4.2 and its code's get_schedule_jump"
    cost: ClassVar[str] = "N + (r - 1) j (ceil(N / j) - 1) calls"
    needs: ClassVar[frozenset[str]] = frozenset({MEMORYLESS})

    j: int = Field(10, ge=1, le=1000)
    """Steps of a jump back."""
    r: int = Field(10, ge=2, le=1000)
    """How often each stretch of j steps is sampled in all."""

    def sampling(self, p: Sampling) -> Sampling:
        if p.steps <= self.j:
            raise UserError(f"repaint_jump with j = {self.j} never jumps in {p.steps} steps; give a smaller j")
        return p

    def step(self, s: Session, x: torch.Tensor, i: int, following: Next) -> Step:
        done = following(x)
        if not jumps(len(s.timesteps), self.j, i):
            return done
        for _ in range(self.r - 1):
            back = i + 1 - self.j
            done = following(s.renoise(done.x, i + 1, back), back)
            for k in range(back + 1, i + 1):
                done = following(done.x, k)
        return done

    def revisits(self, p: Sampling, i: int) -> Sequence[int]:
        return [*range(i + 1 - self.j, i + 1)] * (self.r - 1) if jumps(p.steps, self.j, i) else []
