"""InitNO: the mean and the variance of the initial noise are optimised until the subjects are attended to, apart.

Guo et al. 2024, 2404.04650; github xiefan-guo/initno. The rest of that code's pipeline is in `initno_as_released`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pydantic import Field

from bench.methods import attention_losses as losses
from bench.methods.attend_and_excite import Tokens, check_words, gradient, look, tokens_of, up_to
from bench.methods.base import Method
from bench.registry import register
from bench.sampling.records import ATTENTION, GRADIENT, SINGLE, SUBJECTS, Nfe, Sampling, gradients

if TYPE_CHECKING:
    import torch

    from bench.prompts.base import Prompt
    from bench.sampling.session import Session

ADAM_EPS = 1e-3


class Noise:
    """One image's x = x_T exp(v / 2) + mu; mu and v begin at 0 and are moved by an Adam of their own."""

    def __init__(self, start: torch.Tensor, lr: float):
        import torch

        self.start = start
        self.log_var, self.mu = (torch.zeros_like(start).requires_grad_() for _ in range(2))
        self.adam = torch.optim.Adam([self.log_var, self.mu], lr=lr, eps=ADAM_EPS)

    def latent(self) -> torch.Tensor:
        """(C, h, w), differentiable in mu and v where gradients are on."""
        return self.start * (0.5 * self.log_var).exp() + self.mu

    def kl(self) -> torch.Tensor:
        return losses.kl_loss(self.mu[None], self.log_var[None])[0]

    def step(self, pull: torch.Tensor) -> None:
        """One Adam step by the gradient of a loss at the latent."""
        import torch

        with torch.enable_grad():
            self.adam.zero_grad()
            self.latent().backward(pull)
        self.adam.step()

    def tame(self, limit: float, *, most: int) -> None:
        """Adam steps on the KL divergence to the prior alone, while it is above the limit, `most` of them at most."""
        import torch

        for _ in range(most):
            with torch.enable_grad():
                kl = self.kl()
            if float(kl.detach()) <= limit:
                return
            self.adam.zero_grad()
            kl.backward()
            self.adam.step()


class Tried(NamedTuple):
    """What one round made of one image's noise."""

    start: torch.Tensor
    latent: torch.Tensor
    converged: bool
    steps: int
    """Calls of the network."""
    cross: float
    conflict: float
    """Losses at the last call; the last step of a round that did not converge is behind it."""
    kl: float
    score: float
    """By what rounds are ranked, lower is better."""


@register("methods", "initno")
class InitNO(Method):
    """x = x_T exp(v / 2) + mu, mu and v by Adam on L_cross + L_self (+ L_clean) of one conditional call at t0.

    After each step mu and v are led back to the prior: Adam steps on KL(N(mu, exp v) || N(0, 1)) alone while its mean
    is above 1e-3. A round ends where L_cross < 0.2 and L_self < 0.3, which settles the image, or after 10 steps; the
    next one begins at fresh noise of the image's own streams, whatever made the first. After 5 rounds the best one's
    x_T, as it was, is optimised for 50 steps, and that result is taken. Facts: whether it `converged`, rounds, calls,
    losses and KL.

    The paper weighs the KL term into the loss and has no L_clean (`clean`); the loop on KL and L_clean are the public
    code's, as is the smoothing of maps, to which the targets belong. That code ranks a converged round with
    the others and may drop it for one that scores better and did not converge; `initno_as_released` does so too. Its
    loop on KL has no cap; here `kl_steps` ends it.

    Source: 2404.04650, section 3. Cost: up to 5 x 10 + 50 conditional calls with a gradient each; the gradient is taken
    also where a round ends, so that an image's cost is the same in every batch. Needs subject words. Images are made
    one by one: a hundred steps on maps' maxima turn the last bits, in which batches differ, into other noise.
    """

    about: ClassVar[str] = "optimises mean and variance of the noise until subjects are attended to, and apart"
    source: ClassVar[str] = "2404.04650, section 3"
    cost: ClassVar[str] = "at most +100 conditional calls with gradient"
    needs: ClassVar[frozenset[str]] = frozenset({GRADIENT, ATTENTION, SUBJECTS, SINGLE})
    as_released: ClassVar[bool] = False

    words: tuple[str, ...] | None = Field(None, min_length=1)
    """Subject words, for every prompt of the suite; None finds each prompt's own."""
    rounds: int = Field(5, ge=1, le=100)
    steps: int = Field(10, ge=1, le=1000)
    """Steps of a round."""
    last_resort: int = Field(50, ge=0, le=1000)
    """Steps from the best round's x_T where no round converged; 0 takes the best round's result."""
    lr: float = Field(1e-2, gt=0, le=1)
    cross_target: float = Field(losses.CROSS_TARGET, ge=0, le=1)
    self_target: float = Field(losses.SELF_TARGET, ge=0, le=1)
    clean: bool = True
    """Whether L_clean is in the loss: attention outside the region of a subject's peak."""
    kl_limit: float = Field(losses.KL_LIMIT, gt=0)
    kl_steps: int = Field(20_000, ge=0, le=1_000_000)
    """Steps on KL after each step, at the most; latents of 4 x 64 x 64 take up to some 3,000, larger ones more."""

    def check(self, prompt: Prompt) -> None:
        check_words(prompt, self.words)

    def noise_nfe(self, p: Sampling) -> Nfe:
        return up_to(gradients(self.rounds * self.steps + self.last_resort))

    def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
        import torch

        tokens = tokens_of(s, self.words)
        found = x.detach().clone()
        tried: dict[int, list[Tried]] = {r: [] for r in tokens}
        rows = list(tokens)
        for k in range(self.rounds):
            if rows:
                part = s.take(rows)
                start = found[rows] if k == 0 else part.randn("initno", k)
                for r, one in zip(rows, self._round(part, start, [tokens[r] for r in rows], self.steps), strict=True):
                    tried[r].append(one)
            rows = [r for r in rows if not tried[r][-1].converged]
        taken = {r: self._best(rounds) for r, rounds in tried.items()}
        rows = [r for r, one in taken.items() if not one.converged] if self.last_resort else []
        if rows:
            start = torch.stack([taken[r].start for r in rows])
            ends = self._round(s.take(rows), start, [tokens[r] for r in rows], self.last_resort)
            for r, one in zip(rows, ends, strict=True):
                tried[r].append(one)
                taken[r] = one
        for r, one in taken.items():
            found[r] = one.latent
            self._note(s, r, tried[r], one)
        return found

    def _best(self, rounds: Sequence[Tried]) -> Tried:
        if rounds[-1].converged and not self.as_released:
            return rounds[-1]
        return min(rounds, key=lambda one: one.score)

    def _round(self, s: Session, start: torch.Tensor, tokens: Sequence[Tokens], steps: int) -> list[Tried]:
        """Optimise every image's noise from its own `start` for up to `steps` steps."""
        import torch

        noises = [Noise(one, self.lr) for one in start]
        last: dict[int, tuple[int, float, float, float]] = {}
        converged = set[int]()
        rows = list(range(len(noises)))
        for k in range(steps):
            if not rows:
                break
            with torch.enable_grad():
                x = torch.stack([noises[r].latent() for r in rows])
                seen = look(s.take(rows), x, s.timesteps[0], [tokens[r] for r in rows], both=True)
                assert seen.attention is not None
                found = losses.noise_losses(seen.subjects, seen.attention, clean=self.clean, as_released=True)
                pulls = gradient(found.joint, seen)
            scores = losses.round_scores(found.cross, found.conflict)
            columns = (found.cross.tolist(), found.conflict.tolist(), scores.tolist())
            for r, pull, cross, conflict, score in zip(rows, pulls, *columns, strict=True):
                last[r] = (k + 1, cross, conflict, score)
                if cross < self.cross_target and conflict < self.self_target:
                    converged.add(r)
                    continue
                noises[r].step(pull)
                noises[r].tame(self.kl_limit, most=self.kl_steps)
            rows = [r for r in rows if r not in converged]
        ends = []
        for r, one in enumerate(noises):
            calls, cross, conflict, score = last[r]
            kl = float(one.kl().detach())
            ends.append(Tried(one.start, one.latent().detach(), r in converged, calls, cross, conflict, kl, score))
        return ends

    def _note(self, s: Session, i: int, tried: Sequence[Tried], taken: Tried) -> None:
        s.note(i, "initno_converged", taken.converged)
        s.note(i, "initno_rounds", len(tried))
        s.note(i, "initno_steps", sum(one.steps for one in tried))
        s.note(i, "initno_cross", taken.cross)
        s.note(i, "initno_conflict", taken.conflict)
        s.note(i, "initno_kl", taken.kl)
