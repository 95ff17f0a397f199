"""A gate neither passes what was not measured nor fires on noise."""

from __future__ import annotations

import ast
import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from facts import missing
from pydantic import ValidationError
from resulted import resulted
from scipy import stats as scipy_stats

from bench import gate
from bench.gate import Judgement, Rule, Verdict

SETTING = {"model": "shapes-sdxl", "prompts": "*", "sampler": "ddim", "steps": 25, "guidance": 5.5}


def comparison(delta: Any, low: Any, high: Any, **given: Any) -> dict[str, Any]:
    """A complete comparison of `npnet` on `preference`."""
    row = {**SETTING, "method": "npnet", "baseline": "standard", "metric": "preference", "n": 400, "n_prompts": 400,
           "delta": delta, "low": low, "high": high, "p": 0.5, "p_holm": 0.5, "win": 180, "tie": 10, "loss": 210,
           "win_rate": 0.4, "win_low": 0.35, "win_high": 0.45, "detectable": 0.05, "complete": True,
           "marked": False}  # fmt: skip
    return row | given


def results(
    *comparisons: dict[str, Any], arms: list[dict[str, Any]] | None = None, higher: bool = True
) -> dict[str, Any]:
    """The least that a gate reads."""
    metric = {"title": "Preference", "unit": "logit", "higher_is_better": higher, "digest": "sha256:aa"}
    suite = {"name": "table2", "id": "ab12", "baseline": "standard"}
    run = {"folder": "table2-ab12"}
    return {"schema": 2, "suite": suite, "metrics": {"preference": metric}, "comparisons": list(comparisons),
            "arms": arms or [], "run": run}  # fmt: skip


def arm(method: str, *, complete: bool = True, **cost: Any) -> dict[str, Any]:
    """An arm of which only the cost counts."""
    return {
        **SETTING,
        "method": method,
        "n": 400,
        "complete": complete,
        "is_baseline": method == "standard",
        "cost": cost,
    }


def one(found: dict[str, Any], **rule: Any) -> gate.Verdict:
    """The only verdict of one rule."""
    verdicts = check(found, [Rule(**{"metric": "preference", **rule})])
    assert len(verdicts) == 1
    return verdicts[0]


def check(found: dict[str, Any], rules: Sequence[Rule]) -> list[Verdict]:
    """The verdicts of rules on results of which a test says a few rows."""
    return gate.check(resulted(found), rules)


@pytest.mark.parametrize(
    ("delta", "low", "high", "threshold", "outcome"),
    [
        (-0.10, -0.14, -0.06, -0.05, "failed"),  # shown to be below
        (-0.06, -0.10, -0.02, -0.05, "inconclusive"),  # may be below, and that is not shown
        (0.00, -0.04, 0.04, -0.05, "passed"),  # shown not to be below
        (-0.09, -0.13, -0.05, -0.05, "inconclusive"),  # the bound itself is still allowed
        (0.00, -0.05, 0.05, -0.05, "passed"),  # on either side
        (0.02, 0.00, 0.04, 0.05, "failed"),  # a gain that was asked for is shown to be missing
    ],
)
def test_delta_is_decided_on_both_bounds(delta: float, low: float, high: float, threshold: float, outcome: str) -> None:
    assert one(results(comparison(delta, low, high)), delta=threshold).outcome == outcome


def test_an_inconclusive_rule_says_the_smallest_loss_that_n_could_have_ruled_out() -> None:
    """From -0.06 down to -0.10: a loss of 0.04 beyond the threshold would be seen as often as not."""
    verdict = one(results(comparison(-0.06, -0.10, -0.02)), delta=-0.05)
    assert verdict.resolves == pytest.approx(0.04)
    assert "neither shown to be at least -0.05 nor shown not to be" in verdict.sentence
    assert verdict.sentence.endswith("this n could have ruled out a loss of 0.04 at the least")
    decided = one(results(comparison(0.0, -0.04, 0.04)), delta=-0.05)
    assert decided.resolves == pytest.approx(0.04)
    assert "ruled out" not in decided.sentence


def test_an_inconclusive_rule_is_no_failure_unless_it_is_asked_to_be() -> None:
    verdicts = check(
        results(comparison(-0.06, -0.10, -0.02)), [Rule(metric="preference", delta=-0.05), Rule(metric="preference",
        win_rate=0.1)],
    )  # fmt: skip
    assert {verdict.outcome for verdict in verdicts} == {"inconclusive", "passed"}
    assert (gate.exit_code(verdicts), gate.exit_code(verdicts, "fail")) == (0, 1)
    root = ET.fromstring(gate.junit(verdicts).encode())
    assert (root.get("skipped"), root.get("failures"), root.get("errors")) == ("1", "0", "0")
    assert gate.markdown(Judgement(verdicts)).count("| 🟡 inconclusive |") == 1, "a rule knows of no change"


def test_lower_is_better_turns_the_sign() -> None:
    row = comparison(0.10, 0.06, 0.14)
    assert one(results(row), delta=-0.05).ok
    verdict = one(results(row, higher=False), delta=-0.05)
    assert not verdict.ok
    assert "delta -0.1 [-0.14, -0.06] (sign turned: lower is better), shown to be below -0.05" in verdict.sentence


def test_two_sided_also_fails_a_gain() -> None:
    row = comparison(0.10, 0.06, 0.14)
    assert one(results(row), delta=-0.05).ok
    assert not one(results(row), delta=-0.05, two_sided=True).ok
    assert one(results(comparison(0.0, -0.04, 0.04)), delta=-0.05, two_sided=True).ok


@pytest.mark.parametrize(
    ("threshold", "two_sided", "outcome"),
    [
        (0.46, False, "failed"),
        (0.45, False, "inconclusive"),
        (0.34, False, "passed"),
        (0.3, True, "passed"),
        (0.4, True, "inconclusive"),
    ],
)
def test_win_rate(threshold: float, two_sided: bool, outcome: str) -> None:
    assert one(results(comparison(0, -1, 1)), win_rate=threshold, two_sided=two_sided).outcome == outcome


def test_two_sided_win_rate_mirrors_at_one_half() -> None:
    row = comparison(0, -1, 1, win_rate=0.7, win_low=0.65, win_high=0.75)
    assert one(results(row), win_rate=0.4).ok
    assert not one(results(row), win_rate=0.4, two_sided=True).ok


def test_more_comparisons_widen_the_interval() -> None:
    """Two checks: t[399](1 - 0.025 / 2) / t[399](0.975) = 2.2506 / 1.9659 times the half-width of 0.04."""
    half = 0.04 * scipy_stats.t.ppf(1 - 0.0125, 399) / scipy_stats.t.ppf(0.975, 399)
    assert half == pytest.approx(0.0458, abs=5e-5)
    found = results(comparison(-0.094, -0.134, -0.054))
    rule = Rule(metric="preference", delta=-0.05)
    assert not check(found, [rule])[0].ok
    both = check(found, [rule, Rule(metric="preference", win_rate=0.1)])
    assert [verdict.outcome for verdict in both] == ["inconclusive", "passed"]
    assert both[0].low == pytest.approx(-0.094 - half)
    assert both[0].high == pytest.approx(-0.094 + half)
    assert both[0].level == pytest.approx(0.975)


def test_cost_rules_do_not_count_as_comparisons() -> None:
    arms = [arm("standard", calls_total=50), arm("npnet", calls_total=51)]
    found = results(comparison(-0.094, -0.134, -0.054), arms=arms)
    verdicts = check(found, [Rule(metric="preference", delta=-0.05), Rule(metric="calls", ratio=1.2)])
    assert [verdict.ok for verdict in verdicts] == [False, True]


def test_rule_without_a_method_holds_for_all() -> None:
    rows = [comparison(0, -0.1, 0.1), comparison(-1, -1.1, -0.9, method="inversion")]
    verdicts = check(results(*rows), [Rule(metric="preference", delta=-0.5)])
    assert {verdict.method: verdict.ok for verdict in verdicts} == {"npnet": True, "inversion": False}


@pytest.mark.parametrize(
    ("name", "ours", "base", "ok", "comparable"),
    [
        ("calls_total", 61, 50, False, True),
        ("calls_total", 60, 50, True, True),
        ("peak_bytes", 100, 100, True, True),
        ("peak_bytes", 121, 100, False, True),
        ("noise_ms", 5.0, 0.0, False, False),
        ("noise_ms", 5.0, None, False, False),
        ("noise_ms", None, 5.0, False, False),
    ],
)
def test_ratio(name: str, ours: Any, base: Any, ok: bool, comparable: bool) -> None:
    found = results(arms=[arm("standard", **{name: base}), arm("npnet", **{name: ours})])
    verdict = one(found, metric=name, ratio=1.2)
    assert (verdict.ok, verdict.comparable) == (ok, comparable)


def test_calls_mean_all_calls() -> None:
    found = results(arms=[arm("standard", calls_total=25), arm("npnet", calls_total=100)])
    assert "4 times standard (100 against 25)" in one(found, metric="calls", ratio=1.2).sentence


def test_zero_baseline_is_said() -> None:
    found = results(arms=[arm("standard", noise_ms=0), arm("npnet", noise_ms=12.0)])
    assert "the baseline's noise_ms is 0.0, so there is no ratio" in one(found, metric="noise_ms", ratio=2).sentence


@pytest.mark.parametrize(
    "row",
    [
        comparison(-1, -1.1, -0.9, complete=False),
        comparison(None, None, None),
        comparison(-1, -1.1, None),
    ],
)
def test_unmeasured_is_not_comparable(row: dict[str, Any]) -> None:
    verdict = one(results(row), delta=-0.5)
    assert (verdict.ok, verdict.comparable) == (False, False)


def test_incomplete_arm_has_no_ratio() -> None:
    found = results(arms=[arm("standard", total_ms=1.0, complete=False), arm("npnet", total_ms=1.0)])
    assert not one(found, metric="total_ms", ratio=2).comparable


def test_missing_comparison_names_the_nearest() -> None:
    verdict = one(results(comparison(0, -1, 1)), method="npnt", delta=-0.5)
    assert not verdict.comparable
    assert missing(verdict.sentence, "no comparison", "'npnt'", "did you mean 'npnet'?") == []


def test_exit_codes() -> None:
    good, bad = Rule(metric="preference", delta=-2.0), Rule(metric="preference", delta=2.0)
    absent = Rule(metric="pick", delta=0.0)
    found = results(comparison(0, -1, 1))
    codes = [gate.exit_code(check(found, rules)) for rules in ([good], [bad], [absent], [good, absent], [])]
    assert codes == [0, 1, 3, 3, 3]
    assert gate.exit_code(check(found, [bad, absent])) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metric": "x"}, "exactly one of delta, win_rate and ratio"),
        ({"metric": "x", "delta": 0.1, "ratio": 2}, "exactly one"),
        ({"metric": "x", "detla": 0.1}, "Extra inputs"),
        ({"delta": 0.1}, "missing key 'metric'"),
        ({"metric": "x", "delta": "low"}, "valid number"),
        ({"metric": "x", "delta": True}, "valid number"),
        ({"metric": "x", "delta": float("nan")}, "finite number"),
        ({"metric": "x", "win_rate": 40}, "less than or equal to 1"),
        ({"metric": "total_m", "ratio": 1.2}, "did you mean 'total_ms'"),
        ({"metric": "total_ms", "ratio": 0}, "greater than 0"),
        ({"metric": "total_ms", "ratio": 1.2, "two_sided": True}, "a ratio cannot be two_sided"),
        ({"metric": "x", "delta": 0.1, "two_sided": "yes"}, "valid boolean"),
        ({"metric": "x", "delta": 0.1, "require": "proof"}, "'plausible' or 'shown'"),
    ],
)
def test_bad_rules(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rule(**given)


# What is required, and of which metric ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "two_sided", "plausible", "shown"),
    [
        (-0.04, 0.04, False, "passed", "passed"),  # wholly at or above -0.05
        (-0.06, 0.04, False, "inconclusive", "failed"),  # may be below -0.05: not contradicted, not shown
        (-0.14, -0.06, False, "failed", "failed"),
        (-0.04, 0.06, True, "inconclusive", "failed"),  # may be above 0.05
        (-0.04, 0.04, True, "passed", "passed"),  # shown to be equivalent within 0.05
    ],
)
def test_shown_asks_for_the_whole_interval(
    low: float, high: float, two_sided: bool, plausible: str, shown: str
) -> None:
    # 100,000 prompts: Student's quantile is the normal one, so the interval stays as it is.
    found = results(comparison((low + high) / 2, low, high, n_prompts=100_000))
    for require, outcome in (("plausible", plausible), ("shown", shown)):
        assert one(found, delta=-0.05, two_sided=two_sided, require=require).outcome == outcome
    verdict = one(found, delta=-0.05, two_sided=two_sided, require="shown")
    assert ("not shown to be at least -0.05" in verdict.sentence) is (shown == "failed")


def test_too_few_prompts_show_nothing_unless_the_score_has_a_range() -> None:
    """Twelve prompts do not show a long tail of losses; a share cannot have one, and a wide interval still decides."""
    found = results(comparison(0.0, -0.01, 0.01, n_prompts=12))
    verdict = one(found, delta=-0.05, require="shown")
    assert verdict.outcome == "not comparable"
    assert "too few prompts (12) to show how small a loss is" in verdict.sentence
    unsure = one(found, delta=-0.05)
    assert unsure.outcome == "inconclusive"
    assert "too few prompts (12) to show how small a loss is" in unsure.sentence
    assert one(found, delta=0.05).outcome == "failed", "that a gain is missing is shown by any number"
    assert one(found, delta=0.05, require="shown").outcome == "failed", "that nothing is shown is known with any number"
    found["metrics"]["preference"]["bounds"] = [0, 1]
    assert one(found, delta=-0.05, require="shown").outcome == "passed"


def test_a_sentence_says_what_widened_its_interval() -> None:
    found = results(comparison(-0.094, -0.134, -0.054))
    rules = [Rule(metric="preference", delta=-0.05), Rule(metric="preference", win_rate=0.1)]
    assert "(at 97.5 %, one of 2 comparisons)" in check(found, rules)[0].sentence
    assert "comparisons" not in check(found, rules[:1])[0].sentence


def test_a_win_rate_without_a_metric_is_of_the_first_that_the_method_does_not_optimise() -> None:
    rows = [
        comparison(0, -1, 1, marked=True, win_rate=0.9, win_low=0.88, win_high=0.92),
        comparison(0, -1, 1, metric="clip", win_rate=0.3, win_low=0.28, win_high=0.32),
        comparison(0, -1, 1, metric="geneval", win_rate=0.6, win_low=0.58, win_high=0.62),
    ]
    found = results(*rows[::-1])
    found["metrics"] |= {"clip": {"higher_is_better": True}, "geneval": {"higher_is_better": True}}
    (verdict,) = check(found, [Rule(win_rate=0.5)])
    assert (verdict.metric, verdict.outcome, verdict.rule) == ("clip", "failed", "win_rate >= 0.5")
    (verdict,) = check(results(rows[0]), [Rule(win_rate=0.5)])
    assert verdict.outcome == "not comparable"
    assert missing(verdict.sentence, "no comparison", "does not optimise") == []


# Costs with intervals ------------------------------------------------------------------------------------------------


def timed(ratio: float, low: Any, high: Any, **more: Any) -> dict[str, Any]:
    """Results whose method has a measured ratio of noise_ms."""
    ratios = {"noise_ms": {"ratio": ratio, "low": low, "high": high}}
    return results(arms=[arm("standard", noise_ms=10.0), arm("npnet", noise_ms=10 * ratio, ratios=ratios, **more)])


@pytest.mark.parametrize(
    ("ratio", "low", "high", "plausible", "shown"),
    [
        (1.25, 1.15, 1.36, "inconclusive", "failed"),  # above 1.2, but that is not shown
        (1.30, 1.22, 1.39, "failed", "failed"),
        (1.10, 1.05, 1.15, "passed", "passed"),
        (1.15, 1.08, 1.22, "inconclusive", "failed"),
    ],
)
def test_a_ratio_with_an_interval_fails_on_its_lower_bound(
    ratio: float, low: float, high: float, plausible: str, shown: str
) -> None:
    found = timed(ratio, low, high)
    verdict = one(found, metric="noise_ms", ratio=1.2)
    assert verdict.outcome == plausible
    assert one(found, metric="noise_ms", ratio=1.2, require="shown").outcome == shown
    assert "times standard" in verdict.sentence
    factor = f"so many batches could have ruled out a factor of {high / ratio:.3g} at the least"
    assert (factor in verdict.sentence) is (plausible == "inconclusive")


def test_a_ratio_with_an_interval_is_a_look() -> None:
    """Two comparisons widen the logarithm's half-width by z(1 - 0.0125) / z(0.975) = 1.1436."""
    found = timed(1.3, 1.205, 1.4)
    assert not one(found, metric="noise_ms", ratio=1.2).ok
    rules = [Rule(metric="noise_ms", ratio=1.2)] * 2
    verdicts = check(found, rules)
    assert [verdict.outcome for verdict in verdicts] == ["inconclusive", "inconclusive"]
    assert verdicts[0].low == pytest.approx(1.3 * (1.205 / 1.3) ** 1.1436, rel=1e-4)


@pytest.mark.parametrize("require", ["plausible", "shown"])
@pytest.mark.parametrize("ratio", [1.1, 1.21])
def test_a_time_without_an_interval_is_not_comparable(ratio: float, require: str) -> None:
    """Fewer than five batches a side say nothing of a time: 1.21 against 1.2 would fail on noise."""
    verdict = one(timed(ratio, None, None), metric="noise_ms", ratio=1.2, require=require)
    assert verdict.outcome == "not comparable"
    assert f"{ratio} times standard, without an interval, of fewer than 5 batches a side" in verdict.sentence
    calls = results(arms=[arm("standard", calls_total=25), arm("npnet", calls_total=27)])
    assert one(calls, metric="calls", ratio=1.2, require="shown").ok, "a count needs no interval"


PROCESS = {"peak_bytes": 10, "peak_kind": "process peak (CPU)"}


@pytest.mark.parametrize(("ratio", "outcome"), [(1.1, "passed"), (1.3, "failed")])
@pytest.mark.parametrize("metric", ["memory", "peak_bytes"])
def test_memory_measured_apart_is_gated_on_a_cpu(metric: str, ratio: float, outcome: str) -> None:
    ratios = {"peak_bytes": None, "memory_bytes": {"ratio": ratio, "low": None, "high": None}}
    arms = [arm("standard", memory_bytes=10, **PROCESS), arm("npnet", memory_bytes=30, ratios=ratios, **PROCESS)]
    assert one(results(arms=arms), metric=metric, ratio=1.2).outcome == outcome


@pytest.mark.parametrize(
    ("ours", "base", "said"),
    [
        ({}, {}, "run with --memory"),
        ({"memory_bytes": 30}, {}, "run with --memory"),
        ({"memory_failed": "it broke"}, {"memory_bytes": 30}, "memory of npnet could not be measured: it broke"),
        ({"memory_bytes": 30}, {"memory_bytes": 10}, "batches that differ"),
    ],
)
def test_a_processes_peak_is_gated_nowhere(ours: dict[str, Any], base: dict[str, Any], said: str) -> None:
    """Also where one of the two alone was measured apart, or both with no ratio."""
    arms = [arm("standard", **PROCESS, **base), arm("npnet", ratios={"peak_bytes": None}, **PROCESS, **ours)]
    verdict = one(results(arms=arms), metric="memory", ratio=1000.0)
    assert verdict.outcome == "not comparable"
    assert said in verdict.sentence


def test_a_ratio_is_that_of_images_made_in_this_run() -> None:
    ratios = {"peak_bytes": {"ratio": 1.1, "low": None, "high": None}}
    arms = [arm("standard", peak_bytes=10), arm("npnet", peak_bytes=30, ratios=ratios)]
    assert one(results(arms=arms), metric="peak_bytes", ratio=1.2).estimate == 1.1
    shown = one(results(arms=arms), metric="peak_bytes", ratio=1.2, require="shown")
    assert shown.outcome == "not comparable"
    assert "without an interval, so nothing is shown" in shown.sentence


def test_times_of_images_from_the_cache_are_not_compared() -> None:
    arms = [arm("standard", noise_ms=10.0), arm("npnet", noise_ms=10.0, ratios={"noise_ms": None})]
    verdict = one(results(arms=arms), metric="noise_ms", ratio=1.2)
    assert not verdict.comparable
    assert "not measured in this run for both methods" in verdict.sentence


def test_times_of_two_machines_have_no_ratio() -> None:
    arms = [arm("standard", total_ms=1.0, calls_total=5, hardware="A100"),
            arm("npnet", total_ms=1.0, calls_total=5, hardware="T4")]  # fmt: skip
    verdict = one(results(arms=arms), metric="total_ms", ratio=2)
    assert verdict.outcome == "not comparable"
    assert "measured on T4, the baseline on A100" in verdict.sentence
    assert one(results(arms=arms), metric="calls", ratio=2).ok


# Output --------------------------------------------------------------------------------------------------------------


def test_markdown_puts_failures_first() -> None:
    found = results(comparison(0, -1, 1), comparison(0, -1, 1, method="<b>|`x`\n"))
    rules = [
        Rule(metric="preference", method="npnet", delta=-2.0),
        Rule(metric="preference", method="<b>|`x`\n", delta=4.0),
    ]
    text = gate.markdown(Judgement(check(found, rules)))
    assert text.startswith("## Gate: failed\n\n1 passed, 0 not comparable, 1 failed.\n\n| outcome | rule |")
    assert text.splitlines()[6].startswith("| 🔴 failed | preference delta >= +4 | &lt;b>\\|\\`x\\` |")
    assert text.splitlines()[7].startswith("| 🟢 passed | preference delta >= -2 | npnet |")


def test_markdown_without_rules() -> None:
    assert "No rule was checked." in gate.markdown(Judgement())


def test_junit_parses_and_counts() -> None:
    found = results(comparison(0, -1, 1), comparison(0, -1, 1, method="<b>\x00"))
    rules = [
        Rule(metric="preference", delta=-4.0),
        Rule(metric="preference", method="npnet", delta=4.0),
        Rule(metric="pick", delta=0.0),
    ]
    root = ET.fromstring(gate.junit(check(found, rules)).encode())
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "1", "1")
    cases = [(case.get("classname"), next(iter(case)).tag) for case in root.iter("testcase")]
    assert cases == [("npnet", "system-out"), ("<b>?", "system-out"), ("npnet", "failure"), ("any method", "error")]
    failure = root.find(".//failure")
    assert failure is not None
    assert "shown to be below 4" in str(failure.get("message"))


def test_junit_of_no_rule_is_an_error() -> None:
    root = ET.fromstring(gate.junit([]).encode())
    assert (root.get("tests"), root.get("errors")) == ("1", "1")


def test_notes_stand_below_the_table_and_act_as_nothing() -> None:
    text = gate.markdown(Judgement(notes=["weights of <b>|x` have changed"]))
    assert text.endswith("\n- weights of &lt;b>\\|x\\` have changed\n")


SCHEMAS = Path(gate.__file__).parents[1] / "schemas"


def test_the_committed_schema_is_of_what_is_written() -> None:
    stored = json.loads((SCHEMAS / "gate.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(stored)
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **gate.Report.model_json_schema()}
    assert stored == made, "write it again: json.dumps of the schema of bench.gate.Report"


@pytest.mark.parametrize("threshold", [-2.0, 2.0, None])
def test_json_keeps_to_its_schema(threshold: float | None) -> None:
    rules = [] if threshold is None else [Rule(metric="preference", delta=threshold), Rule(metric="pick", delta=0.0)]
    found = results(comparison(0, -1, 1))
    written = gate.as_json(Judgement(check(found, rules), ["a note"]), resulted(found))
    stored = json.loads((SCHEMAS / "gate.schema.json").read_text())
    jsonschema.Draft202012Validator(stored).validate(json.loads(json.dumps(written, allow_nan=False)))
    assert written["outcome"] == {-2.0: "not comparable", 2.0: "failed", None: "not comparable"}[threshold]
    assert written["exit_code"] == {-2.0: 3, 2.0: 1, None: 3}[threshold]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(stored).validate({**written, "outcome": "maybe"})


def test_no_row_of_results_or_of_a_baseline_is_read_by_a_string() -> None:
    """Only what is no record is: a file before it is read, a suite's own protocol, columns, counts, kinds."""
    found = set()
    for file in Path(gate.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            key: ast.AST | None = None
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
                key = node.slice
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
                key = node.args[0]
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                found.add((file.name, key.value))
    assert found <= {
        ("common.py", "methods"), ("common.py", "label"), ("common.py", "chain"),  # of a suite
        ("samples.py", "job_id"), ("samples.py", "metrics"), ("forms.py", "noisebench gate"),
        ("frozen.py", "digest"), ("frozen.py", "schema"), ("frozen.py", "kind"), ("frozen.py", "kind"),
        ("against.py", ""), ("forms.py", "failed"), ("forms.py", "not comparable"), ("forms.py", "inconclusive"),
    }  # fmt: skip
