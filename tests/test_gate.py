"""A gate neither passes what was not measured nor fires on noise."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from bench import gate
from bench.errors import NotComparable, UserError
from bench.gate import Rule

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
    return {"schema": 1, "suite": suite, "metrics": {"preference": metric}, "comparisons": list(comparisons),
            "arms": arms or []}  # fmt: skip


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
    verdicts = gate.check(found, [Rule.parse({"metric": "preference", **rule})])
    assert len(verdicts) == 1
    return verdicts[0]


@pytest.mark.parametrize(
    ("delta", "low", "high", "threshold", "ok"),
    [
        (-0.10, -0.14, -0.06, -0.05, False),  # shown to be below
        (-0.06, -0.10, -0.02, -0.05, True),  # may be below, but that is not shown
        (0.00, -0.04, 0.04, -0.05, True),
        (-0.09, -0.13, -0.05, -0.05, True),  # the bound itself is still allowed
        (0.02, 0.00, 0.04, 0.05, False),  # a gain that was asked for is shown to be missing
    ],
)
def test_delta_is_decided_on_the_upper_bound(delta: float, low: float, high: float, threshold: float, ok: bool) -> None:
    verdict = one(results(comparison(delta, low, high)), delta=threshold)
    assert (verdict.ok, verdict.comparable) == (ok, True)


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
    ("threshold", "two_sided", "ok"), [(0.46, False, False), (0.45, False, True), (0.7, True, False)]
)
def test_win_rate(threshold: float, two_sided: bool, ok: bool) -> None:
    assert one(results(comparison(0, -1, 1)), win_rate=threshold, two_sided=two_sided).ok is ok


def test_two_sided_win_rate_mirrors_at_one_half() -> None:
    row = comparison(0, -1, 1, win_rate=0.7, win_low=0.65, win_high=0.75)
    assert one(results(row), win_rate=0.4).ok
    assert not one(results(row), win_rate=0.4, two_sided=True).ok


def test_more_looks_widen_the_interval() -> None:
    """Two checks: z(1 - 0.025 / 2) / z(0.975) = 2.241403 / 1.959964, so a half-width of 0.04 becomes 0.045744."""
    found = results(comparison(-0.094, -0.134, -0.054))
    rule = Rule("preference", delta=-0.05)
    assert not gate.check(found, [rule])[0].ok
    both = gate.check(found, [rule, Rule("preference", win_rate=0.1)])
    assert [verdict.ok for verdict in both] == [True, True]
    assert "[-0.1397, -0.04826]" in both[0].sentence


def test_cost_rules_do_not_count_as_looks() -> None:
    arms = [arm("standard", total_ms=500.0), arm("npnet", total_ms=510.0)]
    found = results(comparison(-0.094, -0.134, -0.054), arms=arms)
    verdicts = gate.check(found, [Rule("preference", delta=-0.05), Rule("total_ms", ratio=1.2)])
    assert [verdict.ok for verdict in verdicts] == [False, True]


def test_rule_without_a_method_holds_for_all() -> None:
    rows = [comparison(0, -0.1, 0.1), comparison(-1, -1.1, -0.9, method="inversion")]
    verdicts = gate.check(results(*rows), [Rule("preference", delta=-0.5)])
    assert {verdict.method: verdict.ok for verdict in verdicts} == {"npnet": True, "inversion": False}


@pytest.mark.parametrize(
    ("name", "ours", "base", "ok", "comparable"),
    [
        ("total_ms", 610.0, 500.0, False, True),
        ("total_ms", 600.0, 500.0, True, True),
        ("peak_bytes", 100, 100, True, True),
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
        comparison(-1, float("nan"), -0.9),
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
    assert verdict.sentence == "there is no comparison with method 'npnt'; did you mean 'npnet'?"


def test_exit_codes() -> None:
    good, bad = Rule("preference", delta=-2.0), Rule("preference", delta=2.0)
    absent = Rule("pick", delta=0.0)
    found = results(comparison(0, -1, 1))
    codes = [gate.exit_code(gate.check(found, rules)) for rules in ([good], [bad], [absent], [good, absent], [])]
    assert codes == [0, 1, 3, 3, 3]
    assert gate.exit_code(gate.check(found, [bad, absent])) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metric": "x"}, "exactly one of delta, win_rate and ratio"),
        ({"metric": "x", "delta": 0.1, "ratio": 2}, "exactly one"),
        ({"metric": "x", "detla": 0.1}, "did you mean 'delta'"),
        ({"delta": 0.1}, "needs a metric"),
        ({"metric": "x", "delta": "low"}, "must be a number"),
        ({"metric": "x", "delta": True}, "must be a number"),
        ({"metric": "x", "delta": float("nan")}, "must be a number"),
        ({"metric": "x", "win_rate": 40}, "between 0 and 1"),
        ({"metric": "total_m", "ratio": 1.2}, "did you mean 'total_ms'"),
        ({"metric": "total_ms", "ratio": 0}, "must be positive"),
        ({"metric": "x", "delta": 0.1, "two_sided": "yes"}, "two_sided of a rule must be bool"),
        (["metric"], "a rule is a mapping"),
    ],
)
def test_bad_rules(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rule.parse(given)


# Frozen baselines ----------------------------------------------------------------------------------------------------


def test_freeze_then_the_same_run_passes() -> None:
    found = results(
        comparison(0.1, 0.06, 0.14),
        comparison(9.0, 8.9, 9.1, marked=True, method="best_of_4"),
        comparison(0.1, 0.0, 0.2, prompts="drawbench"),
        comparison(0.1, 0.0, 0.2, method="half", complete=False),
    )
    frozen = gate.freeze(found, rules=[Rule("preference", delta=-0.05)])
    assert [row["method"] for row in frozen["comparisons"]] == ["npnet"]
    assert frozen["suite"] == "table2"
    assert [Rule.parse(rule) for rule in frozen["rules"]] == [Rule("preference", delta=-0.05)]
    verdicts = gate.against_baseline(found, frozen)
    assert [(verdict.method, verdict.ok) for verdict in verdicts] == [("npnet", True)]


@pytest.mark.parametrize(
    ("delta", "low", "high", "tolerance", "ok"),
    [
        (0.00, -0.04, 0.04, 0.0, False),  # wholly below [0.06, 0.14]
        (0.00, -0.04, 0.04, 0.03, True),
        (0.04, -0.01, 0.07, 0.0, True),  # lower, but the intervals overlap
        (0.30, 0.26, 0.34, 0.0, True),
    ],
)
def test_against_baseline_is_decided_on_overlap(
    delta: float, low: float, high: float, tolerance: float, ok: bool
) -> None:
    frozen = gate.freeze(results(comparison(0.1, 0.06, 0.14)))
    (verdict,) = gate.against_baseline(results(comparison(delta, low, high)), frozen, tolerance=tolerance)
    assert (verdict.ok, verdict.comparable) == (ok, True)


def test_against_baseline_where_lower_is_better() -> None:
    frozen = gate.freeze(results(comparison(-0.1, -0.14, -0.06), higher=False))
    (verdict,) = gate.against_baseline(results(comparison(0.0, -0.04, 0.04), higher=False), frozen)
    assert not verdict.ok


@pytest.mark.parametrize("change", [{"name": "table3"}, {"id": "cd34"}, {"baseline": "inversion"}])
def test_another_suite_is_not_comparable(change: dict[str, str]) -> None:
    frozen = gate.freeze(results(comparison(0, -1, 1)))
    other = results(comparison(0, -1, 1))
    other["suite"] |= change
    with pytest.raises(NotComparable, match="freeze it again"):
        gate.against_baseline(other, frozen)


def test_missing_or_incomplete_now_is_not_comparable() -> None:
    frozen = gate.freeze(results(comparison(0, -1, 1)))
    for found in (results(), results(comparison(0, -1, 1, complete=False)), results(comparison(None, None, None))):
        verdicts = gate.against_baseline(found, frozen)
        assert [(verdict.ok, verdict.comparable) for verdict in verdicts] == [(False, False)]
        assert gate.exit_code(verdicts) == 3


def test_another_scorer_is_not_comparable() -> None:
    frozen = gate.freeze(results(comparison(0, -1, 1)))
    found = results(comparison(0, -1, 1))
    found["metrics"]["preference"]["digest"] = "sha256:bb"
    (verdict,) = gate.against_baseline(found, frozen)
    assert not verdict.comparable
    assert "digest has changed" in verdict.sentence


def test_nothing_to_freeze() -> None:
    with pytest.raises(NotComparable, match="nothing to freeze"):
        gate.freeze(results(comparison(0, -1, 1, complete=False)))


# Output --------------------------------------------------------------------------------------------------------------


def test_markdown_puts_failures_first() -> None:
    found = results(comparison(0, -1, 1), comparison(0, -1, 1, method="<b>|`x`\n"))
    rules = [Rule("preference", method="npnet", delta=-2.0), Rule("preference", method="<b>|`x`\n", delta=4.0)]
    text = gate.markdown(gate.check(found, rules))
    assert text.startswith("## Gate: failed\n\n1 passed, 0 not comparable, 1 failed.\n\n| outcome | rule |")
    assert text.splitlines()[6].startswith("| failed | preference delta >= +4 | &lt;b>\\|\\`x\\` |")
    assert text.splitlines()[7].startswith("| passed | preference delta >= -2 | npnet |")


def test_markdown_without_rules() -> None:
    assert "No rule was checked." in gate.markdown([])


def test_junit_parses_and_counts() -> None:
    found = results(comparison(0, -1, 1), comparison(0, -1, 1, method="<b>\x00"))
    rules = [Rule("preference", delta=-4.0), Rule("preference", method="npnet", delta=4.0), Rule("pick", delta=0.0)]
    root = ET.fromstring(gate.junit(gate.check(found, rules)).encode())
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "1", "1")
    cases = [(case.get("classname"), next(iter(case)).tag) for case in root.iter("testcase")]
    assert cases == [("npnet", "system-out"), ("<b>?", "system-out"), ("npnet", "failure"), ("any method", "error")]
    failure = root.find(".//failure")
    assert failure is not None
    assert "shown to be below 4" in str(failure.get("message"))
