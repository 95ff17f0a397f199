"""Metrics of pairs and of sets in every stage that reads them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Bench
from judged_kinds import LEVEL, LIKED, comparison, judged
from judged_kinds import known as known
from ledgers import write_ledger

from bench import gate, suite
from bench.analysis import results
from bench.errors import NotComparable, UserError
from bench.report import markdown
from bench.runner.plan import make_plan
from bench.store import Ledger, export
from bench.suite.gates import Gate

# Every stage that reads them ------------------------------------------------------------------------------------------


def test_only_a_metric_of_images_chooses_among_candidates() -> None:
    text = (
        "name: made\nmodels: [shapes-sdxl]\nprompts: [shapes-pickapic]\nsamplers: [ddim]\nbaseline: standard\n"
        f"methods: [standard, {{use: best_of_n, selection_metric: {LIKED}}}]\nmetrics: [{LIKED}]\n"
    )
    with pytest.raises(UserError, match="judges a pair of images: it cannot choose"):
        make_plan(suite.parse(text, file="made", limit=1))


def test_a_report_has_the_win_rate_of_pairs_and_the_value_of_sets(tmp_path: Path) -> None:
    found = results.compute(judged(tmp_path, lambda p: 0.8, lambda p: 3.0 + p[1] + (1.0 if p[0] == "a" else 0)))
    text = markdown.render(found)
    quality = text[text.index("## All prompt sets together") : text.index("## Cost")]
    (mine,) = [line for line in quality.splitlines() if "| a |" in line]
    assert "**80.0 %**<br>[" in mine
    assert "**13.5**<br>+1.0 [+1.0, +1.0] ▲" in mine
    assert "| test-liked (win rate) | test-level |" in quality, "a set has no win rate"


def verdicts_of(ledger: Ledger, *rules: Gate) -> list[gate.Verdict]:
    return gate.check(results.compute(ledger), rules, gate.Samples.read(ledger))


def test_gates_know_what_a_pair_and_a_set_have(tmp_path: Path) -> None:
    """Shares 0.55 and 0.65: each pair is won, but the win rate is 0.6."""
    ledger = judged(
        tmp_path,
        lambda p: 0.55 + 0.1 * (p[1] % 2),
        lambda p: math.sin(p[1]) - (0.3 + 0.01 * p[1] if p[0] == "a" else 0),
    )
    found = verdicts_of(
        ledger,
        Gate(metric=LIKED, win_rate=0.4, require="shown"),
        Gate(metric=LIKED, win_rate=0.9),
        Gate(metric=LIKED, delta=-0.2, require="shown"),
        Gate(metric=LEVEL, delta=-0.2),
        Gate(metric=LEVEL, delta=-0.6, require="shown"),
        Gate(metric=LEVEL, win_rate=0.5),
        Gate(win_rate=0.5),
    )
    assert [v.outcome for v in found] == [
        "passed", "failed", "passed", "failed", "passed", "not comparable", "inconclusive",
    ]  # fmt: skip
    assert found[0].estimate == pytest.approx(0.6)
    assert found[3].estimate == pytest.approx(-0.3 - 0.01 * 9.5)
    assert "has no win rate" in found[5].sentence
    assert found[6].metric == LIKED
    few = judged(tmp_path / "few", prompts=4)
    (refused,) = verdicts_of(few, Gate(metric=LEVEL, delta=0.0))
    assert (refused.outcome, "needs at least 8 images, there are 4" in refused.sentence) == ("not comparable", True)


def test_a_frozen_run_pairs_preferences_and_sets_values_beside_each_other(tmp_path: Path) -> None:
    def ran(name: str, lead: float, lower: float) -> Ledger:
        return judged(
            tmp_path / name,
            lambda p: 0.6 + lead + 0.05 * math.sin(p[1]),
            lambda p: math.sin(p[1] * 2.3) - (lower + 0.1 * math.cos(p[1]) if p[0] == "a" else 0),
            prompts=40,
        )

    def against(now: Ledger, then: dict[str, Any]) -> dict[tuple[str, str, str], gate.Verdict]:
        found = gate.against_baseline(results.compute(now), gate.Frozen.model_validate(then), gate.Samples.read(now))
        return {(v.method, str(v.metric), str(v.quantity)): v for v in found.verdicts}

    old = ran("old", 0.0, 0.0)
    frozen = json.loads(gate.dump(gate.freeze(results.compute(old), gate.Samples.read(old))))
    same = against(old, frozen)
    assert {key: (v.outcome, v.estimate) for key, v in same.items()} == dict.fromkeys(
        [
            ("a", LIKED, "effect_change"),
            ("standard", LEVEL, "change"),
            ("a", LEVEL, "change"),
            ("a", LEVEL, "effect_change"),
        ],
        ("passed", 0.0),
    )
    worse = against(ran("worse", -0.2, 1.0), frozen)
    assert worse["a", LIKED, "effect_change"].outcome == "failed"
    assert worse["a", LIKED, "effect_change"].estimate == pytest.approx(-0.4)
    assert worse["a", LEVEL, "effect_change"].outcome == "failed"
    assert worse["a", LEVEL, "effect_change"].estimate == pytest.approx(-1.0, abs=1e-4)
    assert worse["standard", LEVEL, "change"].estimate == 0
    row, cut = comparison(results.compute(old).document(), LEVEL), {**frozen, "comparisons": []}
    level_change = worse["a", LEVEL, "effect_change"]
    assert level_change.low is not None
    assert level_change.low < -1.0 - (row["delta"] - row["low"]), "two intervals are wider than one"
    assert ("a", LEVEL, "effect_change") not in against(old, cut)


@pytest.mark.parametrize(
    ("n", "why"), [(11, " (11 images, frozen of 12)"), (4, " (needs at least 8 images, there are 4)")]
)
def test_a_set_of_fewer_images_is_not_compared_with_the_frozen_one(tmp_path: Path, n: int, why: str) -> None:
    old, now = (judged(tmp_path / str(k), at=lambda p: math.sin(p[1]), prompts=k) for k in (12, n))
    frozen = gate.freeze(results.compute(old), gate.Samples.read(old))
    judgement = gate.against_baseline(results.compute(now), frozen, gate.Samples.read(now))
    (value,) = [v for v in judgement.verdicts if (v.metric, v.method, v.quantity) == (LEVEL, "a", "change")]
    assert value.outcome == "not comparable"
    assert value.sentence.endswith(f": not measured now on as many images{why}")


def test_a_baseline_from_before_kinds_is_one_of_images(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path, lambda *_: 1.0)
    content = gate.freeze(results.compute(ledger), gate.Samples.read(ledger)).document()
    assert content["metrics"]["shapes-preference"].pop("kind") == "image"
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert gate.load(tmp_path / "old.json").metrics["shapes-preference"].kind == "image"


def test_two_runs_compare_preferences_and_sets(tmp_path: Path) -> None:
    from bench.analysis.compare import compare

    judged(tmp_path / "x", lambda p: 0.5, lambda p: p[1]).close()
    judged(tmp_path / "y", lambda p: 0.75, lambda p: p[1] + 2.0).close()
    found = compare(tmp_path / "x", tmp_path / "y").document()
    liked, set_row = comparison(found, LIKED), comparison(found, LEVEL)
    assert (liked["mean_a"], liked["mean_b"], liked["delta"], liked["win"]) == (0.0, 0.5, 0.5, 20)
    assert [r["method"] for r in found["comparisons"] if r["metric"] == LIKED and r["prompts"] == "*"] == ["a"]
    assert (set_row["mean_a"], set_row["mean_b"]) == (pytest.approx(9.5), pytest.approx(11.5))
    assert [set_row[k] for k in ("delta", "low", "high")] == pytest.approx([2.0] * 3)
    assert comparison(found, LEVEL, "standard")["delta"] == pytest.approx(2.0)
    for name in ("few", "few too"):
        judged(tmp_path / name, prompts=4).close()
    refused = compare(tmp_path / "few", tmp_path / "few too").document()
    assert refused["not_compared"] == [{"metric": LEVEL, "reason": "needs at least 8 images, there are 4 in both runs"}]
    assert list(refused["metrics"]) == [LIKED]


def test_power_answers_for_pairs_and_refuses_sets_in_one_line(bench: Bench, tmp_path: Path) -> None:
    judged(tmp_path, lambda p: 0.5 + 0.4 * math.sin(p[1])).close()
    done = bench("power", tmp_path, "--delta", 0.1)
    assert done.code == 0, done.err
    deltas = 0.8 * np.sin(np.arange(20))
    assert f"standard deviation {deltas.std(ddof=1):.4g}" in done.out
    done = bench("power", tmp_path, "--delta", 0.1, "--metric", LEVEL)
    assert done.code == 2
    assert "it judges all images together" in done.error


def test_export_gives_features_and_preferences_back(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    export(judged(tmp_path / "run", lambda p: p[1] / 20, lambda p: p[1] / 8), tmp_path / "out")
    features = pd.read_parquet(tmp_path / "out" / "features.parquet")["features"]
    assert sorted(tuple(one) for one in features) == sorted((i / 8, 7.0) for i in range(20) for _ in range(2))
    text = pd.read_csv(tmp_path / "out" / "features.csv")["features"]
    assert sorted(tuple(json.loads(one)) for one in text) == sorted(tuple(one) for one in features)
    values = pd.read_csv(tmp_path / "out" / "pair_scores.csv")["value"]
    assert sorted(values) == [i / 20 for i in range(20)]


def test_features_of_two_lengths_are_not_one_set(tmp_path: Path) -> None:
    ledger = judged(tmp_path)
    ledger.db.execute("UPDATE features SET features = ? WHERE rowid = 1", (np.ones(3, "<f4").tobytes(),))
    with pytest.raises(NotComparable, match="have different lengths"):
        results.compute(ledger)
