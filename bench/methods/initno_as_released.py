"""InitNO's released pipeline, which continues to move the latent where the paper stops: github xiefan-guo/initno."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from bench.methods import attention_losses as losses
from bench.methods.attend_and_excite import (
    Look,
    LossOf,
    call_at,
    calls_of,
    look,
    move_until,
    moved_calls,
    tokens_of,
    up_to,
)
from bench.methods.initno import InitNO
from bench.registry import register
from bench.sampling.records import Nfe, Sampling, calls_at, gradients

if TYPE_CHECKING:
    import torch

    from bench.sampling.session import Next, Session, Step

REFINED = (10, 20)
"""Steps of 50 at which the pipeline refines."""


@register("methods", "initno_as_released")
class InitNOAsReleased(InitNO):
    """The released pipeline: `initno`'s noise, and then Attend-and-Excite's step with losses of its own.

    A conditional call at every call of the loop; in the first half (25 of 50) x <- x - a_i grad L_cross with
    a_i = 20 sqrt(linspace(1, 0.5, N)). At steps 10 and 20 of 50, while L_cross > 0.2 or L_self > 0.3, x is moved
    first by L_cross + L_self + 0.1 L_clean + 0.1 L_alignment, in up to 20 iterations; L_alignment is the distance of
    the maps to their running mean over all calls (0.9). The paper has none of this.

    Source: github xiefan-guo/initno. Cost: `initno`'s, N conditional calls, N/2 gradients, and up to 20 of both more at
    each of two calls (the code's first iteration repeats a call whose answer is known: it is not made here).
    """

    about: ClassVar[str] = "InitNO's released pipeline: its noise, and the latent moved in the first half of the steps"
    source: ClassVar[str] = "github xiefan-guo/initno"
    cost: ClassVar[str] = "at most +100 conditional calls with gradient, and N + 40 more"
    as_released: ClassVar[bool] = True

    scale_factor: float = Field(losses.STEP_SCALE, gt=0, le=1e4)
    """The first move's step size."""
    iterations: int = Field(losses.REFINEMENTS, ge=0, le=1000)
    """Iterations of each refinement, at the most."""

    def step_nfe(self, p: Sampling, i: int, inner: Nfe) -> Nfe:
        calls = calls_of(p)
        if i >= moved_calls(calls):
            return inner + calls_at(1.0)
        if not self.refines(i, calls) or not self.iterations:
            return inner + gradients()
        return inner + up_to(gradients(1 + self.iterations))

    def refines(self, i: int, calls: int) -> bool:
        """Whether call i of the loop is one at which the pipeline refines."""
        return i in {call_at(step, calls) for step in REFINED}

    def step(self, s: Session, x: torch.Tensor, i: int, following: Next) -> Step:
        import torch

        calls, t, tokens = len(s.schedule.entries), s.schedule.entries[i], tokens_of(s, self.words)
        if i >= moved_calls(calls):
            if tokens:
                rows = list(tokens)
                seen = look(s.take(rows), x[rows], t, list(tokens.values()))
                for r, loss in zip(rows, losses.cross_loss(seen.subjects).tolist(), strict=True):
                    s.note(r, "initno_last_cross", loss)
            return following(x)
        x = x.detach().clone()
        refines = self.refines(i, calls)
        # Running means of the token maps in this pass of the loop, by image.
        averages: dict[int, torch.Tensor] = s.own(self)
        if i == 0:
            averages.clear()
        visited = set[int]()

        def measure(part: Session, rows: Sequence[int], x: torch.Tensor) -> tuple[Look, set[int], LossOf]:
            seen = look(part, x, t, [tokens[r] for r in rows], both=refines)
            cross = losses.cross_loss(seen.subjects)
            _remember(averages, rows, seen.maps)
            if not refines:
                return seen, set(rows), lambda last: cross
            attention = seen.attention
            assert attention is not None
            conflict = losses.self_loss(seen.subjects, attention, as_released=True)
            good = ((cross <= self.cross_target) & (conflict <= self.self_target)).tolist()
            met = {r for r, fine in zip(rows, good, strict=True) if fine}
            # The public code looks at the first latent once more, and so takes its maps into the mean twice.
            again = [k for k, r in enumerate(rows) if r not in visited | met] if self.iterations else []
            if again:
                _remember(averages, [rows[k] for k in again], seen.maps[again])
            visited.update(rows)

            def loss_of(last: Sequence[bool]) -> torch.Tensor:
                means = losses.subject_maps(
                    torch.stack([averages[r] for r in rows]), [tokens[r] for r in rows], as_released=True
                )
                joint = losses.refinement_losses(seen.subjects, attention, means, as_released=True).joint
                return torch.where(torch.tensor(last, device=cross.device), cross, joint)

            return seen, met, loss_of

        size = losses.step_sizes(calls, scale=self.scale_factor)[i]
        most = self.iterations if refines else 0
        ended = move_until(s, x, list(tokens), size=size, most=most, measure=measure)
        if refines:
            for r in tokens:
                known = s.facts[s.places[r]]
                s.note(r, "initno_refined", known.get("initno_refined", True) and r in ended.reached)
                s.note(r, "initno_iterations", known.get("initno_iterations", 0) + ended.iterations[r])
        return following(x)


def _remember(averages: dict[int, torch.Tensor], rows: Sequence[int], maps: torch.Tensor) -> None:
    """Take images' token maps into their running means."""
    for r, one in zip(rows, maps, strict=True):
        averages[r] = losses.running_maps(averages.get(r), one)
