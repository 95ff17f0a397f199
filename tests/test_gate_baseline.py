"""Frozen baselines: what is kept, what is paired with it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frozen_worlds import CASE, against, drawn, outcomes, twice
from frozen_worlds import world as world
from perf.simulated_runs import METRIC, World, register, suite_of, write_run

from bench import gate, registry
from bench.analysis.results import compute
from bench.errors import NotComparable, UserError
from bench.gate import Samples
from bench.metrics.base import MetricEntry

# What is paired -------------------------------------------------------------------------------------------------------


def test_the_same_scores_differ_by_exactly_nothing(world: World) -> None:
    """Also where six digits round them, and with the strictest of requirements."""
    scores = drawn(0)
    for terms in ({}, {"require": "shown"}, {"require": "shown", "two_sided": True}):
        judged = against(world, scores, {arm: values.copy() for arm, values in scores.items()}, **terms)
        assert set(outcomes(judged).values()) == {"passed"}
        assert len(judged.verdicts) == 3
        assert {(v.estimate, v.low, v.high) for v in judged.verdicts} == {(0.0, 0.0, 0.0)}
        assert judged.notes == []
    assert "exactly 0, the same 100 scores" in judged.verdicts[0].sentence


def test_a_change_of_one_arm_and_of_its_effect_are_distinguished(world: World) -> None:
    worse = outcomes(against(world, drawn(0), drawn(1, method=-0.5)))
    assert worse == {
        ("standard", "change"): "inconclusive",
        ("method", "change"): "failed",
        ("method", "effect_change"): "failed",
    }
    everywhere = outcomes(against(world, drawn(0), drawn(0, both=-0.5)))
    assert everywhere == {
        ("standard", "change"): "failed",
        ("method", "change"): "failed",
        ("method", "effect_change"): "passed",
    }
    better = outcomes(against(world, drawn(0), drawn(1, method=0.5)))
    assert better["method", "change"] == better["method", "effect_change"] == "passed"


def test_a_shift_of_both_arms_leaves_the_effect_exactly_where_it_was(world: World) -> None:
    """Sums of six-digit numbers differ in their last bits, which is no change."""
    old = {arm: np.round(values, 3) for arm, values in drawn(0).items()}
    judged = against(world, old, {arm: values - 0.3 for arm, values in old.items()}, require="shown", tolerance=0.3001)
    effect = judged.verdicts[2]
    assert (effect.quantity, effect.estimate, effect.high) == ("effect_change", 0.0, 0.0)
    assert set(outcomes(judged).values()) == {"passed"}


def test_pairing_sees_what_two_intervals_side_by_side_do_not(world: World) -> None:
    """A loss of 0.2 behind prompts that scatter by 1: the 95 % intervals of the two means overlap, the pairs tell."""
    old, new = drawn(0), drawn(1, both=-0.2)
    assert outcomes(against(world, old, new))["standard", "change"] == "failed"
    halves = [1.96 * values["standard"].std() / np.sqrt(len(values["standard"])) for values in (old, new)]
    assert old["standard"].mean() - halves[0] < new["standard"].mean() + halves[1]


def test_the_verdicts_estimate_is_the_mean_paired_difference(world: World) -> None:
    old, new = drawn(0), drawn(1, method=0.1)
    found = {(v.method, v.quantity): v.estimate for v in against(world, old, new).verdicts}
    change = {arm: float((new[arm] - old[arm]).mean()) for arm in old}
    assert found["standard", "change"] == pytest.approx(change["standard"], abs=1e-5)
    assert found["method", "change"] == pytest.approx(change["method"], abs=1e-5)
    assert found["method", "effect_change"] == pytest.approx(change["method"] - change["standard"], abs=1e-5)


def test_tolerance_is_in_the_metrics_unit(world: World) -> None:
    old, new = drawn(0), drawn(0, both=-0.5)
    assert set(outcomes(against(world, old, new, tolerance=0.6)).values()) == {"passed"}
    assert outcomes(against(world, old, new, tolerance=0.4))["method", "change"] == "failed"
    assert set(outcomes(against(world, old, new, tolerance={METRIC: 0.6})).values()) == {"passed"}
    with pytest.raises(UserError, match="--tolerance simulatd: no metric of this baseline; did you mean 'simulated'"):
        against(world, old, new, tolerance={"simulatd": 0.6})


def test_two_sided_and_shown(world: World) -> None:
    old, better = drawn(0), drawn(1, both=0.5)
    assert outcomes(against(world, old, better))["method", "change"] == "passed"
    assert outcomes(against(world, old, better, two_sided=True))["method", "change"] == "failed"
    same = drawn(1)
    assert set(outcomes(against(world, old, same)).values()) == {"inconclusive"}
    assert set(outcomes(against(world, old, same, require="shown")).values()) == {"failed"}
    assert set(outcomes(against(world, old, same, require="shown", tolerance=0.5)).values()) == {"passed"}
    (verdict, *_) = against(world, old, same, require="shown").verdicts
    assert verdict.rule == "simulated: new - frozen >= 0 (shown)"
    assert "not shown to be at least 0" in verdict.sentence


def test_lower_is_better_turns_the_sign(tmp_path: Path) -> None:
    frozen, results, samples = twice(tmp_path, drawn(0), drawn(0, both=0.5))
    turned_metric = frozen.metrics[METRIC].model_copy(update={"higher_is_better": False})
    turned = frozen.model_copy(update={"metrics": {METRIC: turned_metric}})
    judged = gate.against_baseline(results, turned, samples)
    assert outcomes(judged)["method", "change"] == "failed"
    assert "-0.5 " in judged.verdicts[0].sentence
    assert "(sign turned: lower is better)" in judged.verdicts[0].sentence


@pytest.mark.parametrize("text", ["0.1", "simulated=0.1"])
def test_tolerances_are_read(text: str) -> None:
    assert list(gate.tolerances([text]).values()) == [gate.Tolerance(0.1)]


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "=0.1", "x=", "x=y", "x"])
def test_a_tolerance_is_a_number(text: str) -> None:
    with pytest.raises(UserError, match="expected a number of at least 0, or METRIC=NUMBER"):
        gate.tolerances([text])


# What is refused ------------------------------------------------------------------------------------------------------


def test_a_missing_score_is_not_comparable(tmp_path: Path) -> None:
    found = twice(tmp_path, drawn(0), drawn(0), lambda ledger: ledger.db.execute(
        "DELETE FROM scores WHERE digest = 'method-7-0'"))  # fmt: skip
    judged = gate.against_baseline(found[1], found[0], found[2])
    assert outcomes(judged)["standard", "change"] == "passed"
    assert outcomes(judged)["method", "change"] == outcomes(judged)["method", "effect_change"] == "not comparable"
    assert "1 of 100 scores are missing now" in judged.verdicts[1].sentence
    assert gate.exit_code(judged.verdicts) == 3


def test_an_arm_that_is_gone_is_not_comparable(tmp_path: Path) -> None:
    found = twice(tmp_path, drawn(0), drawn(0), lambda ledger: ledger.db.execute(
        "DELETE FROM cells WHERE method = 'method'"))  # fmt: skip
    judged = gate.against_baseline(found[1], found[0], found[2])
    assert outcomes(judged)["method", "change"] == "not comparable"
    assert gate.exit_code(judged.verdicts) == 3


def test_another_prompt_under_the_same_name_is_left_out_and_said(tmp_path: Path) -> None:
    found = twice(tmp_path, drawn(0), drawn(0), lambda ledger: ledger.db.execute(
        "UPDATE cells SET prompt = 'another' WHERE prompt_index = 3"))  # fmt: skip
    judged = gate.against_baseline(found[1], found[0], found[2])
    assert {v.n for v in judged.verdicts} == {99}
    assert judged.notes[:2] == [
        "not compared, because only the baseline has them: 1 pairs of captions",
        "not compared, because only the run has them: 1 pairs of captions",
    ]
    old = found[0].model_copy(
        update={"pairs": {n: p.model_copy(update={"keys": None}) for n, p in found[0].pairs.items()}}
    )
    with pytest.raises(NotComparable, match="the prompts or seeds of 'captions' have changed"):
        gate.against_baseline(found[1], old, found[2])


def test_another_protocol_says_what_differs(tmp_path: Path) -> None:
    other = suite_of(CASE).model_copy(update={"seeds": (0, 1), "images_per_prompt": 2})
    found = twice(tmp_path, drawn(0), drawn(0), lambda ledger: ledger.set("suite", other.model_dump(mode="json")))
    with pytest.raises(
        NotComparable,
        match=r"protocol .* \(they differ in images_per_prompt\); if that was meant, freeze the baseline again",
    ):
        gate.against_baseline(found[1], found[0], found[2])


@pytest.mark.parametrize(("field", "value"), [("name", "table3"), ("baseline", "method")])
def test_another_suite_is_not_comparable(tmp_path: Path, field: str, value: str) -> None:
    frozen, results, samples = twice(tmp_path, drawn(0), drawn(0))
    results = results.model_copy(update={"suite": results.suite.model_copy(update={field: value})})
    with pytest.raises(NotComparable, match="if that was meant, freeze the baseline again"):
        gate.against_baseline(results, frozen, samples)


def test_another_scorer_is_not_comparable_and_never_a_pass(tmp_path: Path) -> None:
    frozen, results, samples = twice(tmp_path, drawn(0), drawn(0))
    metric = results.metrics[METRIC].model_copy(update={"digest": "simulated-2"})
    results = results.model_copy(update={"metrics": {METRIC: metric}})
    judged = gate.against_baseline(results, frozen, samples)
    (verdict,) = judged.verdicts
    assert verdict.outcome == "not comparable"
    assert verdict.sentence.startswith("simulated: its scorer is simulated-2, when frozen it was simulated-1")
    assert gate.exit_code(judged.verdicts) == 3


def test_a_metric_that_a_method_optimises_is_not_gated_and_that_is_said(tmp_path: Path) -> None:
    marks = {"method": {"world": [METRIC]}, "standard": {"world": []}}
    found = twice(tmp_path, drawn(0), drawn(0, method=-5), lambda ledger: ledger.set("optimises", marks))
    judged = gate.against_baseline(found[1], found[0], found[2])
    assert outcomes(judged) == {("standard", "change"): "passed"}
    assert judged.notes == ["not gated, because the method optimises the metric: method on simulated"]


def test_new_weights_and_versions_are_said_and_compared(tmp_path: Path) -> None:
    def harm(ledger: Any) -> None:
        made_by = {"version": "9", "weights": {"world": "bbbb"}, "hardware": "a GPU"}
        ledger.db.execute("UPDATE sessions SET provenance = ?", (json.dumps(made_by),))
        ledger.db.execute("UPDATE cells SET job_id = 'x' || job_id WHERE method = 'method'")
        ledger.db.execute("UPDATE images SET job_id = 'x' || job_id WHERE job_id LIKE 'method%'")

    frozen, results, samples = twice(tmp_path, drawn(0), drawn(0), harm)
    judged = gate.against_baseline(results, frozen, samples)
    assert set(outcomes(judged).values()) == {"passed"}
    assert judged.notes == [
        "weights of world have changed: None when frozen, bbbb now",
        "versions have changed: noisebench 0 -> 9",
        "frozen on a CPU, this run on a GPU",
    ]
    made = results.run.provenance.model_copy(update={"weights": {}})
    results = results.model_copy(update={"run": results.run.model_copy(update={"provenance": made})})
    assert gate.against_baseline(results, frozen, samples).notes[0] == (
        "images regenerated since the baseline was frozen (other code, parameter, checkpoint or version): method"
    )


def test_votes_of_people_are_not_frozen(tmp_path: Path) -> None:
    """A metric that judges only some pairs has no score to be missed when the next run has none."""
    register()
    ledger = write_run(tmp_path, CASE, drawn(0))
    samples = Samples.read(ledger)
    assert samples.partial == frozenset()
    entry: MetricEntry = registry.get("metrics", METRIC)
    some = MetricEntry(METRIC, entry.title, entry.unit, None, entry.identify, partial=True)
    with registry.configured("metrics", {METRIC: some}):
        frozen = gate.freeze(compute(ledger), Samples.read(ledger))
    assert frozen.metrics == {}
    assert all(arm.scores == {} for arm in frozen.arms)
