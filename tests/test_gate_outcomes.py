"""Three outcomes against a baseline: passed, changed but inconclusive, failed; and what suites have in common."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import missing
from frozen_worlds import CASE, against, drawn, frozen_of, outcomes, twice
from frozen_worlds import world as world
from perf.simulated_runs import METRIC, World, suite_of

from bench import gate
from bench.gate import Frozen
from bench.gate.verdicts import Judgement, span
from bench.stats.resampling import Interval

# Inconclusive --------------------------------------------------------------------------------------------------------


def test_a_change_that_shows_nothing_is_neither_a_pass_nor_a_failure(world: World) -> None:
    """The same distribution, other draws: n cannot say, and says what it could have."""
    judged = against(world, drawn(0), drawn(1))
    assert set(outcomes(judged).values()) == {"inconclusive"}
    for verdict in judged.verdicts:
        assert verdict.estimate is not None
        assert verdict.low is not None
        assert verdict.resolves == pytest.approx(verdict.estimate - verdict.low)
        assert gate.forms.said_of(verdict) == "changed, inconclusive"
        assert f"this n could have ruled out a loss of {verdict.resolves:.3g} at the least" in verdict.sentence


def test_a_change_within_its_tolerance_is_shown_to_be_harmless(world: World) -> None:
    assert set(outcomes(against(world, drawn(0), drawn(1), tolerance=0.5)).values()) == {"passed"}


@pytest.mark.parametrize(("inconclusive", "code"), [("pass", 0), ("fail", 1)])
def test_what_inconclusive_counts_as_is_a_choice(world: World, inconclusive: Any, code: int) -> None:
    judged = against(world, drawn(0), drawn(1))
    judged.inconclusive = inconclusive
    assert judged.exit_code == code
    assert gate.overall(judged.verdicts) == "inconclusive"


def test_it_is_yellow_and_skipped_with_its_reason(world: World) -> None:
    judged = against(world, drawn(0), drawn(1))
    assert gate.markdown(judged).count("| 🟡 changed, inconclusive |") == 3
    root = ET.fromstring(gate.junit(judged.verdicts).encode())
    assert (root.get("skipped"), root.get("failures"), root.get("errors")) == ("3", "0", "0")
    assert "at the least" in str(root.findall(".//skipped")[0].get("message"))


def test_a_failure_outranks_it_and_so_does_what_could_not_be_compared(world: World) -> None:
    judged = against(world, drawn(0), drawn(1))
    one = judged.verdicts[0]
    assert gate.overall([one, one.model_copy(update={"outcome": "failed"})]) == "failed"
    assert gate.exit_code([one, one.model_copy(update={"outcome": "not comparable"})]) == 3


# Images --------------------------------------------------------------------------------------------------------------


def test_images_that_changed_bit_for_bit_are_counted(tmp_path: Path) -> None:
    frozen, results, samples = twice(tmp_path, drawn(0), drawn(0), lambda ledger: _repaint(ledger))
    judged = gate.against_baseline(results, frozen, samples)
    found = {(v.method, v.images, v.images_changed) for v in judged.verdicts}
    assert found == {("standard", 100, 0), ("method", 100, 1)}
    assert "1 of 100 images changed" in judged.verdicts[1].sentence


def test_images_that_changed_are_counted_over_all_settings_of_a_method() -> None:
    rows = [
        gate.Verdict(check="baseline", rule="r", method="method", outcome="passed", sentence="", steps=steps,
                     metric=metric, images=100, images_changed=changed)
        for steps, changed in ((10, 0), (50, 3)) for metric in ("one", "other")
    ]  # fmt: skip
    assert list(gate.by_method(rows)) == ["ok: method: 4 verdicts, 3 of 200 images changed"]


def test_the_line_of_a_method_that_failed_counts_what_else_became_of_it() -> None:
    outcomes = ("passed", "inconclusive", "failed", "inconclusive", "passed", "passed")
    rows = [
        gate.Verdict(check="baseline", rule="r", method="method", outcome=outcome, sentence=f"it {outcome}")
        for outcome in outcomes
    ]
    assert list(gate.by_method(rows)) == ["FAILED: it failed (6 verdicts: 1 failed, 2 inconclusive, 3 passed)"]
    assert list(gate.by_method(rows[1:2])) == ["changed, inconclusive: it inconclusive"]


def _repaint(ledger: Any) -> None:
    for table in ("images", "scores"):
        ledger.db.execute(f"UPDATE {table} SET digest = 'repainted' WHERE digest = 'method-7-0'")


def test_a_baseline_from_before_has_no_digests_and_is_read(world: World, tmp_path: Path) -> None:
    content = frozen_of(world, drawn(0)).document()
    del content["tolerance"]
    for arm in content["arms"]:
        del arm["images"]
    for pairs in content["pairs"].values():
        del pairs["keys"]
    (tmp_path / "old.json").write_text(json.dumps(content))
    results, samples = world.run(drawn(0))
    judged = gate.against_baseline(results, gate.load(tmp_path / "old.json"), samples)
    assert set(outcomes(judged).values()) == {"passed"}
    assert {v.images for v in judged.verdicts} == {None}


# What both have ------------------------------------------------------------------------------------------------------


def test_other_code_of_a_scorer_is_compared_and_said(tmp_path: Path) -> None:
    frozen, results, samples = twice(tmp_path, drawn(0), drawn(0))
    metric = results.metrics[METRIC]
    other = metric.model_copy(update={"digest": f"{metric.digest}+code:0123456789abcdef"})
    results = results.model_copy(update={"metrics": {METRIC: other}})
    judged = gate.against_baseline(results, frozen, samples)
    assert set(outcomes(judged).values()) == {"passed"}
    facts = (f"the scorer of {METRIC} has changed", "compared")
    assert any(not missing(note, *facts) for note in judged.notes), judged.notes


def test_a_suite_with_fewer_prompts_is_compared_on_those(tmp_path: Path) -> None:
    less = suite_of(CASE).model_copy(update={"limit": 50})

    def harm(ledger: Any) -> None:
        ledger.set("suite", less.model_dump(mode="json"))
        ledger.db.execute("DELETE FROM cells WHERE prompt_index >= 50")

    frozen, results, samples = twice(tmp_path, drawn(0), drawn(0), harm)
    judged = gate.against_baseline(results, frozen, samples)
    assert set(outcomes(judged).values()) == {"passed"}
    assert {v.n for v in judged.verdicts} == {50}
    assert "not compared, because only the baseline has them: 50 pairs of captions" in judged.notes


def test_prompts_in_another_order_are_found_by_their_text_and_seed(tmp_path: Path) -> None:
    def harm(ledger: Any) -> None:
        ledger.db.execute("UPDATE cells SET prompt_index = 1000 + prompt_index")
        ledger.db.execute("UPDATE cells SET prompt_index = 1099 - prompt_index")

    frozen, results, samples = twice(tmp_path, drawn(0), drawn(0), harm)
    judged = gate.against_baseline(results, frozen, samples)
    assert {(v.outcome, v.estimate, v.n) for v in judged.verdicts} == {("passed", 0.0, 100)}


def test_a_method_that_was_added_or_taken_out_is_listed(tmp_path: Path) -> None:
    suite = suite_of(CASE)
    renamed = [spec.model_copy(update={"label": "newer"}) if spec.label == "method" else spec for spec in suite.methods]
    other = suite.model_copy(update={"methods": tuple(renamed)})

    def harm(ledger: Any) -> None:
        ledger.set("suite", other.model_dump(mode="json"))
        ledger.set("optimises", {"newer": [], "standard": []})
        ledger.db.execute("UPDATE cells SET method = 'newer' WHERE method = 'method'")

    frozen, results, samples = twice(tmp_path, drawn(0), drawn(0), harm)
    judged = gate.against_baseline(results, frozen, samples)
    assert outcomes(judged) == {("standard", "change"): "passed"}
    said = " ".join(judged.notes)
    assert "only the baseline has it: method (world" in said
    assert "only the run has it: newer (world" in said


@pytest.mark.parametrize("kind", ["image", "pair", "set"])
def test_no_delta_is_compared_to_a_baseline_method_of_other_parameters(tmp_path: Path, kind: str) -> None:
    frozen, results, samples = twice(tmp_path, drawn(0), drawn(0))
    content = frozen.document()
    content["suite"]["id"], content["protocol"]["limit"] = "0123456789", 7
    content["metrics"][METRIC]["kind"] = kind
    (standard,) = (one for one in content["protocol"]["methods"] if one["label"] == "standard")
    standard["chain"] = [*standard["chain"], {"name": "another", "parameters": {}}]
    judged = gate.against_baseline(results, Frozen.model_validate(content), samples)
    assert "not compared, because the suite gives it other parameters: standard" in judged.notes
    found = outcomes(judged)
    assert found["method", "effect_change"] == "not comparable"
    assert found.get(("method", "change")) == (None if kind == "pair" else "passed")
    (said,) = (v.sentence for v in judged.verdicts if v.quantity == "effect_change")
    assert said.endswith("standard is not as it was in both, so no delta to it is compared")
    assert {v.images for v in judged.verdicts} == {100}


# Words ---------------------------------------------------------------------------------------------------------------


def test_a_sentence_says_what_widened_its_interval(world: World) -> None:
    judged = against(world, drawn(0), drawn(1))
    for verdict in judged.verdicts:
        assert " (at 98.33 %, one of 3 comparisons), neither shown" in verdict.sentence


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Interval(-6.5e-07, -1.2e-06, 1.059e-22), "-6.5e-07 [-1.2e-06, 0]"),
        (Interval(0.01234567, -0.5, 0.25), "+0.0123 [-0.5, +0.25]"),
        (Interval(0.0, 0.0, 0.0), "0 [0, 0]"),
        (Interval(-123.4567, -200.0, 1e-3), "-123.5 [-200, 0]"),
    ],
)
def test_an_interval_has_no_more_digits_than_say_something(found: Interval, said: str) -> None:
    assert span(found) == said


def test_zeros_and_ones_are_taken_to_have_their_range_as_where_the_metric_states_it(tmp_path: Path) -> None:
    """3 of 100 images are lost and 1 gained: the interval's ends come from the range, which is one wide each way."""
    old = {arm: np.tile([0.0, 1.0], 50) for arm in ("standard", "method")}
    new = {arm: values.copy() for arm, values in old.items()}
    new["method"][[1, 3, 5]], new["method"][0] = 0.0, 1.0
    frozen, results, samples = twice(tmp_path, old, new)
    assert results.metrics[METRIC].bounds is None
    stated = results.metrics[METRIC].model_copy(update={"bounds": (0.0, 1.0)})
    found, known = (
        {v.quantity: (v.estimate, v.low, v.high) for v in gate.against_baseline(one, frozen, samples).verdicts
         if v.method == "method"}
        for one in (results, results.model_copy(update={"metrics": {METRIC: stated}}))
    )  # fmt: skip
    assert found == known
    assert found["change"][0] == pytest.approx(-0.02)


def test_a_judgement_without_verdicts_is_not_comparable() -> None:
    assert Judgement().exit_code == 3
