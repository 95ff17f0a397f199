"""The headline: one metric for all methods, the strongest honest effect on it, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
from facts import missing

from bench import report
from bench.report.strongest import chosen_by, headline_metric

from .samples import NO_RATIOS, arm, comparison, metric, of

POWER = "this run could only detect changes of about 0.03 or more"


@pytest.fixture
def many(small: dict[str, Any]) -> dict[str, Any]:
    """best_of_4 by HPS, its oracle by GenEval and a reseed beside two methods, as in the suites that are shipped."""
    small["metrics"] = {
        name: metric(title) for name, title in {"hps": "HPS", "geneval": "GenEval", "clip": "CLIPScore"}.items()
    }
    names = ("inversion", "npnet", "best_of_4", "best_of_4_oracle", "reseed")
    small["arms"] = [arm("standard", 1.0), *(arm(name, 1.0) for name in names)]
    rows = {(name, metric): comparison(name, 0.001, -0.015, 0.017, 0.9, metric=metric)
            for name in names for metric in small["metrics"]}  # fmt: skip
    gain = {"low": 0.077, "high": 0.14, "p_holm": 0.001}
    rows["best_of_4", "clip"] |= {"delta": 0.107, **gain}
    rows["best_of_4", "geneval"] |= {"delta": 0.3, **gain, "sibling": True}
    rows["best_of_4", "hps"] |= {"delta": 0.5, **gain, "marked": True}
    rows["npnet", "hps"] |= {"marked": True}
    rows["best_of_4_oracle", "geneval"] |= {"delta": 0.4, **gain, "marked": True}
    rows["best_of_4_oracle", "clip"] |= {"delta": 0.2, **gain}
    rows["reseed", "clip"] |= {"delta": 0.9, **gain}
    small["comparisons"] = list(rows.values())
    small["suite"] |= {"headline": None, "controls": ["reseed", "best_of_4_oracle"]}
    small["arms"][3]["cost"]["ratios"] = NO_RATIOS | {"total_ms": {"ratio": 4.13, "low": 4.0, "high": 4.3}}
    return small


def _row(results: dict[str, Any], method: str, metric: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        row for row in results["comparisons"] if (row["method"], row["metric"]) == (method, metric)
    )
    return found


def test_the_strongest_honest_effect_and_its_cost(many: dict[str, Any]) -> None:
    assert report.headline(of(many)) == (
        "best_of_4 raises CLIPScore by 0.107 [0.077, 0.140] at 4.1 times the time (also shown: GenEval +0.300 ‡); "
        f"no other method shows a change; {POWER}."
    )


def test_controls_and_oracles_never_compete_and_an_unlisted_reseed_neither(many: dict[str, Any]) -> None:
    for known in (["reseed", "best_of_4_oracle"], ["reseed"]):
        many["suite"]["controls"] = known
        assert "reseed" not in report.headline(of(many))
    # What optimises the metric of the headline does not compete on it.
    many["suite"] |= {"headline": "geneval"}
    assert "not judged by it: best_of_4 ‡, best_of_4_oracle †" in report.headline(of(many))
    assert report.headline(of(many)).startswith("No method shows a change on GenEval; ")


def test_the_metric_is_the_first_that_is_independent_for_most_methods_whatever_was_found(many: dict[str, Any]) -> None:
    assert headline_metric(of(many)) == "clip"
    assert "independent evidence for the most methods (3 of 3); no result plays a part" in chosen_by(of(many))
    for row in many["comparisons"]:
        row |= {"delta": 0.001, "low": -0.015, "high": 0.017, "p_holm": 0.9}
    assert headline_metric(of(many)) == "clip"
    for row in many["comparisons"]:
        row |= {"marked": False, "sibling": False}
    assert headline_metric(of(many)) == "hps", "of equals, the first in the suite"


def test_a_suite_may_name_the_metric(many: dict[str, Any]) -> None:
    many["suite"]["headline"] = "hps"
    assert headline_metric(of(many)) == "hps"
    assert chosen_by(of(many)) == "The headline is by HPS, which the suite names for it."
    assert ("fact", chosen_by(of(many))) in report.trust(of(many))
    many["suite"]["headline"] = "gone"
    assert headline_metric(of(many)) == "clip"


def test_a_metric_that_mixes_kinds_of_scores_is_the_headlines_last_choice(many: dict[str, Any]) -> None:
    many["metrics"] = {"t2i_compbench": metric("T2I-CompBench"), **many["metrics"]}
    many["comparisons"] += [
        comparison(name, 0.001, -0.015, 0.017, 0.9, metric="t2i_compbench")
        for name in ("inversion", "npnet", "best_of_4")
    ]
    assert headline_metric(of(many)) == "clip"


def test_nothing_shown_names_no_method_and_says_what_could_have_been_seen(small: dict[str, Any]) -> None:
    small["comparisons"][1] |= {"delta": 0.001, "low": -0.015, "high": 0.017, "p_holm": 0.9, "detectable": 0.06}
    said = report.headline(of(small))
    assert missing(said, "No method", "Preference", "0.06 or more") == []
    assert "npnet" not in said


def test_a_harm_is_said(small: dict[str, Any]) -> None:
    small["comparisons"][1] |= {"delta": -0.1, "low": -0.116, "high": -0.084, "win_rate": 0.3}
    first, other, power = report.headline(of(small)).split("; ", 2)
    assert missing(first, "npnet lowers Preference", "0.100 [0.084, 0.116]", "1.0 times the time") == []
    assert other.startswith("no other method")
    assert power == f"{POWER}."


def test_gains_come_before_a_larger_harm_and_more_than_two_are_counted(small: dict[str, Any]) -> None:
    more = {"second": 0.09, "third": 0.08, "fourth": 0.07, "worst": -0.4}
    small["comparisons"] += [comparison(name, d, d - 0.016, d + 0.016, 0.0004) for name, d in more.items()]
    found = report.headline(of(small)).split("; ")
    expected = [
        ("npnet raises", "0.100 [0.084, 0.116]", "1.0 times"),
        ("second raises", "0.090 [0.074, 0.106]"),
        ("third raises", "0.080 [0.064, 0.096]"),
        ("1 more",),
        ("worst lowers", "0.400 [0.384, 0.416]"),
        ("no other method",),
        (POWER,),
    ]
    assert [missing(part, *facts) for part, facts in zip(found, expected, strict=True)] == [[]] * len(expected)


def test_where_lower_is_better_the_strongest_lowers(small: dict[str, Any]) -> None:
    small["metrics"]["preference"] |= {"title": "FID", "higher_is_better": False}
    small["comparisons"][0] |= {"delta": 0.2, "low": 0.19, "high": 0.21, "p_holm": 0.001}
    small["comparisons"][1] |= {"delta": -0.1, "low": -0.116, "high": -0.084}
    best, other = report.headline(of(small)).split("; ")
    assert missing(best, "npnet lowers FID", "(lower is better)", "0.100 [0.084, 0.116]", "1.0 times the time") == []
    assert missing(other, "inversion raises", "0.200 [0.190, 0.210]") == []


def test_without_times_the_cost_is_in_denoiser_calls_and_a_pair_metric_has_a_win_rate(small: dict[str, Any]) -> None:
    small["metrics"]["preference"]["kind"] = "pair"
    small["arms"][2]["cost"]["ratios"] = NO_RATIOS | {"calls_total": {"ratio": 12.0, "low": 12.0, "high": 12.0}}
    assert report.headline(of(small)).startswith(
        "npnet is preferred to standard by Preference in 61.0 % [51.4, 70.6] of pairs at 12 times the denoiser calls;"
    )


def test_several_settings_are_named(small: dict[str, Any]) -> None:
    small["comparisons"].append({**small["comparisons"][1], "steps": 4, "delta": 0.2, "low": 0.19, "high": 0.21})
    said = report.headline(of(small))
    assert said.startswith("npnet raises Preference by 0.200 [0.190, 0.210] (ddim, 4 steps, g 5.5); npnet raises it by")


def test_nothing_to_judge(small: dict[str, Any]) -> None:
    for row in small["comparisons"]:
        row["marked"] = True
    assert report.headline(of(small)).startswith("Nothing can be judged: ")
    assert chosen_by(of(small)) == ""
    small["comparisons"] = []
    assert report.headline(of(small)) == "Nothing was compared."


def test_a_broken_harness_is_said_first(small: dict[str, Any]) -> None:
    small["controls"] = [{"method": "reseed", "metric": "preference", "expect": "zero", "ok": False, "sentence": ""}]
    assert report.headline(of(small)).startswith("A sanity check failed, so nothing below is to be believed yet")


def test_an_incomplete_method_is_not_named(small: dict[str, Any]) -> None:
    small["comparisons"][1]["complete"] = False
    assert "npnet" not in report.headline(of(small))
