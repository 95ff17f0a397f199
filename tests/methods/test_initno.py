"""InitNO on tiny networks with sharp attention: its noise stays a draw of the prior, and tells whether it converged."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import tiny_unet
import torch
from analytic import paid, priced
from covering import met

from bench.errors import UserError
from bench.methods import attention_losses
from bench.methods.attend_and_excite import look, tokens_of
from bench.methods.initno import InitNO, Noise, Tried
from bench.methods.initno_as_released import InitNOAsReleased
from bench.methods.inversion import Inversion
from bench.models.base import Family
from bench.runner.generate import batches
from bench.sampling.records import COUNTS, Sampling

from . import attended
from .attended import PROMPTS, ledgered, make, planned

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
batch = partial(attended.batch, steps=4)
SHORT = {"rounds": 2, "steps": 4, "last_resort": 5}
SHORTER = {"rounds": 2, "steps": 2, "last_resort": 2}
FACTS = {"converged", "rounds", "steps", "cross", "conflict", "kl"}


# The noise -----------------------------------------------------------------------------------------------------------


def test_the_first_step_is_adams_on_mean_and_variance() -> None:
    """From 0 Adam moves each number by lr g / (|g| + eps); x = x_T exp(v / 2) + mu has dx/dmu = 1, dx/dv = x_T / 2."""
    rng = torch.Generator().manual_seed(0)
    start, pull = torch.randn(2, 4, 4, 4, generator=rng)
    one = Noise(start, lr=1e-2)
    assert torch.equal(one.latent(), start)
    one.step(pull)
    of_v = pull * start / 2
    mu, v = (-1e-2 * g / (g.abs() + 1e-3) for g in (pull, of_v))
    torch.testing.assert_close(one.mu.detach(), mu)
    torch.testing.assert_close(one.log_var.detach(), v)
    torch.testing.assert_close(one.latent().detach(), start * (v / 2).exp() + mu)


def test_the_divergence_is_that_of_normal_distributions() -> None:
    from torch.distributions import Normal, kl_divergence

    one = Noise(torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(0)), lr=0.1)
    for _ in range(3):
        one.step(one.start)
    exact = kl_divergence(Normal(one.mu, (one.log_var / 2).exp()), Normal(0.0, 1.0)).mean()
    assert float(exact.detach()) > 0.01
    torch.testing.assert_close(one.kl(), exact)


def test_noise_is_led_back_to_the_prior_within_the_cap() -> None:
    """At the size of Stable Diffusion's latents, where a number's gradient is a 16,384th of its own divergence."""
    start, pull = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    one = Noise(start, lr=0.01)
    for _ in range(10):
        one.step(1e-3 * pull)
    far = float(one.kl().detach())
    one.tame(1e-3, most=0)
    assert float(one.kl().detach()) == far > 1e-3
    one.tame(1e-3, most=InitNO().kl_steps)
    assert float(one.kl().detach()) <= 1e-3


def test_every_images_noise_is_near_the_prior(sharp: Family) -> None:
    """KL at most the limit, which an image passes that is not led back; the variance stays near that of the draw."""
    limit, most = 1.14e-3, InitNO().kl_steps
    methods = [InitNO(**SHORTER, lr=0.03, kl_limit=limit, kl_steps=steps) for steps in (most, 0)]
    s, free = (batch(sharp, method, prompts=PROMPTS[:2]) for method in methods)
    made = make(s)
    make(free)
    assert max(facts["initno_kl"] for facts in free.facts) > limit
    for i, facts in enumerate(s.facts):
        assert 0 <= facts["initno_kl"] <= limit
        assert float(made.noise[i].std()) == pytest.approx(1, abs=0.08)


def test_steps_bring_the_loss_down(smooth: Family) -> None:
    """The joint loss at the result of one round is below that at its start, for every image."""
    s = batch(smooth, InitNO(rounds=1, steps=6, last_resort=0), prompts=PROMPTS[:3])
    made = make(s)
    tokens = list(tokens_of(s, None).values())

    def joint(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            seen = look(s, x, s.timesteps[0], tokens, both=True)
            assert seen.attention is not None
            return attention_losses.noise_losses(seen.subjects, seen.attention, as_released=True).joint

    assert bool((joint(made.noise) < joint(made.drawn)).all())


# Rounds --------------------------------------------------------------------------------------------------------------


def test_that_it_did_not_converge_is_a_fact_and_no_failure(sharp: Family) -> None:
    """A dog alone is attended to from the start: one call, its noise as drawn, and the image costs less."""
    s = batch(sharp, InitNO(**SHORT), prompts=(PROMPTS[0], PROMPTS[3]))
    made = make(s)
    assert not s.failed
    assert all({k.removeprefix("initno_") for k in f} == FACTS for f in s.facts)
    two, alone = s.facts
    assert (alone["initno_converged"], alone["initno_rounds"], alone["initno_steps"]) == (True, 1, 1)
    assert torch.equal(made.noise[1], made.drawn[1])
    assert (two["initno_converged"], two["initno_rounds"], two["initno_steps"]) == (False, 3, 2 * 4 + 5)
    assert paid(s, 1).calls < paid(s, 0).calls
    for i, facts in enumerate(s.facts):
        assert s.cost.nfe(i, "noise").backwards == facts["initno_steps"]


@pytest.mark.parametrize("last", [0, 3])
def test_no_image_has_more_steps_than_the_caps(sharp: Family, last: int) -> None:
    s = batch(sharp, InitNO(rounds=2, steps=3, last_resort=last, cross_target=0), prompts=PROMPTS[:2])
    make(s)
    assert [f["initno_steps"] for f in s.facts] == [2 * 3 + last] * 2
    assert [f["initno_rounds"] for f in s.facts] == [2 + bool(last)] * 2


def test_the_last_resort_begins_at_the_best_rounds_own_start(sharp: Family) -> None:
    """Of a learning rate of next to nothing the result is the start itself, drawn or of a later round's streams."""
    s = batch(sharp, InitNO(rounds=3, steps=1, last_resort=1, cross_target=0, lr=1e-9))
    made = make(s)
    starts = [made.drawn, s.randn("initno", 1), s.randn("initno", 2)]
    with torch.no_grad():
        seen = [look(s, x, s.timesteps[0], list(tokens_of(s, None).values()), both=True) for x in starts]
    found = [attention_losses.noise_losses(one.subjects, one.attention, as_released=True) for one in seen]  # type: ignore[arg-type]
    scores = torch.stack([attention_losses.round_scores(one.cross, one.conflict) for one in found])
    best = scores.argmin(0).tolist()
    assert set(best) != {0}
    for i, k in enumerate(best):
        torch.testing.assert_close(made.noise[i], starts[k][i], rtol=0, atol=1e-6)


def test_a_converged_round_is_taken_and_the_released_code_takes_the_best_score() -> None:
    nothing = torch.zeros(1)
    open_, converged = (
        Tried(nothing, nothing, done, 1, 0.1, 0.1, 0.0, score) for done, score in ((False, 0.2), (True, 1.1))
    )
    assert InitNO()._best([open_, converged]) is converged
    assert InitNOAsReleased()._best([open_, converged]) is open_


# Batches, chains and costs -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoother(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """For the released pipeline, whose moves along the loop turn the last bits sooner."""
    folder = tiny_unet.save_sd(tmp_path_factory.mktemp("tiny") / "smoother", sharpness=1.0, levels=1)
    return tiny_unet.entry(folder).load("cpu")


@pytest.mark.parametrize(
    ("network", "method", "converged"),
    [
        ("smooth", InitNO(**SHORTER), [False, False, True]),
        ("smoother", InitNOAsReleased(**SHORTER, iterations=2, scale_factor=2), [False, False, False]),
    ],
    ids=["paper", "released"],
)
def test_the_batch_decides_nothing(
    request: pytest.FixtureRequest, network: str, method: InitNO, converged: list[bool]
) -> None:
    """Also where one image ends before the others, which never do."""
    texts, family = (PROMPTS[0], PROMPTS[1], PROMPTS[3]), request.getfixturevalue(network)
    s = batch(family, method, prompts=texts, guidance=2, steps=2)
    whole = make(s)
    assert [f["initno_converged"] for f in s.facts] == converged
    for i in (0, 2):
        alone = make(batch(family, method, prompts=(texts[i],), seeds=[i], guidance=2, steps=2))
        torch.testing.assert_close(alone.noise[0], whole.noise[i], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.latents[0], whole.latents[i], rtol=0, atol=1e-4)
        assert float((alone.pixels[0] - whole.pixels[i]).abs().max()) * 255 <= 1


@pytest.mark.parametrize("name", ["initno", "initno_as_released"])
def test_images_are_made_one_by_one(sharp_folder: Path, name: str) -> None:
    """Many steps on sharp maps turn the last bits, in which batches differ, into other noise."""
    plan = planned(str(sharp_folder), name, *PROMPTS)
    sizes = {bool(jobs[0].links): len(jobs) for jobs in batches(list(plan.jobs.values()), 4, prompts=PROMPTS)}
    assert sizes == {False: 4, True: 1}


@pytest.mark.parametrize(("kind", "guidance"), met([InitNO, InitNOAsReleased], [1, 5]))
def test_the_price_is_an_upper_bound_and_exact_where_nothing_stops_early(
    sharp: Family, kind: type[InitNO], guidance: int
) -> None:
    more = {"iterations": 2} if kind is InitNOAsReleased else {}
    never = batch(sharp, kind(**SHORTER, **more, cross_target=0), prompts=PROMPTS[:2], guidance=guidance, steps=2)
    make(never)
    usual = batch(sharp, kind(**SHORTER, **more), prompts=(PROMPTS[0], PROMPTS[3]), guidance=guidance, steps=2)
    make(usual)
    assert priced(never).at_most
    assert [paid(never, i) for i in range(2)] == [priced(never)] * 2
    for i in range(2):
        assert all(getattr(paid(usual, i), n) <= getattr(priced(usual), n) for n in COUNTS)
    assert paid(usual, 1).calls < priced(usual).calls


def test_the_published_settings_cost() -> None:
    """At most 100 gradients; the released pipeline has 25 more, a call at each of 50 steps, and 20 at two of them."""
    p = Sampling("ddim", 50, 7.5, (512, 512))
    assert (InitNO().nfe(p, 50).backwards, InitNO().nfe(p, 50).forwards) == (100, 150)
    released = InitNOAsReleased().nfe(p, 50)
    assert (released.backwards, released.forwards) == (100 + 25 + 40, 100 + 50 + 50 + 40)


def test_after_inversion_it_begins_at_inverted_noise(sharp: Family) -> None:
    still = InitNO(rounds=1, steps=1, last_resort=0, cross_target=0, lr=1e-9)
    of = {"prompts": PROMPTS[:2]}
    chained = batch(sharp, [Inversion(), still], **of)
    noise = make(chained).noise
    torch.testing.assert_close(noise, make(batch(sharp, Inversion(), **of)).noise, rtol=0, atol=1e-6)
    assert [paid(chained, i) for i in range(2)] == [priced(chained)] * 2
    s = batch(sharp, [Inversion(), InitNO(**SHORTER)], prompts=(PROMPTS[0], PROMPTS[3]))
    make(s)
    assert all("initno_converged" in facts for facts in s.facts)


def test_the_released_pipeline_tells_of_its_refinements(sharp: Family) -> None:
    s = batch(sharp, InitNOAsReleased(**SHORTER, iterations=2), prompts=PROMPTS[:2], steps=6)
    make(s)
    for facts in s.facts:
        assert 0 <= facts["initno_iterations"] <= 4
        assert isinstance(facts["initno_refined"], bool)
        assert 0 <= facts["initno_last_cross"] <= 1
    assert s.facts[0]["initno_iterations"] > 0


# Plans, ledgers, refusals --------------------------------------------------------------------------------------------


def test_a_runs_ledger_has_the_facts_and_the_cost_of_every_image(sharp_folder: Path, tmp_path: Path) -> None:
    plan = planned(str(sharp_folder), "{use: initno, rounds: 1, steps: 2, last_resort: 2}", PROMPTS[0], PROMPTS[3])
    found = {}
    for job, image in ledgered(plan, tmp_path):
        facts, cost = json.loads(image.facts), json.loads(image.cost)
        assert {k.removeprefix("initno_") for k in facts} == FACTS
        assert cost["noise"]["backwards"] == image.calls_noise / 2 == facts["initno_steps"]
        found[job.prompt] = facts["initno_converged"]
    assert (found["a cat and a dog"], found["dog"]) == (False, True)


@pytest.mark.parametrize("name", ["initno", "initno_as_released"])
def test_what_it_cannot_serve_is_refused_when_planned(sharp_folder: Path, name: str) -> None:
    tiny = str(sharp_folder)
    refusals = {
        rf"'{name}'.*prompt 1 of shapes-pickapic: .*has no word 'cat'": (tiny, f"{{use: {name}, words: [cat]}}"),
        rf"'{name}'.*prompt 1 of shapes-pickapic: ": (tiny, name),
        rf"'{name}'.*model 'hunyuan-dit' has none to read": ("hunyuan-dit", f"{{use: {name}, words: [a]}}"),
    }
    for match, (model, method) in refusals.items():
        with pytest.raises(UserError, match=match) as refused:
            planned(model, method, "a cat", "a and of")
        assert "\n" not in str(refused.value)
