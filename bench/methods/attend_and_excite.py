"""Attend-and-Excite: in the first half of the steps the latent is moved until the prompt's subjects are attended to.

Chefer et al. 2023, 2301.13826, algorithm 1. Also what every method needs that moves latents by losses on
attention maps: `look`, `gradient`, `tokens_of`, `move_until`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pydantic import Field, field_validator

from bench import registry
from bench.errors import UserError
from bench.methods import attention_losses as losses
from bench.methods.base import Method
from bench.methods.subjects import end_of_text, positions, subject_words
from bench.registry import register
from bench.sampling.records import ATTENTION, GRADIENT, SINGLE, SUBJECTS, Nfe, Sampling, gradients

if TYPE_CHECKING:
    import torch

    from bench.models.base import ModelEntry
    from bench.prompts.base import Prompt
    from bench.sampling.session import Next, Session, Step

PAPER_STEPS = 50
"""The step count in which the paper gives its thresholds' steps."""
Tokens = list[list[int]]
"""Token positions of one image's subjects."""


class Look(NamedTuple):
    """What one conditional call of the network shows of B images."""

    x: torch.Tensor
    """The latents that were looked at, (B, C, h, w): gradients end here."""
    maps: torch.Tensor
    """Each token's share of attention, (B, side, side, T - 2)."""
    subjects: list[torch.Tensor]
    """Smoothed maps of each image's subjects, B tensors (S, side, side)."""
    attention: torch.Tensor | None
    """Self-attention, (B, side * side, side * side), where it was asked for."""


def look(
    s: Session, x: torch.Tensor, t: float, tokens: Sequence[Tokens], *, both: bool = False, until_end: bool = False
) -> Look:
    """The maps of one conditional call at canonical x, 16 x 16 or the nearest that the model has.

    `both` takes the self-attention too, `until_end` leaves padding out of the softmax over tokens. Maps are smoothed
    as both public codes do it, to which their thresholds belong. Where gradients are on they flow to `x` of the answer.
    """
    import torch

    leaf = x.detach().requires_grad_(torch.is_grad_enabled())
    with s.record("cross") as cross, s.record("self") if both else nullcontext() as own:
        s.predict(leaf, t, 1.0)
    ends = [end_of_text(text, s.family.tokenizer) for text in s.prompts] if until_end else None
    maps = losses.token_maps(cross.mean(), ends=ends)
    subjects = losses.subject_maps(maps, tokens, as_released=True)
    return Look(leaf, maps, subjects, own.mean() if own is not None else None)


def gradient(loss: torch.Tensor, seen: Look) -> torch.Tensor:
    """The gradient of each image's loss (B,) at its own latent, (B, C, h, w)."""
    import torch

    found: torch.Tensor = torch.autograd.grad(loss.sum(), seen.x)[0]
    return found


def check_words(prompt: Prompt, words: Sequence[str] | None) -> None:
    """UserError where a prompt has no subject words, or not those that are named."""
    try:
        subject_words(prompt, words)
    except ValueError as error:
        raise UserError(str(error)) from error


def tokens_of(s: Session, words: Sequence[str] | None) -> dict[int, Tokens]:
    """Subject tokens by image; an image whose subjects the tokenizer cuts off fails and is left out."""
    found: dict[int, Tokens] = {}
    for i, item in enumerate(s.items):
        try:
            found[i] = positions(subject_words(item.prompt, words), item.prompt.text, s.family.tokenizer)
        except ValueError as error:
            s.fail(i, str(error))
    return found


def calls_of(p: Sampling) -> int:
    """Calls of the loop."""
    found: int = registry.get("samplers", p.sampler).calls(p.steps)
    return found


def moved_calls(calls: int) -> int:
    """How many calls of the loop, from the first, move the latent: half of them, which is 25 of 50; at least one."""
    return max(1, calls // 2)


def call_at(step: int, calls: int) -> int:
    """The call that stands where `step` of 50 does, among the calls that move the latent."""
    return min(step * calls // PAPER_STEPS, moved_calls(calls) - 1)


def up_to(most: Nfe) -> Nfe:
    """The same cost as an upper bound."""
    return replace(most, at_most=True)


class Ended(NamedTuple):
    """How `move_until` ended."""

    iterations: dict[int, int]
    """By image, moves before its last one."""
    reached: set[int]
    """Images that met what was asked."""


Measure = Callable[["Session", Sequence[int], "torch.Tensor"], tuple[Look, set[int], "LossOf"]]
"""(session of the images, their rows, their latents) to what is seen, the rows that meet the target, and the loss."""
LossOf = Callable[[Sequence[bool]], "torch.Tensor"]
"""The loss of each image, given for which of them the coming move is the last."""


def move_until(s: Session, x: torch.Tensor, rows: Sequence[int], *, size: float, most: int, measure: Measure) -> Ended:
    """Move x (B, C, h, w) in place by x <- x - size grad L, image by image until it meets its target.

    An image that meets it from the start is moved once, without an iteration; any other has iterations up to the
    one that begins at the target, `most` at the most, and one move more, as in both public codes.
    """
    import torch

    rows = list(rows)
    iterations, reached = dict.fromkeys(rows, 0), set[int]()
    closing = set[int]() if most else set(rows)
    for k in range(1 + most):
        if not rows:
            break
        part = s if len(rows) == len(s.items) else s.take(rows)
        with torch.enable_grad():
            seen, met, loss_of = measure(part, rows, x[rows])
            done = met | closing if k == 0 else closing
            pull = gradient(loss_of([r in done for r in rows]), seen)
        x[rows] = seen.x.detach() - size * pull
        reached |= met
        closing = closing | met if k + 2 <= most else set(rows)
        rows = [r for r in rows if r not in done]
        iterations |= dict.fromkeys(rows, k + 1)
    return Ended(iterations, reached)


@register("methods", "attend_and_excite")
class AttendAndExcite(Method):
    """x <- x - a_i grad L, L = max over subjects of 1 - (the peak of the subject's smoothed attention map).

    Before each of the first half of the loop's calls (the first 25 of 50), with a_i = 20 sqrt(linspace(1, 0.5, N))
    over all N calls. At steps 0, 10 and 20 of 50, and at the calls that stand there at other step counts, x is moved
    on until L is at most 1 - threshold, in at most 20 iterations; where steps fall together the stricter threshold
    holds. That an image does not get there is a fact of it (`attend_converged`) and no failure.

    The moves are those of the public code and of diffusers' port. After algorithm 1 the loop ends with the first move
    from a latent that meets its target; the code makes one more after it, and one after the last iteration. Its
    evaluations whose answers are not used are left out: after each iteration two, and the first one's repetition.

    Source: github yuval-alaluf/Attend-and-Excite. Cost: a conditional call with a gradient for each of the first N/2
    calls, and up to 20 more at each of three. Needs subject words: of the suite, of GenEval's metadata, or nouns.
    Latents are canonical, also for samplers of the Euler kind, and gradients have the network's precision. Images are
    made one by one: dozens of moves this large turn the last bits, in which batches differ, into other images.
    """

    about: ClassVar[str] = "moves the latent until every subject of the prompt is attended to"
    source: ClassVar[str] = "2301.13826, algorithm 1"
    cost: ClassVar[str] = "+N/2 conditional calls with gradient, and at most 60 more"
    needs: ClassVar[frozenset[str]] = frozenset({GRADIENT, ATTENTION, SUBJECTS, SINGLE})

    words: tuple[str, ...] | None = Field(None, min_length=1)
    """Subject words, for every prompt of the suite; None finds each prompt's own."""
    scale_factor: float = Field(losses.STEP_SCALE, gt=0, le=1e4)
    """The first move's step size."""
    thresholds: Mapping[int, float] = losses.THRESHOLDS
    """Peaks, by step of 50, that the least attended subject must reach before sampling continues."""
    iterations: int = Field(losses.REFINEMENTS, ge=0, le=1000)
    """Iterations at a threshold, at the most."""
    until_end: bool | None = None
    """Whether the softmax over tokens leaves the padding out; None: for SD 2.1 alone, as in the public code."""

    @field_validator("thresholds")
    @classmethod
    def _in_range(cls, given: Mapping[int, float]) -> Mapping[int, float]:
        for step, peak in given.items():
            if not 0 <= step < PAPER_STEPS // 2 or not 0 <= peak <= 1:
                raise ValueError(f"threshold {peak} at step {step}; expected 0 to 1 at steps 0 to 24 of 50")
        return dict(sorted(given.items()))

    def for_model(self, entry: ModelEntry) -> AttendAndExcite:
        until_end = entry.name == "sd21" if self.until_end is None else self.until_end
        return self.model_copy(update={"until_end": until_end})

    def check(self, prompt: Prompt) -> None:
        check_words(prompt, self.words)

    def targets(self, calls: int) -> dict[int, float]:
        """The largest loss that each refining call of the loop leaves."""
        found: dict[int, float] = {}
        for step, peak in self.thresholds.items():
            i = call_at(step, calls)
            found[i] = min(1 - peak, found.get(i, 1.0))
        return found

    def step_nfe(self, p: Sampling, i: int, inner: Nfe) -> Nfe:
        calls = calls_of(p)
        if i >= moved_calls(calls):
            return inner
        if i not in self.targets(calls) or not self.iterations:
            return inner + gradients()
        return inner + up_to(gradients(1 + self.iterations))

    def step(self, s: Session, x: torch.Tensor, i: int, following: Next) -> Step:
        calls = len(s.schedule.entries)
        if i >= moved_calls(calls):
            return following(x)
        x, tokens, t = x.detach().clone(), tokens_of(s, self.words), s.schedule.entries[i]
        size = losses.step_sizes(calls, scale=self.scale_factor)[i]
        target = self.targets(calls).get(i)
        last: dict[int, float] = {}

        def measure(part: Session, rows: Sequence[int], x: torch.Tensor) -> tuple[Look, set[int], LossOf]:
            seen = look(part, x, t, [tokens[r] for r in rows], until_end=bool(self.until_end))
            loss = losses.cross_loss(seen.subjects)
            values = dict(zip(rows, loss.tolist(), strict=True))
            last.update(values)
            return seen, {r for r, v in values.items() if target is None or v <= target}, lambda final: loss

        most = 0 if target is None else self.iterations
        ended = move_until(s, x, list(tokens), size=size, most=most, measure=measure)
        for r in tokens:
            s.note(r, "attend_loss", last[r])
            if target is not None:
                known = s.facts[s.places[r]]
                s.note(r, "attend_converged", known.get("attend_converged", True) and r in ended.reached)
                s.note(r, "attend_iterations", known.get("attend_iterations", 0) + ended.iterations[r])
        return following(x)
