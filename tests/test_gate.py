"""A gate neither passes what was not measured nor fires on noise."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from facts import missing
from gate_rows import arm, check, comparison, one, results
from pydantic import ValidationError
from scipy import stats as scipy_stats

from bench import gate
from bench.gate import Judgement, Rule


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
