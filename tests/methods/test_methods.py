"""The small methods, and what holds of every method and of chains of them."""

from __future__ import annotations

import pytest
import torch
from analytic import make, session
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench import registry
from bench.methods.base import Candidate, Chain, Method, split_choice
from bench.methods.best_of_n import BestOfN
from bench.methods.inversion import Inversion
from bench.methods.reseed import Reseed, other_seed
from bench.methods.standard import Standard
from bench.sampling.records import Nfe, Sampling
from bench.sampling.session import Next, Session, Step

SEEDS = st.integers(0, 2**31 - 1)


class Scale(Method):
    by: float = 2.0

    def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
        return x * self.by

    def noise_nfe(self, p: Sampling) -> Nfe:
        return Nfe(forwards=3)


class Shift(Method):
    by: float = 1.0

    def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
        return x + self.by

    def noise_nfe(self, p: Sampling) -> Nfe:
        return Nfe(forwards=p.steps)


P = Sampling("ddim", 50, 5.0, (16, 16))


@pytest.fixture
def s() -> Session:
    return session(prompts=["a", "b"])


@pytest.fixture
def x(s: Session) -> torch.Tensor:
    return s.draw()


def idle(s: Session) -> bool:
    """Whether the denoiser was not called."""
    return s.cost.nfe(0) == Nfe()


def test_standard_is_the_identity(s: Session, x: torch.Tensor) -> None:
    method = Standard()
    before = x.clone()
    assert torch.equal(method.noise(s, x), before)
    assert (method.noise_nfe(P), method.seed(7), method.candidates(7), method.judge()) == (Nfe(), 7, [], None)
    assert method.optimises() == ()
    assert idle(s)


def test_reseed_changes_the_seed_and_nothing_else(s: Session, x: torch.Tensor) -> None:
    method = Reseed()
    assert torch.equal(method.noise(s, x), x)
    assert method.noise_nfe(P) == Nfe()
    assert method.judge() is None
    assert idle(s)


def test_a_reseeded_image_is_the_plain_one_of_the_other_seed() -> None:
    reseeded, plain = session(Reseed(), seeds=[0, 1]), session(seeds=[Reseed().seed(0), Reseed().seed(1)])
    assert torch.equal(make(reseeded).latents, make(plain).latents)


@given(SEEDS)
def test_reseed_gives_another_seed_and_always_the_same(seed: int) -> None:
    assert Reseed().seed(seed) == Reseed().seed(seed) != seed


@given(SEEDS, st.integers(1, 1023))
def test_stand_in_seeds_lie_outside_what_a_suite_may_write(seed: int, k: int) -> None:
    """A suite's seeds end at 2^31 - 1, so a stand-in never is another arm's own seed."""
    assert 2**31 <= other_seed(seed, k) < 2**32
    assert other_seed(seed, 0) == seed


def test_stand_in_seeds_do_not_repeat() -> None:
    seeds = {other_seed(seed, k) for seed in range(100) for k in range(16)}
    assert len(seeds) == 1600


@given(SEEDS, st.integers(2, 16))
def test_best_of_n_begins_with_the_baselines_image_and_then_reseeds(seed: int, n: int) -> None:
    """So the cache already holds two of its n images, and two choosers share them all."""
    found = BestOfN(n=n, selection_metric="hpsv2").candidates(seed)
    assert len({c.seed for c in found}) == n
    assert found[0] == Candidate(seed)
    assert found[1] == Candidate(Reseed().seed(seed))
    assert found == BestOfN(n=n, selection_metric="geneval").candidates(seed)
    assert BestOfN(n=n + 1).candidates(seed)[:n] == found


def test_best_of_n_may_pay_for_its_candidates_with_steps() -> None:
    assert [c.steps for c in BestOfN(n=2, steps=25).candidates(0)] == [25, 25]


def test_best_of_n_is_marked_where_its_chooser_judges_it() -> None:
    assert BestOfN(selection_metric="geneval").judge() == "geneval"
    assert BestOfN(selection_metric="geneval").optimises() == ("geneval",)
    assert Inversion().optimises() == ()
    chain = Chain(links=(Inversion(), BestOfN(selection_metric="geneval"), Reseed()))
    assert chain.optimises() == ("geneval",)


def test_a_chain_applies_its_links_in_order(s: Session, x: torch.Tensor) -> None:
    torch.testing.assert_close(Chain(links=(Scale(), Shift())).noise(s, x), 2 * x + 1)
    torch.testing.assert_close(Chain(links=(Shift(), Scale())).noise(s, x), 2 * x + 2)
    assert torch.equal(Chain(links=()).noise(s, x), x)
    assert idle(s)


def test_a_chain_tells_each_link_the_prompts_and_seeds(s: Session, x: torch.Tensor) -> None:
    seen: list[tuple[list[str], list[int]]] = []

    class Watch(Method):
        def noise(self, s: Session, x: torch.Tensor) -> torch.Tensor:
            seen.append((s.prompts, s.seeds))
            return x

    Chain(links=(Watch(), Scale(), Watch())).noise(s, x)
    assert seen == [(["a", "b"], [0, 1])] * 2


@given(st.integers(2, 200))
def test_the_costs_of_a_chain_add_up(steps: int) -> None:
    p = Sampling("ddim", steps, 5.0, (16, 16))
    assert Chain(links=(Scale(), Shift(), Inversion())).noise_nfe(p).calls == 3 + steps + 2
    assert Chain(links=()).noise_nfe(p) == Nfe()


@given(SEEDS)
def test_seeds_pass_through_all_links(seed: int) -> None:
    once, twice = Reseed().seed(seed), Reseed().seed(Reseed().seed(seed))
    assert Chain(links=(Inversion(), Reseed())).seed(seed) == once
    assert Chain(links=(Reseed(), Standard(), Reseed())).seed(seed) == twice != once


def test_a_chain_holds_one_chooser_at_the_most() -> None:
    making, choosing = split_choice((Scale(), BestOfN(), Shift()))
    assert (making, choosing) == ((Scale(), Shift()), BestOfN())
    assert split_choice((Scale(),)) == ((Scale(),), None)
    with pytest.raises(ValueError, match="one choosing method"):
        split_choice((BestOfN(), Scale(), BestOfN(selection_metric="geneval")))


@pytest.mark.parametrize("name", registry.names("methods"))
def test_every_method_refuses_a_parameter_that_it_does_not_have(name: str) -> None:
    kind = registry.get("methods", name)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind(guidence=3.0)
    with pytest.raises(ValidationError, match="frozen"):
        kind().version_of_mine = 3


@pytest.mark.parametrize("name", registry.names("methods"))
def test_every_method_says_what_it_is_and_names_all_that_decides_its_pixels(name: str) -> None:
    kind = registry.get("methods", name)
    assert kind.about
    # What `sampling` sets is in the job as its steps and guidance.
    sampled = {"steps", "guidance"} if kind.sampling is not Method.sampling else set()
    former = {new: old for old, new in kind.renamed.items()}
    named = {former.get(field, field) for field in kind.model_fields} | {"version"}
    assert named - sampled <= set(kind().identity()) <= named
    assert kind(**{k: v for k, v in kind().identity().items() if k != "version"}) == kind()


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (BestOfN, {"n": 1}),
        (BestOfN, {"n": 1025}),
        (BestOfN, {"n": 2.5}),
        (BestOfN, {"steps": 0}),
        (Inversion, {"guidance": -1.0}),
        (Inversion, {"inversion_guidance": 101}),
        (Inversion, {"guidance": "high"}),
        (Inversion, {"as_released": True}),
    ],
)
def test_parameters_are_validated(kind: type[Method], parameters: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        kind(**parameters)


class Counting(Method):
    """Notes how often its step ran in this batch; a frozen record keeps nothing itself."""

    def step(self, s: Session, x: torch.Tensor, i: int, following: Next) -> Step:
        mine = s.own(self)
        mine["steps"] = mine.get("steps", 0) + 1
        return following(x)


def test_what_a_method_keeps_is_its_own_and_the_batchs() -> None:
    """From step to step, apart from an equal link of the chain, from another batch and from a part of this one."""
    chain = Chain(links=(Counting(), Counting(), Scale()))
    s, other = (session(chain.links, prompts=["a", "b"]) for _ in range(2))
    steps = len(s.timesteps)
    for _ in range(2):
        s.sample(s.draw())
    assert [s.own(link) for link in chain.links] == [{"steps": 2 * steps}, {"steps": 2 * steps}, {}]
    assert s.own(chain.links[0]) is not s.own(chain.links[1])
    assert other.own(chain.links[0]) == {}
    part = s.take([1])
    part.sample(part.draw())
    assert (part.own(chain.links[0]), s.own(chain.links[0])) == ({"steps": steps}, {"steps": 2 * steps})
