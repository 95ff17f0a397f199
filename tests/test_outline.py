"""What `plan` counts without listing images is what the listed plan holds, and large suites are refused or quick."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TINY, call
from facts import missing
from suite_texts import ANY_PROMPTS, BEST_OF_2, FOUR_ARMS, suite_text

from bench import registry, suite
from bench.errors import UserError
from bench.job import preflight
from bench.metrics.base import MetricEntry
from bench.runner import score
from bench.runner.checks import one_seed
from bench.runner.outline import Outline
from bench.runner.plan import MAX_CELLS, Plan, make_plan, outlined

ROOT = Path(__file__).parents[1]
SUITES = ("sdxl_main", "methods", "steps", "few_steps", "fid", "samplers", "npnet_study", "initno")


@pytest.fixture(scope="module", params=SUITES)
def both(request: pytest.FixtureRequest) -> tuple[Outline, Plan]:
    loaded = suite.load(ROOT / "suites" / f"{request.param}.yaml", twin=True, limit=3)
    return outlined(loaded), make_plan(loaded)


def test_an_id_that_a_template_gives_is_the_hash_of_the_whole_job(both: tuple[Outline, Plan]) -> None:
    for job in both[1].jobs.values():
        assert replace(job).id == job.id, "a copy has no id yet and computes its own"


def test_an_outline_counts_what_the_plan_lists(both: tuple[Outline, Plan]) -> None:
    outline, plan = both
    costs = outline.costs()
    uses = [cell.job_id for cell in plan.cells if cell.job_id not in plan.choices]
    asked = [job for one in plan.choices.values() for job in one.candidates]
    chosen = len(plan.cells) - len(uses)
    assert (costs["cells"], costs["images"], costs["choices"]) == (len(plan.cells), len(plan.jobs), len(plan.choices))
    assert set(uses) | set(asked) == set(plan.jobs)
    assert costs["shared"] == len(uses) + len(asked) + chosen - len(plan.choices) - len(plan.jobs)
    assert costs["calls"] == sum(plan.calls(job) for job in plan.jobs.values())
    known = set(list(plan.jobs)[::3])
    assert outline.costs(known)["cached"] == len(known)
    left = [job for job in plan.jobs.values() if job.id not in known]
    assert outline.costs(known)["calls"] == sum(plan.calls(job) for job in left)


def test_an_outline_counts_what_each_metric_is_asked(both: tuple[Outline, Plan]) -> None:
    outline, plan = both
    for name, tasks in score.arms(plan).items():
        entry: MetricEntry = registry.get("metrics", name)
        listed = {(task.job_id, task.baseline, score.prompt_key(task.prompt)) for task in tasks}
        assert len(outline.tally.tasks(entry)) == len(listed), name
    for name, tasks in score.judges(plan).items():
        assert len(outline.tally.candidates[name]) == len({task.job_id for task in tasks})


def test_a_metric_that_judges_some_prompts_is_counted_on_those(tmp_path: Path) -> None:
    """Two of three captions have GenEval's metadata; every arm is asked about those alone, and each image once."""
    (tmp_path / "p.jsonl").write_text(
        '{"prompt": "a red circle", "tag": "single_object", "include": [{"class": "circle", "count": 1}]}\n'
        '{"prompt": "a blue star", "tag": "single_object", "include": [{"class": "star", "count": 1}]}\n'
        '{"prompt": "a ring"}\n'
    )
    both = ["shapes-geneval", "shapes-clipscore"]
    text = suite_text(ANY_PROMPTS, prompts=[f"file:{tmp_path / 'p.jsonl'}"], metrics=both)
    lines = list(score.planned(outlined(suite.parse(text, file="some.yaml"))))
    assert lines == ["shapes-geneval 6 images", "shapes-clipscore 9 images"]


# Too many -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["images_per_prompt=1000000000"], "4,000,000,000 cells (method x prompt x seed x protocol)"),
        (["seeds={from: 0, to: 99999}", "images_per_prompt=1000"], "400,000,000 cells"),
        (["methods=[standard, reseed, {use: best_of_n, n: 1024}]", "seeds={from: 0, to: 1999}"], "2,052,000 images"),
    ],
)
def test_more_than_a_plan_can_hold_is_refused_in_one_line(settings: list[str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "absurd.yaml"
    path.write_text(TINY)
    for command in ("plan", "run"):
        options = [word for setting in settings for word in ("--set", setting)]
        done = call(command, path, "--limit", 1, *options, *(["--runs", tmp_path / "runs"] if command == "run" else []))
        assert done.code == 2
        assert said in done.error
        assert f"a plan holds at most {MAX_CELLS:,}; give fewer seeds, images_per_prompt" in done.error


def test_one_seed_of_each_prompt_prices_them_all() -> None:
    """Images of different seeds are different ones, so a suite of any number of seeds is priced at once."""
    text = suite_text(seeds=[0, 1, 2], images_per_prompt=4)
    whole = suite.parse(text, file="t.yaml", limit=3)
    one, times = one_seed(whole)
    assert times == 12
    exact, priced = outlined(whole), replace(outlined(one), times=times)
    assert priced.costs() == pytest.approx(exact.costs())
    assert list(score.planned(priced)) == list(score.planned(exact))
    assert preflight.scoring(priced).seconds == pytest.approx(preflight.scoring(exact).seconds)


def test_a_suite_too_large_to_run_is_priced_before_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "absurd.yaml"
    path.write_text(TINY)
    done = call("plan", path, "--limit", 1, "--set", "images_per_prompt=1000000000")
    assert done.code == 2
    assert "cells:          4000000000 " in done.out
    assert "images:         3000000000 to have" in done.out
    assert "choices:        1000000000 images" in done.out


def test_the_largest_suite_here_is_planned() -> None:
    outline = preflight.outline(suite.load(ROOT / "suites" / "npnet_search.yaml", twin=True))
    assert outline.costs()["cells"] == 2 * 3 * 6 * 20_000 < MAX_CELLS
    assert not hasattr(outline, "jobs"), "nothing was listed"


# What a reader must know ----------------------------------------------------------------------------------------------


def test_arms_that_are_one_on_the_twin_are_named() -> None:
    notes = outlined(suite.load(ROOT / "suites" / "npnet_study.yaml", twin=True, limit=1)).notes
    assert (
        "'selected', 'unselected', 'cross_attention' and 'nearby' are the same arm here: they make the same images"
        in notes
    )
    text = suite_text(methods=[*FOUR_ARMS["methods"], {"use": "inversion", "name": "again"}])
    (note,) = outlined(suite.parse(text, file="t.yaml", limit=1)).notes
    assert missing(note, "'inversion' and 'again'", "the same images") == []
    assert outlined(suite.parse(TINY, file="t.yaml", limit=1)).notes == ()


def test_best_of_n_by_two_metrics_are_two_arms() -> None:
    other = BEST_OF_2 | {"name": "other", "selection_metric": "shapes-clipscore"}
    text = suite_text(methods=[*FOUR_ARMS["methods"], other])
    assert outlined(suite.parse(text, file="t.yaml", limit=1)).notes == ()


def test_an_unknown_number_of_prompts_is_not_called_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    out = call("plan", ROOT / "suites" / "controlnet.yaml").out
    assert "prompts:        controlnet (number unknown until it is here)" in out
    assert "images:         unknown, as their number of prompts is: controlnet" in out
    assert "images of unknown size; about" in out
    for word in ("cells:", "denoiser calls:", "scoring:", " 0 images", "about 0 s"):
        assert word not in out, word


def test_sets_that_are_counted_are_priced_without_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    options = ("--set", "prompts=[controlnet, drawbench]", "--set", "methods=[standard]", "--set", "baseline=standard")
    out = call("plan", ROOT / "suites" / "controlnet.yaml", *options).out
    assert "images:         200 to have" in out
    (note,) = [line for line in out.splitlines() if line.startswith("note: ") and "controlnet" in line]
    assert missing(note, "without controlnet", "number of prompts is unknown") == []


def test_a_chooser_that_cannot_choose_is_refused_without_prompts_listed() -> None:
    text = suite_text(methods=["standard", BEST_OF_2 | {"selection_metric": "fid"}, "reseed"])
    with pytest.raises(UserError, match="fid"):
        outlined(suite.parse(text, file="t.yaml", limit=1))
