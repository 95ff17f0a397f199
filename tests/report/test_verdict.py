"""The words of a report: numbers as given, the verdict, and how far to trust it."""

from __future__ import annotations

from typing import Any

import pytest

from bench import report
from bench.report import about, markdown

from .samples import comparison, metric, of, run


def test_sentence_without_effect(small: dict[str, Any]) -> None:
    assert report.sentences(of(small))[0] == (
        "inversion against standard on Preference: +0.012 [-0.004, +0.028], adjusted p = 0.14, win rate 51.2 % "
        "[48.0, 54.3], n = 100 pairs on 50 prompts; no effect shown (only changes of about 0.03 or more could be "
        "detected)."
    )


def test_sentence_with_effect(small: dict[str, Any]) -> None:
    said = report.sentences(of(small))[1]
    assert "+0.100 [+0.084, +0.116], adjusted p < 0.001, win rate" in said, "an interval and the p of the same test"
    assert said.endswith("; a clear improvement.")


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "higher", "said"),
    [
        (0.01, 0.03, 0.05, True, "better"),
        (0.01, 0.03, 0.051, True, "none"),  # the interval alone is not enough after many looks
        (-0.001, 0.03, 0.01, True, "none"),
        (-0.03, -0.01, 0.01, True, "worse"),
        (-0.03, -0.01, 0.01, False, "better"),
        (0.0, 0.03, 0.01, True, "none"),
        (None, 0.03, 0.01, True, "unknown"),
        (0.01, 0.03, None, True, "none"),
    ],
)
def test_effect(small: dict[str, Any], low: Any, high: Any, p_holm: Any, higher: bool, said: str) -> None:
    small["metrics"]["preference"]["higher_is_better"] = higher
    small["comparisons"] = [comparison("npnet", 0.02, low, high, 0.01, p_holm=p_holm)]
    found = of(small)
    assert report.effect(found, found.comparisons[0]) == said


def test_marked_metric_is_no_evidence(small: dict[str, Any]) -> None:
    small["comparisons"] = [comparison("npnet", 0.1, 0.08, 0.12, 0.001, marked=True)]
    assert report.sentences(of(small)) == [
        "npnet against standard: chosen using every score that judges it (Preference), so a gain does not count."
    ]


NEAR = {"metric": "preference", "of": "hps", "shares": [{"kind": "labels", "name": "votes"},
                                                        {"kind": "detector", "name": "eyes"}]}  # fmt: skip


def _near(small: dict[str, Any]) -> dict[str, Any]:
    """npnet, chosen by HPS, with which Preference shares labels and a detector; Pick is independent of both."""
    small["arms"][2]["siblings"] = [NEAR]
    small["comparisons"][1]["sibling"] = True
    small["metrics"]["pick"] = metric("Pick", "logit")
    small["metrics"]["hps"] = metric("HPS", "cos")
    return small


def test_a_method_is_judged_by_an_independent_metric_before_a_sibling_of_what_chose_it(small: dict[str, Any]) -> None:
    _near(small)["comparisons"].append(comparison("npnet", -0.1, -0.12, -0.08, 0.001, metric="pick"))
    assert report.sentences(of(small))[1].startswith("npnet against standard on Pick: -0.100")
    assert report.sentences(of(small))[1].endswith("Elsewhere: clearly better on Preference ‡.")


def test_where_only_a_sibling_judges_that_is_said_with_the_number(small: dict[str, Any]) -> None:
    assert "on Preference (no independent evidence, ‡): +0.100" in report.sentences(of(_near(small)))[1]
    assert report.headline(of(small)).startswith("npnet raises Preference ‡ (no independent evidence) by 0.100")


def test_the_trust_box_says_once_which_metrics_are_no_independent_evidence_for_which_methods_and_why(
    small: dict[str, Any],
) -> None:
    _near(small)
    small["arms"] += [{**small["arms"][2], "prompts": "drawbench"}, {**small["arms"][2], "method": "best_of_4"}]
    small["comparisons"].append({**small["comparisons"][1], "method": "best_of_4"})
    said = [text for _, text in report.trust(of(small)) if "‡" in text]
    assert said == [
        "For npnet and best_of_4, Preference (labels, detector) is no independent evidence (‡): it shares what is in "
        "brackets with HPS, which chose or tuned them."
    ]


def test_weights_that_learnt_from_a_metrics_labels_are_named_with_the_labels(small: dict[str, Any]) -> None:
    _near(small)["arms"][2]["siblings"] = [NEAR | {"of": "", "shares": NEAR["shares"][:1]}]
    said = [text for _, text in report.trust(of(small)) if "‡" in text]
    assert said == [
        "For npnet, Preference (labels: votes) is no independent evidence (‡): the weights of npnet were tuned on the "
        "same."
    ]


def test_harm_elsewhere_is_said(small: dict[str, Any]) -> None:
    small["metrics"]["pick"] = metric("Pick", "logit")
    small["comparisons"].append(comparison("npnet", -0.1, -0.12, -0.08, 0.001, metric="pick"))
    assert report.sentences(of(small))[1].endswith("Elsewhere: clearly worse on Pick.")


def test_control_that_does_not_behave_comes_first(small: dict[str, Any]) -> None:
    small["controls"] = [
        {"method": "npnet", "metric": "preference", "expect": "positive", "ok": True, "sentence": "fine."},
        {"method": "reseed", "metric": "preference", "expect": "zero", "ok": False, "sentence": "reseed helped."},
    ]
    assert report.trust(of(small))[0] == ("alarm", "A sanity check failed: reseed helped.")
    assert "- **A sanity check failed: reseed helped.**" in markdown.render(of(small))


@pytest.mark.parametrize(
    ("value", "places", "sign", "text"),
    [
        (-0.0004, 3, True, "0.000"),
        (1234.5, 1, False, "1,234.5"),
        (0.5, 2, True, "+0.50"),
        (None, 2, False, "n/a"),
        (float("nan"), 2, False, "n/a"),
        (float("inf"), 2, False, "n/a"),
    ],
)
def test_number(value: Any, places: int, sign: bool, text: str) -> None:
    assert report.number(value, places, sign=sign) == text


def test_unfinished_run_is_said(small: dict[str, Any]) -> None:
    small["run"]["finished"] = False
    assert report.headline(of(small)).startswith("So far: npnet raises Preference")
    assert ("caution", "The run is not finished; these are results so far.") in report.trust(of(small))


@pytest.fixture
def merged(small: dict[str, Any]) -> dict[str, Any]:
    """The small results, from two runs on two machines."""
    same = {
        "python": "3.11.7",
        "packages": {"torch": "2.9.0", "numpy": "2.4.6"},
        "weights": {"shapes-sdxl": "sha256:1"},
    }
    other = {"commit": "c0ffee", "hardware": "H100", "packages": {"torch": "2.9.1", "numpy": "2.4.6"}}
    small["runs"] = [
        run("monday", provenance=same | {"commit": "c0ffee", "hardware": "cpu"}),
        run("tuesday", finished=False, sessions=3, provenance=same | other),
    ]
    return small


def test_an_arm_that_lacks_only_scores_says_so(small: dict[str, Any]) -> None:
    small["arms"][1] |= {"complete": False, "n": 4, "n_expected": 4}
    said = [text for _, text in report.trust(of(small)) if text.startswith("Incomplete")]
    assert len(said) == 1
    assert said[0].endswith(": scores are missing.")


def test_merged_runs_are_listed_with_what_differs(merged: dict[str, Any]) -> None:
    assert about.provenance(of(merged)) == [
        ("run 1", "monday, suite small (ab12), 2026-11-21"),
        ("run 2", "tuesday, suite small (ab12), 2026-11-21, 3 sessions, not finished"),
        ("the runs differ in", "hardware, torch"),
        ("suite id", "ab12"),
        ("commit", "c0ffee"),
        ("python", "3.11.7"),
        ("hardware", "cpu (monday); H100 (tuesday)"),
        ("packages", "torch 2.9.0 (monday); 2.9.1 (tuesday), numpy 2.4.6"),
        ("weights of shapes-sdxl", "sha256:1"),
        ("metric preference", "d1"),
    ]


def test_merged_runs_that_differ_are_no_quiet_matter(merged: dict[str, Any]) -> None:
    said = [text for level, text in report.trust(of(merged)) if level == "caution"]
    assert "Not all merged runs are finished (tuesday); these are results so far." in said
    assert "Merged from 2 runs that differ in hardware, torch; see Provenance." in said
    assert "Merged from 2 runs." in about.compared(of(merged))[0]


def test_many_settings_are_not_all_named(small: dict[str, Any]) -> None:
    small["arms"] = [small["arms"][0] | {"steps": steps} for steps in (4, 10, 20, 30, 50, 100)]
    assert about.compared(of(small))[1].endswith("ddim, 30 steps, g 5.5; and 2 more.")


def test_where_all_differences_are_0_no_delta_is_said_to_have_been_findable(small: dict[str, Any]) -> None:
    small["comparisons"] = [comparison("npnet", 0.0, 0.0, 0.0, 1.0, detectable=0.0)]
    said = "n and variance give no smallest effect: all differences are exactly 0"
    assert report.sentences(of(small))[0].endswith(f"no effect shown ({said}).")
    assert "all of its differences are exactly 0, so n and variance give no smallest effect" in report.headline(
        of(small)
    )
    trusted = [line for _, line in report.trust(of(small))]
    assert any(line.endswith("Preference none (all differences are exactly 0).") for line in trusted)
    assert "of 0 would" not in " ".join([*report.sentences(of(small)), report.headline(of(small)), *trusted])
