"""Every registered method on the analytic model: the price of a plan is what the images cost."""

from __future__ import annotations

import pytest
from analytic import make, paid, priced, session

from bench import registry
from bench.errors import UserError
from bench.methods.base import Method
from bench.sampling.records import ATTENTION, CONTROL, COUNTS, SUBJECTS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")  # __array__ of numpy 2
PARAMETERS = {"ays": {"schedule": "sdxl"}, "repaint_jump": {"j": 3, "r": 4}}
ELSEWHERE = {"npnet"}
"""Its network's checkpoint is for other latents."""


def served() -> list[Method]:
    """Methods that make an image on a model without attention, other weights or metrics."""
    found = []
    for name in sorted(set(registry.names("methods")) - ELSEWHERE):
        method = registry.get("methods", name)(**PARAMETERS.get(name, {}))
        if method.judge() or method.metrics() or method.needs & {ATTENTION, SUBJECTS, CONTROL}:
            continue
        if type(method).adapters is Method.adapters:
            found.append(method)
    return found


@pytest.mark.parametrize("guidance", [1, 5])
@pytest.mark.parametrize("sampler", ["ddim", "euler", "euler_a", "ddpm"])
@pytest.mark.parametrize("method", served(), ids=lambda m: type(m).__name__)
def test_the_price_is_the_cost(method: Method, sampler: str, guidance: int) -> None:
    try:
        s = session(method, sampler, guidance=guidance)
    except UserError as error:
        pytest.skip(f"refused: {error}")
    make(s)
    for i in range(len(s.items)):
        price, cost = priced(s), paid(s, i)
        if price.at_most:
            assert all(getattr(cost, n) <= getattr(price, n) for n in COUNTS)
        else:
            assert cost == price
