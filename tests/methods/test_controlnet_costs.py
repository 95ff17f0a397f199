"""ControlNet's cost: the price of a plan is what the images cost, whatever stands beside it in a chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from analytic import paid, priced
from covering import chosen, met

from bench.methods.attend_and_excite import AttendAndExcite
from bench.methods.base import Method
from bench.methods.inversion import Inversion
from bench.methods.repaint import RepaintEvery, RepaintFirst, RepaintJump
from bench.prompts.base import Prompt

from . import controlled
from .controlled import control, loaded, ours

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
HALF = {"scale": 0.7, "start": 0.25, "end": 0.75}


@pytest.fixture(scope="module")
def prompts(home: Path) -> list[Prompt]:
    return controlled.prompts(home)


JUMP = RepaintJump(j=2, r=2)
AE = AttendAndExcite(words=("cat", "dog"), iterations=2)
CHAINS: list[tuple[str, list[Method], dict[str, Any]]] = [
    ("plain", [], {}),
    ("window", [], HALF),
    ("off", [], {"scale": 0.0}),
    ("inversion", [Inversion()], {}),
    ("late-inversion", [Inversion()], {"start": 0.5}),
    ("repaint-first", [RepaintFirst()], {"end": 0.5}),
    ("repaint", [RepaintEvery()], HALF),
    ("jump", [JUMP], HALF),
]


SAMPLERS, GUIDANCES = ("ddim", "euler"), (1.0, 5.0)
CASES = [
    pytest.param(chain, window, sampler, guidance, id=f"{name}-{sampler}-{guidance}")
    for at, (name, chain, window) in enumerate(CHAINS)
    for sampler, guidance in met(SAMPLERS, GUIDANCES if at % 2 else GUIDANCES[::-1])
]


@pytest.mark.parametrize(("chain", "window", "sampler", "guidance"), CASES)
def test_the_price_is_the_cost(
    home: Path, prompts: list[Prompt], chain: list[Method], window: dict[str, Any], sampler: str, guidance: float
) -> None:
    """In either order of the chain; without a window there is one ControlNet call with every denoiser call."""
    family, method = loaded(home / "sd"), control(home, "sd", **window)
    orders = ([method, *chain], [*chain, method])
    for order in chosen(orders, SAMPLERS.index(sampler)):
        s, _ = ours(family, order, prompts, sampler=sampler, steps=6, guidance=guidance)
        assert paid(s, 1) == priced(s)
        if not window:
            assert paid(s).networks == paid(s).forwards
        stages = s.cost.record(0)
        counted = sum(row.get("network:ControlNetModel", 0) for row in stages.values())
        assert counted == paid(s).networks
        assert not any("networks" in row for stage, row in stages.items() if stage not in ("noise", "sampling"))


def test_a_method_that_predicts_by_itself_pays_for_its_control(home: Path, tmp_path: Path) -> None:
    """Attend-and-Excite's gradients pass through the ControlNet too, as what it moves is what is sampled."""
    found = controlled.prompts(tmp_path, ["a cat and a dog"])
    s, _ = ours(loaded(home / "sdxl"), [control(home, "sdxl"), AE], found, steps=4)
    cost, price = paid(s), priced(s)
    assert cost.networks == cost.forwards > 4
    assert cost.backwards > 0
    assert price.at_most
    assert price.networks == price.forwards >= cost.forwards
