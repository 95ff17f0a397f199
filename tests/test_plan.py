"""Suite -> jobs: which images are shared, and what a run will cost."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from suite_texts import TWO_ARMS, suite_text

from bench import suite
from bench.errors import UserError
from bench.prompts.base import Prompt
from bench.runner.plan import Plan, make_plan, read_prompts

ROOT = Path(__file__).parents[1]


def planned(text: str, **options: Any) -> Plan:
    return make_plan(suite.parse(text, file="suites/test.yaml", **options))


HEAD = """\
models: [shapes-sdxl]
prompts: [shapes-pickapic]
samplers: [ddim]
metrics: [shapes-geneval]
baseline: standard
"""


def test_batch_size_and_prompt_set_decide_no_image() -> None:
    prompts = {
        "shapes-pickapic": [Prompt(0, "a red circle"), Prompt(1, "a blue star")],
        "shapes-hpd": [Prompt(0, "a green cross", "colors"), Prompt(7, "a red circle", "colors")],
    }
    plans = [
        make_plan(suite.parse(suite_text(TWO_ARMS, **changes), file="test.yaml"), read=prompts.__getitem__)
        for changes in ({}, {"batch_size": 3}, {"prompts": ["shapes-pickapic", "shapes-hpd"]})
    ]
    assert set(plans[0].jobs) == set(plans[1].jobs)
    # Of two sets with a prompt in common, two methods make each distinct prompt once.
    assert set(plans[0].jobs) < set(plans[2].jobs)
    assert (len(plans[2].jobs), len(plans[2].cells), plans[2].costs()["shared"]) == (6, 8, 2)
    assert all(job.id == key for plan in plans for key, job in plan.jobs.items())


def test_the_main_table_shares_its_controls_images() -> None:
    """Seven methods, two of them best of 4: seven images a prompt instead of fifteen.

    Own seed, reseed's and two more candidates, and one image of each inversion and of NPNet.
    """
    loaded = suite.load(ROOT / "suites" / "sdxl_main.yaml", twin=True, limit=5)
    assert len(loaded.methods) == 7
    plan = make_plan(loaded)
    prompts = 3 * 5
    costs = plan.costs()
    assert costs["cells"] == 7 * prompts
    assert costs["images"] == len(plan.jobs) == 7 * prompts
    assert costs["choices"] == 2 * prompts
    # Uses of an image: five arms that make theirs and two times four candidates.
    assert costs["shared"] == (5 + 2 * 4 - 7) * prompts
    # Twenty steps of DDIM are the twin's default; inversion adds two calls, NPNet none.
    assert costs["calls"] == (5 * 20 + 2 * 22) * prompts
    images = {c.arm.method: plan.jobs[c.job_id] for c in plan.cells if c.job_id in plan.jobs}
    for choice in plan.choices.values():
        assert len(set(choice.candidates)) == 4
    by_cell = {(c.arm.method, c.arm.prompts, c.prompt.index): c.job_id for c in plan.cells}
    for (method, prompt_set, index), image in by_cell.items():
        if method.startswith("best_of_4"):
            candidates = plan.choices[image].candidates
            assert candidates[0] == by_cell["standard", prompt_set, index]
            assert candidates[1] == by_cell["reseed", prompt_set, index]
    assert images["standard"].links == images["reseed"].links == ()
    assert [name for name, _ in images["inversion_as_released"].links] == ["inversion_as_released"]


def test_costs_of_a_small_suite_by_hand() -> None:
    """Three prompts and two seeds; a prompt and seed need 3 plain images and 1 of inversion, at 2 extra calls.

    DDIM: 3·10 + 12 and 3·20 + 22; Heun, 2N - 1 calls: 3·19 + 21 and 3·39 + 41; 360 in all.
    """
    plan = planned(
        suite_text(
            TWO_ARMS,
            samplers=["ddim", "heun"],
            steps=[10, 20],
            seeds=[0, 1],
            methods=["standard", "inversion", {"use": "best_of_n", "n": 3, "selection_metric": "shapes-geneval"}],
            metrics=["shapes-geneval"],
        ),
        limit=3,
    )
    costs = plan.costs()
    assert costs["calls"] == (42 + 82 + 78 + 158) * 6
    assert (costs["images"], costs["cells"], costs["choices"], costs["shared"]) == (96, 72, 24, 24)
    assert costs["cached"] == 0
    assert costs["bytes"] == pytest.approx(96 * 64 * 64 * 0.35)
    cached = plan.costs(set(plan.jobs))
    assert (cached["cached"], cached["calls"], cached["seconds"], cached["bytes"]) == (96, 0, 0, 0)
    some = set(list(plan.jobs)[:7])
    assert plan.costs(some)["calls"] == costs["calls"] - sum(plan.calls(plan.jobs[j]) for j in some)


def test_jobs_that_can_share_a_batch_are_made_together() -> None:
    plan = planned(HEAD + "steps: [4, 8]\nmethods: [standard, inversion, reseed]\nseeds: [0, 1]\n", limit=2)
    groups = [job.group for job in plan.jobs.values()]
    changes = sum(a != b for a, b in pairwise(groups))
    assert changes == len(set(groups)) - 1 == 3


def test_candidates_with_steps_of_their_own_are_shared_by_all_step_counts() -> None:
    best = "{use: best_of_n, n: 2, steps: 5, selection_metric: shapes-geneval}"
    text = HEAD + f"steps: [10, 20]\nmethods: [standard, {best}]\n"
    plan = planned(text, limit=1)
    assert sorted(job.steps for job in plan.jobs.values()) == [5, 5, 10, 20]
    assert plan.costs()["calls"] == 5 + 5 + 10 + 20


def test_candidates_of_equal_compute_share_the_steps_of_one_image() -> None:
    text = HEAD + "steps: [10, 21]\nmethods: [standard, {use: best_of_n, n: 2, equal_compute: true}]\n"
    plan = planned(text, limit=1)
    assert sorted(job.steps for job in plan.jobs.values()) == [5, 5, 10, 10, 21]
    # Half of 21 is 10: there the baseline's own image is one of the candidates.


def test_best_of_n_takes_its_steps_from_one_place_only() -> None:
    text = HEAD + "methods: [standard, {use: best_of_n, n: 2, equal_compute: true, steps: 5}]\n"
    with pytest.raises(UserError, match="either 'steps' or 'equal_compute', got both"):
        planned(text, limit=1)


@pytest.mark.parametrize(
    ("lines", "seeds"),
    [
        ("", [0, 1, 2, 3]),
        ("seeds: [0, 2]\n", [0, 1, 2, 3, 8, 9, 10, 11]),
        ("seeds: [1]\nimages_per_prompt: 2\n", [2, 3]),
        ("seeds: [5, 3]\nimages_per_prompt: 1\n", [5, 3]),
    ],
)
def test_several_images_a_prompt_have_seeds_of_their_own(lines: str, seeds: list[int]) -> None:
    """GenEval's protocol makes four images a prompt; a suite may say otherwise."""
    plan = planned(suite_text(TWO_ARMS, prompts=["shapes-geneval"], methods=["standard"], seeds=None) + lines, limit=2)
    for index in {c.prompt.index for c in plan.cells}:
        assert [c.seed for c in plan.cells if c.prompt.index == index] == seeds
    assert len(plan.jobs) == 2 * len(seeds)


def test_the_seed_of_reseed_stands_in_the_job_and_not_in_the_cell() -> None:
    plan = planned(HEAD + "methods: [standard, reseed, [reseed, inversion]]\nseeds: [3]\n", limit=1)
    found = {c.arm.method: (c.seed, plan.jobs[c.job_id].seed) for c in plan.cells}
    assert found["standard"] == (3, 3)
    assert found["reseed"][0] == 3 != found["reseed"][1]
    assert found["reseed+inversion"] == found["reseed"]
    # The seed says all that reseed does, so the chain is inversion's alone.
    assert {len(job.links) for job in plan.jobs.values()} == {0, 1}


def test_standard_in_a_chain_changes_no_image() -> None:
    plan = planned(HEAD + "methods: [standard, inversion, [standard, inversion], [standard, standard]]\n", limit=2)
    assert (len(plan.jobs), len(plan.cells)) == (2 * 2, 4 * 2)


BEST_OF_2 = "{use: best_of_n, n: 2, selection_metric: shapes-geneval}"


def test_best_of_n_chooses_among_images_of_the_rest_of_its_chain() -> None:
    plan = planned(
        HEAD + f"methods: [standard, inversion, [inversion, {BEST_OF_2}]]\n",
        limit=1,
    )
    chosen, of_inversion = (next(c.job_id for c in plan.cells if c.arm.method == m) for m in (CHAIN, "inversion"))
    candidates = plan.choices[chosen].candidates
    assert candidates[0] == of_inversion
    assert [plan.jobs[c].links for c in candidates] == [plan.jobs[of_inversion].links] * 2


CHAIN = "inversion+best_of_n"


def test_two_choosers_in_a_chain_are_the_users_mistake() -> None:
    chooser = "{use: best_of_n, selection_metric: shapes-geneval}"
    with pytest.raises(UserError, match=r"method 'best_of_n\+best_of_n': a chain holds one choosing method"):
        planned(HEAD + f"methods: [standard, [{chooser}, {chooser}]]\n", limit=1)


def test_the_parameters_of_a_method_decide_its_images() -> None:
    plan = planned(
        HEAD + "methods: [standard, inversion, {use: inversion, name: strong, guidance: 7.5}, inversion_as_released]\n",
        limit=1,
    )
    assert len(plan.jobs) == 4


def test_a_limit_takes_the_first_prompts_of_each_set() -> None:
    plan = planned(HEAD + "methods: [standard]\n", limit=4)
    assert [c.prompt for c in plan.cells] == read_prompts("shapes-pickapic")[:4]


def test_what_is_kin_to_an_optimised_metric_is_no_evidence_either() -> None:
    """shapes-pickscore has the weights of shapes-preference; shapes-dpo was tuned by the rule of shapes-imagereward."""
    text = """\
models: [shapes-sdxl]
prompts: [shapes-pickapic]
samplers: [ddim]
baseline: standard
methods: [standard, dpo, {use: best_of_n, n: 2, selection_metric: shapes-preference}]
metrics: [shapes-clipscore, shapes-pickscore, shapes-imagereward]
"""
    marks = make_plan(suite.parse(text, file="kin.yaml", limit=1)).optimises
    assert marks["standard"]["shapes-sdxl"] == []
    assert marks["dpo"]["shapes-sdxl"] == ["shapes-imagereward"]
    assert marks["best_of_n"]["shapes-sdxl"] == ["shapes-preference", "shapes-pickscore"]


def test_a_plan_builds_a_job_where_it_is_looked_at() -> None:
    """A million jobs would fill the memory; an id is in the plan without its job, and every look gives an equal one."""
    plan = planned(TINY, limit=2)
    one, *_ = plan.jobs
    assert plan.jobs[one] == plan.jobs[one]
    assert plan.jobs[one] is not plan.jobs[one]
    assert "no id" not in plan.jobs
    assert {job.id for job in plan.jobs.values()} == set(plan.jobs)
    kinds = {(job.links, job.steps) for job in plan.kinds()}
    assert kinds == {(job.links, job.steps) for job in plan.jobs.values()}
