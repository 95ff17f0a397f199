"""Attend-and-Excite on tiny networks with sharp attention: its moves, and when they end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import tiny_unet
import torch
from analytic import paid
from covering import FULL

from bench import registry
from bench.methods import attend_and_excite, attention_losses
from bench.methods.attend_and_excite import AttendAndExcite, gradient, look
from bench.methods.base import Method
from bench.models.base import Family
from bench.sampling.session import Next, Session, Step

from . import attended
from .attended import PROMPTS, make

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
batch = partial(attended.batch, steps=6)
ALL = {0: 1.0, 10: 1.0, 20: 1.0}
"""Thresholds that no latent meets."""


def loss_at(s: Session, x: torch.Tensor, t: float) -> torch.Tensor:
    tokens = attend_and_excite.tokens_of(s, None)
    with torch.no_grad():
        return attention_losses.cross_loss(look(s, x, t, list(tokens.values())).subjects)


class Watch(Method):
    """Keeps the latents that reach it at every call."""

    def step(self, s: Session, x: torch.Tensor, i: int, following: Next) -> Step:
        s.facts[0].setdefault("reached", []).append(x.clone())
        return following(x)


# Moves ---------------------------------------------------------------------------------------------------------------


def test_moves_bring_the_loss_down(smooth: Family) -> None:
    """Within the refinement at the first step, for every image."""
    s = batch(smooth, [AttendAndExcite(scale_factor=5, thresholds={0: 1.0}, iterations=6), Watch()], steps=1)
    x, t = s.draw(), s.timesteps[0]
    make(s)
    before, after = loss_at(s, x, t), loss_at(s, s.facts[0]["reached"][0], t)
    assert bool((after < before).all())


def test_one_move_is_a_step_along_the_gradient(sharp: Family) -> None:
    """x - a_i grad L with a_i = 20 sqrt(1 - i / (2 (N - 1))), at the first half of the calls and nowhere else."""
    s = batch(sharp, [Watch(), AttendAndExcite(iterations=0, scale_factor=20), Watch()], guidance=1)
    make(s)
    reached = s.facts[0]["reached"]
    given, moved = reached[::2], reached[1::2]
    tokens = list(attend_and_excite.tokens_of(s, None).values())
    for i, t in enumerate(s.timesteps):
        if i >= 3:
            assert torch.equal(given[i], moved[i])
            continue
        with torch.enable_grad():
            seen = look(s, given[i], t, tokens)
            pull = gradient(attention_losses.cross_loss(seen.subjects), seen)
        torch.testing.assert_close(moved[i], given[i] - 20 * (1 - i / 10) ** 0.5 * pull, rtol=0, atol=1e-5)


@cache
def doubled(folder: Path) -> Family:
    found = tiny_unet.entry(folder).load("cpu")
    found.pipeline.to(torch.float64)  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("both", [False, True])
def test_the_gradient_is_the_finite_difference_through_the_network(sharp_folder: Path, both: bool) -> None:
    """In double precision, along random directions; self-attention's losses too where they are asked for."""
    s = batch(doubled(sharp_folder), (), prompts=PROMPTS[:1])
    tokens = list(attend_and_excite.tokens_of(s, None).values())

    def loss(x: torch.Tensor) -> tuple[torch.Tensor, attend_and_excite.Look]:
        seen = look(s, x, s.timesteps[0], tokens, both=both)
        found = attention_losses.cross_loss(seen.subjects)
        if seen.attention is not None:
            found = found + attention_losses.self_loss(seen.subjects, seen.attention)
        return found, seen

    x = s.draw().double()
    with torch.enable_grad():
        pull = gradient(*loss(x))
    rng = torch.Generator().manual_seed(0)
    for _ in range(4):
        d, h = torch.randn(x.shape, generator=rng, dtype=x.dtype), 1e-6
        with torch.no_grad():
            slope = float(loss(x + h * d)[0] - loss(x - h * d)[0]) / (2 * h)
        assert slope == pytest.approx(float((pull * d).sum()), rel=1e-4, abs=1e-7)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("text", PROMPTS[: 2 if FULL else 1])
def test_latents_are_those_of_diffusers_own_pipeline(smooth: Family, text: str) -> None:
    """Its refinement, its last moves and its step sizes, where no word falls into several tokens.

    The first threshold is met after some iterations, the last one never: both ways for a refinement to end.
    """
    from diffusers import StableDiffusionAttendAndExcitePipeline

    s = batch(smooth, AttendAndExcite(scale_factor=5, thresholds={0: 0.12, 20: 0.8}), prompts=(text,))
    mine = make(s)
    tokens = attend_and_excite.tokens_of(s, None)[0]
    own: Any = smooth.pipeline  # type: ignore[attr-defined]
    parts = {k: v for k, v in own.components.items() if k != "image_encoder"}
    parts["scheduler"] = registry.get("samplers", "ddim").build(smooth.scheduler_config)
    pipeline = StableDiffusionAttendAndExcitePipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    processors = own.unet.attn_processors
    try:
        theirs = pipeline(
            text,
            token_indices=[one for (one,) in tokens],
            latents=mine.drawn,
            num_inference_steps=6,
            guidance_scale=5.0,
            height=2 * tiny_unet.SIDE,
            width=2 * tiny_unet.SIDE,
            max_iter_to_alter=3,
            thresholds={0: 0.12, 2: 0.8},
            scale_factor=5,
            attn_res=(16, 16),
            output_type="latent",
            return_dict=False,
        )[0]
    finally:
        own.unet.set_attn_processor(processors)
    assert s.facts[0]["attend_iterations"] > 20
    torch.testing.assert_close(mine.latents, theirs, rtol=0, atol=1e-3)


# When they end -------------------------------------------------------------------------------------------------------


def test_images_that_meet_the_target_are_moved_once_and_cost_less(sharp: Family) -> None:
    """A dog alone is attended to from the start; the two subjects of the first prompt are not, and that is a fact."""
    s = batch(sharp, AttendAndExcite(iterations=4))
    make(s)
    facts = s.facts
    assert (facts[3]["attend_converged"], facts[3]["attend_iterations"]) == (True, 0)
    assert facts[0]["attend_converged"] is False
    assert not s.failed
    assert paid(s, 3).backwards == 3
    assert paid(s, 3).calls < paid(s, 0).calls


def test_no_refinement_has_more_iterations_than_its_cap(sharp: Family) -> None:
    s = batch(sharp, AttendAndExcite(iterations=3, thresholds=ALL), prompts=PROMPTS[:2])
    make(s)
    assert [f["attend_iterations"] for f in s.facts] == [9, 9]
    assert not any(f["attend_converged"] for f in s.facts)


@pytest.mark.parametrize("text", [*PROMPTS, "a frog"])
def test_an_image_stops_one_move_after_the_iteration_that_meets_the_target(
    sharp: Family, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    losses: list[float] = []
    cross = attention_losses.cross_loss

    def noted(maps: Sequence[torch.Tensor]) -> torch.Tensor:
        found = cross(maps)
        losses.append(float(found.detach()))
        return found

    monkeypatch.setattr(attention_losses, "cross_loss", noted)
    s = batch(sharp, AttendAndExcite(thresholds={0: 0.4}), prompts=(text,), steps=2)
    make(s)
    met = [k for k, value in enumerate(losses) if value <= 0.6]
    expected = 20 if not met else 0 if met[0] == 0 else min(met[0] + 1, 20)
    assert s.facts[0]["attend_iterations"] == expected == len(losses) - 1
    assert s.facts[0]["attend_converged"] == bool(met)


def test_thresholds_stand_at_the_same_share_of_every_step_count() -> None:
    """Steps 0, 10 and 20 of 50; where they fall together the stricter one holds."""
    method = AttendAndExcite()
    assert method.targets(50) == pytest.approx({0: 0.95, 10: 0.5, 20: 0.2})
    assert method.targets(25) == pytest.approx({0: 0.95, 5: 0.5, 10: 0.2})
    assert method.targets(4) == pytest.approx({0: 0.5, 1: 0.2})
    assert method.targets(1) == pytest.approx({0: 0.2})
