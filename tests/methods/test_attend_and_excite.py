"""Attend-and-Excite on tiny networks with sharp attention: its moves, when they end, what they cost and tell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny_unet
import torch
from analytic import Made, paid, priced, session
from analytic import make as analytic_make
from covering import FULL, met
from pydantic import ValidationError

from bench import registry, suite
from bench.errors import UserError
from bench.methods import attend_and_excite, attention_losses
from bench.methods.attend_and_excite import AttendAndExcite, gradient, look
from bench.methods.base import Method
from bench.models.base import Family, ModelEntry
from bench.prompts.base import Prompt
from bench.runner.generate import batches, generate
from bench.runner.plan import Plan, make_plan
from bench.sampling.records import COUNTS, Sampling
from bench.sampling.session import Next, Session, Step
from bench.store import Ledger

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
PROMPTS = ("a cat and a dog", "a red frog", "a photo of a bench and a cat", "dog")
ANY = {0: 0.0, 10: 0.0, 20: 0.0}
"""Thresholds that every latent meets."""
ALL = {0: 1.0, 10: 1.0, 20: 1.0}
"""Thresholds that no latent meets."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_unet.save_sd(tmp_path_factory.mktemp("tiny") / "sd", levels=1)


@pytest.fixture(scope="module")
def family(folder: Path) -> Family:
    return tiny_unet.entry(folder).load("cpu")


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Attention that is less sharp: rounding does not grow along the loop."""
    return tiny_unet.entry(tiny_unet.save_sd(tmp_path_factory.mktemp("tiny") / "smooth", sharpness=2.0)).load("cpu")


def batch(family: Family, method: object, *, prompts: tuple[str, ...] = PROMPTS, **more: object) -> Session:
    given: dict[str, object] = {"steps": 6, "guidance": 5, **more}
    return session(method, prompts=prompts, family=family, **given)  # type: ignore[arg-type]


def make(s: Session) -> Made:
    """The session's images; its hooks leave the network, so that the next one's calls are not counted twice."""
    try:
        return analytic_make(s)
    finally:
        s.meter.close()


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
    s = batch(smooth, [AttendAndExcite(scale_factor=5, thresholds={0: 1.0}, iterations=8), Watch()], steps=1)
    x, t = s.draw(), s.timesteps[0]
    make(s)
    before, after = loss_at(s, x, t), loss_at(s, s.facts[0]["reached"][0], t)
    assert bool((after < before).all())


def test_one_move_is_a_step_along_the_gradient(family: Family) -> None:
    """x - a_i grad L with a_i = 20 sqrt(1 - i / (2 (N - 1))), at the first half of the calls and nowhere else."""
    s = batch(family, [Watch(), AttendAndExcite(iterations=0, scale_factor=20), Watch()], guidance=1)
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
def test_the_gradient_is_the_finite_difference_through_the_network(folder: Path, both: bool) -> None:
    """In double precision, along random directions; self-attention's losses too where they are asked for."""
    s = batch(doubled(folder), (), prompts=PROMPTS[:1])
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
    """Its refinement, its last moves and its step sizes, where no word falls into several tokens."""
    from diffusers import StableDiffusionAttendAndExcitePipeline

    s = batch(smooth, AttendAndExcite(scale_factor=5), prompts=(text,), steps=10)
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
            num_inference_steps=10,
            guidance_scale=5.0,
            height=2 * tiny_unet.SIDE,
            width=2 * tiny_unet.SIDE,
            max_iter_to_alter=5,
            thresholds={0: 0.05, 2: 0.5, 4: 0.8},
            scale_factor=5,
            attn_res=(16, 16),
            output_type="latent",
            return_dict=False,
        )[0]
    finally:
        own.unet.set_attn_processor(processors)
    assert s.facts[0]["attend_iterations"] > 0
    torch.testing.assert_close(mine.latents, theirs, rtol=0, atol=1e-3)


# When they end -------------------------------------------------------------------------------------------------------


def test_images_that_meet_the_target_are_moved_once_and_cost_less(family: Family) -> None:
    """A dog alone is attended to from the start; the two subjects of the first prompt are not, and that is a fact."""
    s = batch(family, AttendAndExcite(iterations=4))
    make(s)
    facts = s.facts
    assert (facts[3]["attend_converged"], facts[3]["attend_iterations"]) == (True, 0)
    assert facts[0]["attend_converged"] is False
    assert not s.failed
    assert paid(s, 3).backwards == 3
    assert paid(s, 3).calls < paid(s, 0).calls


def test_no_refinement_has_more_iterations_than_its_cap(family: Family) -> None:
    s = batch(family, AttendAndExcite(iterations=3, thresholds=ALL), prompts=PROMPTS[:3])
    make(s)
    assert [f["attend_iterations"] for f in s.facts] == [9, 9, 9]
    assert not any(f["attend_converged"] for f in s.facts)


@pytest.mark.parametrize("text", [*PROMPTS, "a frog"])
def test_an_image_stops_one_move_after_the_iteration_that_meets_the_target(
    family: Family, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    losses: list[float] = []
    cross = attention_losses.cross_loss

    def noted(maps: Sequence[torch.Tensor]) -> torch.Tensor:
        found = cross(maps)
        losses.append(float(found.detach()))
        return found

    monkeypatch.setattr(attention_losses, "cross_loss", noted)
    s = batch(family, AttendAndExcite(thresholds={0: 0.4}), prompts=(text,), steps=2)
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


# Batches and costs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_the_batch_decides_nothing(smooth: Family, sampler: str) -> None:
    method = AttendAndExcite(iterations=4, scale_factor=5)
    whole = make(batch(smooth, method, guidance=2, sampler=sampler, steps=4))
    for i, text in enumerate(PROMPTS):
        alone = make(batch(smooth, method, guidance=2, sampler=sampler, prompts=(text,), seeds=[i], steps=4))
        torch.testing.assert_close(alone.latents[0], whole.latents[i], rtol=0, atol=1e-4)
        assert float((alone.pixels[0] - whole.pixels[i]).abs().max()) * 255 <= 1


def test_images_are_made_one_by_one(folder: Path) -> None:
    """Moves of the published size on sharp maps turn the last bits, in which batches differ, into other images."""
    plan = planned(str(folder), "attend_and_excite", *PROMPTS)
    sizes = {bool(jobs[0].links): len(jobs) for jobs in batches(list(plan.jobs.values()), 4, prompts=PROMPTS)}
    assert sizes == {False: 4, True: 1}


@pytest.mark.parametrize(("way", "guidance"), met([("ddim", 6), ("heun", 3), ("heun", 2), ("ddim", 1)], [1, 5]))
def test_the_price_is_an_upper_bound_and_exact_where_nothing_stops_early(
    family: Family, way: tuple[str, int], guidance: int
) -> None:
    sampler, steps = way

    def run(**fields: object) -> Session:
        s = batch(
            family,
            AttendAndExcite(**fields),  # type: ignore[arg-type]
            prompts=PROMPTS[:3],
            sampler=sampler,
            steps=steps,
            guidance=guidance,
        )
        make(s)
        return s

    never, at_once, plain = run(iterations=2, thresholds=ALL), run(iterations=2, thresholds=ANY), run(iterations=0)
    assert priced(never).at_most
    assert not priced(plain).at_most
    for i in range(3):
        assert paid(never, i) == priced(never)
        assert paid(plain, i) == priced(plain) == paid(at_once, i)
        assert all(getattr(paid(at_once, i), n) <= getattr(priced(at_once), n) for n in COUNTS)


def test_the_published_setting_costs_at_most_85_gradients() -> None:
    """25 moves, and 20 more at each of three steps."""
    cost = AttendAndExcite().nfe(Sampling("ddim", 50, 7.5, (512, 512)), 50)
    assert (cost.backwards, cost.forwards, cost.rows) == (85, 135, 185)
    assert cost.at_most


# Plans, ledgers, refusals --------------------------------------------------------------------------------------------


def planned(model: str, method: str, *texts: str) -> Plan:
    text = f"""\
name: attend
models: ['{model}']
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 4
baseline: standard
methods: [standard, {method}]
metrics: [shapes-clipscore]
"""
    prompts = [Prompt(i, words) for i, words in enumerate(texts)]
    return make_plan(suite.parse(text, file="suites/attend.yaml"), read=lambda name: prompts)


def test_a_runs_ledger_has_the_facts_and_the_cost_of_every_image(folder: Path, tmp_path: Path) -> None:
    plan = planned(str(folder), "{use: attend_and_excite, iterations: 2}", *PROMPTS)
    ledger = Ledger(tmp_path, create=True)
    generate(plan, ledger, None, device="cpu", batch_size=4)
    images = ledger.images()
    ledger.close()
    for job in plan.jobs.values():
        facts, cost = json.loads(images[job.id].facts), json.loads(images[job.id].cost)
        if not job.links:
            assert facts == {}
            continue
        assert set(facts) == {"attend_loss", "attend_converged", "attend_iterations"}
        assert cost["sampling"]["backwards"] == 2 + facts["attend_iterations"]


def test_what_it_cannot_serve_is_refused_when_planned(folder: Path) -> None:
    with pytest.raises(UserError, match=r"'attend_and_excite'.*prompt 1 of shapes-pickapic: .*has no word 'cat'"):
        planned(str(folder), "{use: attend_and_excite, words: [cat]}", "a cat", "a dog")
    with pytest.raises(UserError, match=r"'attend_and_excite'.*prompt 0 of shapes-pickapic: ") as refused:
        planned(str(folder), "attend_and_excite", "and of")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"'attend_and_excite'.*model 'hunyuan-dit' has none to read"):
        planned("hunyuan-dit", "attend_and_excite", "a cat")


def test_subjects_that_the_tokenizer_cuts_off_fail_their_image_alone(family: Family) -> None:
    long = Prompt(0, "a " * 80 + "cat")
    s = session(AttendAndExcite(iterations=1), prompts=[long, "a dog"], family=family, steps=2)
    make(s)
    assert list(s.failed) == [0]
    assert "\n" not in s.failed[0]
    assert s.facts[1]["attend_converged"] in (True, False)


def test_sd21_alone_leaves_the_padding_out() -> None:
    found: dict[str, ModelEntry] = {n: registry.get("models", n) for n in ("sd21", "sd14", "sdxl")}
    until = {n: AttendAndExcite().for_model(e).until_end for n, e in found.items()}
    assert until == {"sd21": True, "sd14": False, "sdxl": False}
    assert AttendAndExcite(until_end=False).for_model(found["sd21"]).until_end is False


def test_thresholds_out_of_range_are_refused() -> None:
    for wrong in ({25: 0.5}, {-1: 0.5}, {0: 1.5}):
        with pytest.raises(ValidationError, match="expected 0 to 1 at steps 0 to 24 of 50"):
            AttendAndExcite(thresholds=wrong)
