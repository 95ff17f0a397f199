"""What a gate requires, of which metric, and costs with intervals."""

from __future__ import annotations

from typing import Any

import pytest
from facts import missing
from gate_rows import arm, check, comparison, one, results

from bench.gate import Rule

# What is required, and of which metric --------------------------------------------------------------------------------


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


# Costs with intervals -------------------------------------------------------------------------------------------------


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
