"""RePaint's published schedule of jumps, what chains with it cost, and what is refused."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from analytic import make, paid, priced, session
from covering import met
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.errors import UserError
from bench.methods.base import Method
from bench.methods.inversion import Inversion
from bench.methods.repaint import RepaintEvery, RepaintFirst, RepaintJump
from bench.sampling.records import Sampling
from bench.sampling.session import Next, Session, Step

from .repainted import calls, walk

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")  # __array__ of numpy 2


class Watch(Method):
    """Notes at which places the rest of the chain is asked."""

    def step(self, s: Session, x: torch.Tensor, i: int, following: Next) -> Step:
        s.facts[0].setdefault("places", []).append(i)
        return following(x)


# The published schedule ----------------------------------------------------------------------------------------------


def test_the_published_setting_costs_2410_calls() -> None:
    """PROTOCOL 1.3: T = 250, j = 10, r = 10."""
    assert calls(walk(250, 10, 10)) == 2410
    assert RepaintJump(j=10, r=10).nfe(Sampling("ddim", 250, 1.0, (16, 16)), 250).forwards == 2410


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 120), st.integers(1, 40), st.integers(2, 12))
def test_the_closed_form_is_the_enumerations_count(steps: int, length: int, times: int) -> None:
    closed = steps + (times - 1) * length * (math.ceil(steps / length) - 1)
    assert calls(walk(steps, length, times)) == closed
    p = Sampling("ddim", steps, 5.0, (16, 16))
    found = RepaintJump(j=length, r=times).nfe(p, steps)
    assert (found.forwards, found.rows, found.decodes) == (closed, 2 * closed, 1)


@pytest.mark.parametrize(("steps", "length", "times"), [(10, 2, 2), (10, 3, 4), (10, 9, 2), (12, 4, 3), (25, 10, 3)])
def test_the_loop_goes_where_the_published_schedule_goes(steps: int, length: int, times: int) -> None:
    s = session([RepaintJump(j=length, r=times), Watch()], steps=steps)
    make(s)
    levels = walk(steps, length, times)
    down = [steps - 1 - here for here, following in pairwise(levels) if following < here]
    assert s.facts[0]["places"] == down


# Costs, chains, refusals ---------------------------------------------------------------------------------------------


CHAINS: list[tuple[str, list[Method], int]] = [
    ("first", [RepaintFirst()], 11),
    ("every", [RepaintEvery()], 19),
    ("jump", [RepaintJump(j=3, r=4)], 10 + 3 * 3 * 3),
    ("inv+every", [Inversion(), RepaintEvery()], 2 + 19),
    ("first+every", [RepaintFirst(), RepaintEvery()], 1 + 19),
    ("every+every", [RepaintEvery(), RepaintEvery()], 4 * 9 + 1),
    ("jump+every", [RepaintJump(j=3, r=4), RepaintEvery()], 2 * (10 + 3 * 3 * 3) - 1),
    ("every+jump", [RepaintEvery(), RepaintJump(j=3, r=4)], 2 * (10 + 3 * 3 * 3) - 1),
]
"""Names, links, and forwards of 10 steps."""
CASES = [
    pytest.param(links, forwards, guidance, sampler, id=f"{name}-{guidance}-{sampler}")
    for at, (name, links, forwards) in enumerate(CHAINS)
    for sampler, guidance in met(["ddim", "euler", "euler_a", "ddpm"], [5, 1] if at % 2 else [1, 5])
]


@pytest.mark.parametrize(("links", "forwards", "guidance", "sampler"), CASES)
def test_a_chain_costs_what_its_closed_form_says(
    links: list[Method], forwards: int, guidance: int, sampler: str
) -> None:
    s = session(links, sampler, guidance=guidance)
    make(s)
    assert paid(s) == priced(s)
    weak = isinstance(links[0], Inversion)
    assert priced(s).forwards == forwards
    assert priced(s).rows == (forwards if guidance == 1 else 2 * forwards - weak)


def test_nested_repaints_never_use_a_noise_twice() -> None:
    drawn: list[bytes] = []

    class Noting(Method):
        def step(self, s: Session, x: torch.Tensor, i: int, following: Next) -> Step:
            renoise = s.renoise

            def noted(x: torch.Tensor, i: int, j: int) -> torch.Tensor:
                z = renoise(torch.zeros_like(x), i, j)
                drawn.append((z / z.norm()).numpy().tobytes())
                return z + (s.schedule.at(j)[0] / s.schedule.at(i)[0]) * x

            s.renoise = noted  # type: ignore[method-assign]
            try:
                return following(x)
            finally:
                del s.renoise

    make(session([RepaintFirst(), Noting(), RepaintEvery(), RepaintEvery()]))
    assert len(drawn) == 27
    assert len(set(drawn)) == 27


@pytest.mark.parametrize("method", [RepaintEvery(), RepaintJump(j=3, r=3)], ids=["every", "jump"])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc", "pndm", "heun"])
def test_samplers_that_remember_are_refused(method: Method, sampler: str) -> None:
    with pytest.raises(UserError, match=rf"needs a memoryless sampler, and '{sampler}' is none; give one of ddim"):
        session(method, sampler)
    make(session(RepaintFirst(), sampler))


def test_settings_that_would_change_nothing_are_refused() -> None:
    for method in (RepaintFirst(), RepaintEvery()):
        with pytest.raises(UserError, match="give 2 steps or more, not 1"):
            session(method, steps=1)
    with pytest.raises(UserError, match="j = 10 never jumps in 10 steps; give a smaller j"):
        session(RepaintJump(), steps=10)
    for wrong in ({"j": 0}, {"r": 1}, {"j": 2.5}):
        with pytest.raises(ValidationError):
            RepaintJump(**wrong)
