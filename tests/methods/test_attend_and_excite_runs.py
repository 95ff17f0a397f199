"""Attend-and-Excite in batches, plans and runs: what it costs, what a ledger keeps of it, what is refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from analytic import paid, priced, session
from covering import met
from pydantic import ValidationError

from bench import registry
from bench.errors import UserError
from bench.methods.attend_and_excite import AttendAndExcite
from bench.models.base import Family, ModelEntry
from bench.prompts.base import Prompt
from bench.runner.generate import batches
from bench.sampling.records import COUNTS, Sampling
from bench.sampling.session import Session

from . import attended
from .attended import PROMPTS, ledgered, make, planned

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]
batch = partial(attended.batch, steps=6)
ANY = {0: 0.0, 10: 0.0, 20: 0.0}
"""Thresholds that every latent meets."""
ALL = {0: 1.0, 10: 1.0, 20: 1.0}
"""Thresholds that no latent meets."""


# Batches and costs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_the_batch_decides_nothing(smooth: Family, sampler: str) -> None:
    """Though some images have more moves than others, and the last one stops before its cap."""
    texts, made = (PROMPTS[0], PROMPTS[1], PROMPTS[3]), partial(attended.batch, smooth, guidance=2, steps=4)
    method = AttendAndExcite(iterations=3, scale_factor=5)
    s = made(method, sampler=sampler, prompts=texts)
    whole = make(s)
    assert [f["attend_converged"] for f in s.facts] == [False, False, True]
    for i in (0, 2):
        alone = make(made(method, sampler=sampler, prompts=(texts[i],), seeds=[i]))
        torch.testing.assert_close(alone.latents[0], whole.latents[i], rtol=0, atol=1e-4)
        assert float((alone.pixels[0] - whole.pixels[i]).abs().max()) * 255 <= 1


def test_images_are_made_one_by_one(sharp_folder: Path) -> None:
    """Moves of the published size on sharp maps turn the last bits, in which batches differ, into other images."""
    plan = planned(str(sharp_folder), "attend_and_excite", *PROMPTS)
    sizes = {bool(jobs[0].links): len(jobs) for jobs in batches(list(plan.jobs.values()), 4, prompts=PROMPTS)}
    assert sizes == {False: 4, True: 1}


@pytest.mark.parametrize(("way", "guidance"), met([("ddim", 6), ("heun", 3), ("heun", 2), ("ddim", 1)], [1, 5]))
def test_the_price_is_an_upper_bound_and_exact_where_nothing_stops_early(
    sharp: Family, way: tuple[str, int], guidance: int
) -> None:
    sampler, steps = way

    def run(images: int, **fields: object) -> Session:
        s = batch(
            sharp,
            AttendAndExcite(**fields),  # type: ignore[arg-type]
            prompts=PROMPTS[:images],
            sampler=sampler,
            steps=steps,
            guidance=guidance,
        )
        make(s)
        return s

    never, at_once, plain = (
        run(2, iterations=2, thresholds=ALL),
        run(1, iterations=2, thresholds=ANY),
        run(1, iterations=0),
    )
    assert priced(never).at_most
    assert not priced(plain).at_most
    assert paid(never, 0) == paid(never, 1) == priced(never)
    assert paid(plain) == priced(plain) == paid(at_once)
    assert all(getattr(paid(at_once), n) <= getattr(priced(at_once), n) for n in COUNTS)


def test_the_published_setting_costs_at_most_85_gradients() -> None:
    """25 moves, and 20 more at each of three steps."""
    cost = AttendAndExcite().nfe(Sampling("ddim", 50, 7.5, (512, 512)), 50)
    assert (cost.backwards, cost.forwards, cost.rows) == (85, 135, 185)
    assert cost.at_most


# Plans, ledgers, refusals --------------------------------------------------------------------------------------------


def test_a_runs_ledger_has_the_facts_and_the_cost_of_every_image(sharp_folder: Path, tmp_path: Path) -> None:
    plan = planned(str(sharp_folder), "{use: attend_and_excite, iterations: 2}", PROMPTS[0], PROMPTS[3])
    for _, image in ledgered(plan, tmp_path):
        facts, cost = json.loads(image.facts), json.loads(image.cost)
        assert set(facts) == {"attend_loss", "attend_converged", "attend_iterations"}
        assert cost["sampling"]["backwards"] == 2 + facts["attend_iterations"]


def test_what_it_cannot_serve_is_refused_when_planned(sharp_folder: Path) -> None:
    with pytest.raises(UserError, match=r"'attend_and_excite'.*prompt 1 of shapes-pickapic: .*has no word 'cat'"):
        planned(str(sharp_folder), "{use: attend_and_excite, words: [cat]}", "a cat", "a dog")
    with pytest.raises(UserError, match=r"'attend_and_excite'.*prompt 0 of shapes-pickapic: ") as refused:
        planned(str(sharp_folder), "attend_and_excite", "and of")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"'attend_and_excite'.*model 'hunyuan-dit' has none to read"):
        planned("hunyuan-dit", "attend_and_excite", "a cat")


def test_subjects_that_the_tokenizer_cuts_off_fail_their_image_alone(sharp: Family) -> None:
    long = Prompt(0, "a " * 80 + "cat")
    s = session(AttendAndExcite(iterations=1), prompts=[long, "a dog"], family=sharp, steps=2)
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
