"""What metrics are made of and share, the marks that follow, and docs/metrics.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Run
from suite_texts import TWO_ARMS, suite_text

from bench import registry, suite
from bench.analysis.evidence import siblings as siblings_of
from bench.catalogue.metric_tables import PACKAGES, page
from bench.cli import main
from bench.kinship import Trait, dependences, kin, siblings
from bench.metrics.base import MetricEntry
from bench.runner.plan import Plan, make_plan
from bench.store import Ledger

DOCUMENT = Path(__file__).parents[1] / "docs" / "metrics.md"
OWN = [name for name in registry.names("metrics") if registry.source("metrics", name) in PACKAGES]
ELSEWHERE = ("endpoint", "endpoint-pairs")
"""Judges of the user's own: what they are made of is not known."""


def _entry(name: str) -> MetricEntry:
    entry: MetricEntry = registry.get("metrics", name)
    return entry


def _kinds(one: str, other: str) -> set[str]:
    return {trait.kind for trait in siblings(_entry(one), _entry(other))}


@pytest.mark.parametrize("name", OWN)
def test_every_metric_declares_all_facts(name: str) -> None:
    entry = _entry(name)
    assert all((entry.about, entry.license, entry.blind_to, entry.unfit_for))
    assert bool(entry.made_of) is (name not in ELSEWHERE)


def test_the_document_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "metrics", "--markdown"]) == 0
    assert capsys.readouterr().out == page()
    assert DOCUMENT.read_text() == page(), "python -m bench ls metrics --markdown > docs/metrics.md"
    assert all(page().count(f"\n| `{name}` |") >= 3 for name in OWN)


def test_a_document_is_of_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--markdown"]) == 2
    assert "ls metrics" in capsys.readouterr().err


def test_facts_are_in_no_digest() -> None:
    from dataclasses import replace

    for name in ("pickscore", "shapes-preference"):
        entry = _entry(name)
        other = replace(entry, license="x", blind_to="x", unfit_for="x", made_of=(Trait("labels", "x"),))
        assert other.digest() == entry.digest()


def test_a_kind_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="'vibes' is none of weights, labels"):
        MetricEntry("odd", "Odd", "", load=None, identify=str, made_of=(Trait("vibes", "x"),))


def test_the_published_preference_scorers_learnt_from_other_people_on_one_backbone() -> None:
    """PickScore: Pick-a-Pic; HPSv2: HPD v2, on DiffusionDB's prompts as ImageReward; MPS: MHP. Three on ViT-H-14."""
    for one, other in (("pickscore", "hpsv2"), ("pickscore", "mps"), ("hpsv2", "mps")):
        assert _kinds(one, other) == {"backbone"}
    assert _kinds("hpsv2", "imagereward") == {"prompts"}
    assert _kinds("hpsv2", "hpsv2-v2.0") >= {"labels", "backbone"}
    assert not _kinds("pickscore", "aesthetic")


def test_compbenchs_non_spatial_score_is_clipscores_cosine() -> None:
    assert "rule" in _kinds("t2i_compbench", "clipscore")


def test_the_embedded_votes_weigh_genevals_clauses_and_share_the_drawing_with_ratings() -> None:
    assert {"detector", "rule"} <= _kinds("shapes-preference", "shapes-geneval")
    assert {"labels", "detector"} <= _kinds("shapes-preference", "shapes-aesthetic")
    assert {"labels", "detector", "rule"} <= _kinds("shapes-preference", "shapes-mps")
    assert _kinds("shapes-preference", "shapes-clipscore") == {"prompts"}
    others = (name for name in OWN if name.startswith("shapes-") and name != "shapes-imagereward")
    assert not any(_kinds("shapes-imagereward", name) for name in others)


def test_kin_have_the_same_weights_from_both_sides() -> None:
    assert kin(_entry("shapes-pickscore"), _entry("shapes-preference"))
    assert kin(_entry("shapes-preference"), _entry("shapes-pickscore"))
    assert not kin(_entry("shapes-preference"), _entry("shapes-mps"))


def test_a_backbone_or_prompts_make_no_metric_dependent() -> None:
    judging = [_entry(name) for name in ("pickscore", "mps", "imagereward", "hpsv2", "hpsv2-v2.0")]
    found = dependences(judging, [_entry("hpsv2")])
    assert [(one.metric, one.of) for one in found] == [("hpsv2-v2.0", "hpsv2")]
    assert [trait.kind for trait in found[0].traits] == ["labels"]


def planned(model: str, *methods: Any) -> Plan:
    judges = ["preference", "geneval", "clipscore", "imagereward", "mps"]
    text = suite_text(TWO_ARMS, models=[model], methods=[*methods], metrics=[f"shapes-{name}" for name in judges])
    return make_plan(suite.parse(text, file="near.yaml", limit=1))


def test_what_optimises_the_first_glance_optimises_the_whole_preference() -> None:
    best = {"use": "best_of_n", "n": 2, "selection_metric": "shapes-pickscore"}
    marks = planned("shapes-sdxl", "standard", "dpo", best).optimises
    assert marks["best_of_n"]["shapes-sdxl"] == ["shapes-pickscore", "shapes-preference"]
    assert marks["dpo"]["shapes-sdxl"] == ["shapes-imagereward"]


def test_published_dpo_weights_say_whose_votes_they_learnt_from() -> None:
    plan = planned("sdxl", "standard", "dpo")
    assert plan.learnt_from == {"dpo": {"sdxl": [["labels", "Pick-a-Pic votes"]]}}
    found = dependences([_entry("pickscore"), _entry("hpsv2")], [], [Trait("labels", "Pick-a-Pic votes")])
    assert [(one.metric, one.of) for one in found] == [("pickscore", "")]


def test_a_ledger_of_before_is_judged_by_todays_facts(tmp_path: Path) -> None:
    """It says what a method optimises, and nothing of what its weights learnt from."""

    class Arm:
        method, setting = "best_of_n", ("shapes-sdxl", "ddim", 20, 5.0)

    ledger = Ledger(tmp_path / "run", create=True)
    entries = {name: _entry(name) for name in ("shapes-geneval", "shapes-clipscore")}
    optimised: Any = lambda arm: ["shapes-preference", "a-metric-that-is-not-installed"]  # noqa: E731
    arm: Any = Arm()
    assert [one.metric for one in siblings_of([ledger], entries, optimised)(arm)] == ["shapes-geneval"]


def test_a_metric_added_to_a_run_is_marked_where_it_shares_a_detector_with_what_chose(
    finished: Run, bench: Bench, tmp_path: Path
) -> None:
    """best_of_2 chose by shapes-geneval, which sees by the detector that ratings were made with."""
    run = finished.copy(tmp_path)
    done = bench("score", run.folder, "--metric", "shapes-aesthetic")
    assert done.code == 0, done.err
    found = run.results()
    marks = {(c["method"], c["metric"]): (c["marked"], c["sibling"]) for c in found["comparisons"]}
    assert marks["best_of_2", "shapes-geneval"] == (True, False)
    assert marks["best_of_2", "shapes-aesthetic"] == (False, True)
    assert marks["best_of_2", "shapes-clipscore"] == (False, False)
    assert marks["inversion", "shapes-aesthetic"] == (False, False)
    report = (run.folder / "report.md").read_text()
    assert "For best_of_2, Aesthetic (detector) is no independent evidence" in report
    assert "it shares what is in brackets with GenEval, which chose or tuned it." in report
    table = (tmp_path / "comparison.json").absolute()
    done = bench("compare", run.folder, run.copy(tmp_path / "again").folder, "--json", table)
    assert done.code == 0, done.err
    rows = {(row["method"], row["metric"]): row for row in json.loads(table.read_text())["comparisons"]}
    assert rows["best_of_2", "shapes-aesthetic"]["sibling"]
    assert not rows["best_of_2", "shapes-geneval"]["sibling"]
    assert not rows["inversion", "shapes-aesthetic"]["sibling"]
