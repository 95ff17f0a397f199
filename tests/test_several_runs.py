"""Several runs as one table, and which of them are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench
from facts import missing
from ledgers import write_ledger
from result_rows import noisy, row, valid

from bench.analysis import results
from bench.errors import NotComparable
from bench.store import Ledger

# Several runs ---------------------------------------------------------------------------------------------------------


def test_runs_that_share_a_baseline_are_one_table(tmp_path: Path) -> None:
    one = write_ledger(tmp_path / "one", noisy, methods=("standard", "a"))
    two = write_ledger(tmp_path / "two", noisy, methods=("standard", "b"))
    found = valid(results.compute(one, two, folder=tmp_path / "merged"))
    assert [a["method"] for a in found["arms"] if a["prompts"] == "*"] == ["standard", "a", "b"]
    alone = row(results.compute(two).document()["comparisons"], method="b", prompts="*")
    together = row(found["comparisons"], method="b", prompts="*")
    same = ("delta", "low", "high", "p", "n", "win_rate")
    assert {k: together[k] for k in same} == {k: alone[k] for k in same}
    assert together["p_holm"] >= alone["p_holm"]  # there are more comparisons now
    assert [r["path"] for r in found["runs"]] == ["../one", "../two"]
    assert found["pairs"][0]["runs"] == {"standard": 0, "a": 0, "b": 1}


def test_runs_of_other_settings_lie_side_by_side(tmp_path: Path) -> None:
    ledgers = [write_ledger(tmp_path / str(steps), noisy, steps=steps) for steps in (10, 20)]
    found = valid(results.compute(*ledgers))
    assert [s["steps"] for s in found["settings"]] == [10, 20]
    assert {c["steps"] for c in found["comparisons"]} == {10, 20}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"version": "2"}, "standard on shapes-sdxl (shapes-drawbench 0, seed 0) is another image"),
        ({"text": "a square, take {index}"}, "prompt 0 of shapes-drawbench is another text"),
    ],
)
def test_runs_that_disagree_on_what_they_share_are_refused(tmp_path: Path, other: dict[str, Any], reason: str) -> None:
    one = write_ledger(tmp_path / "one", noisy)
    two = write_ledger(tmp_path / "two", noisy, **other)
    with pytest.raises(NotComparable) as error:
        results.compute(one, two)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_of_another_baseline_is_refused(tmp_path: Path) -> None:
    one, two = (write_ledger(tmp_path / name, noisy) for name in ("one", "two"))
    written = two.get("suite")
    two.set("suite", {**written, "baseline": "reseed"})
    with pytest.raises(NotComparable, match=r"another baseline: .*'standard'.*'reseed'"):
        results.compute(one, two)


@pytest.mark.parametrize("seeds", [(0,), (1,)])
def test_runs_of_another_negative_prompt_are_refused_though_they_share_no_pair(
    tmp_path: Path, seeds: tuple[int, ...]
) -> None:
    one, two = write_ledger(tmp_path / "one", noisy), write_ledger(tmp_path / "two", noisy, seeds=seeds)
    two.set("suite", {**two.get("suite"), "negative_prompt": "blurry"})
    with pytest.raises(NotComparable, match=r"another negative prompt: .*''.*'blurry'"):
        results.compute(one, two)


def test_one_label_for_two_methods_is_refused_though_they_share_no_pair(tmp_path: Path) -> None:
    one, two = (write_ledger(tmp_path / str(seed), noisy, seeds=(seed,), methods=("standard", "a")) for seed in (0, 1))
    written = two.get("suite")
    written["methods"][1]["chain"] = [{"use": "inversion", "params": {"inversion_guidance": 1.0}}]
    two.set("suite", written)
    with pytest.raises(NotComparable, match=r"another method 'a': .*'reseed.*'inversion \(inversion_guidance 1.0\)'"):
        results.compute(one, two)


def test_several_runs_are_reported_from_the_command_line(tmp_path: Path, bench: Bench) -> None:
    for name, method in (("one", "a"), ("two", "b")):
        write_ledger(tmp_path / name, noisy, methods=("standard", method)).close()
    done = bench("report", tmp_path / "one", tmp_path / "two", "--format", "md")
    assert done.code == 0, done.err
    merged = next(tmp_path.glob("merged-*"))
    assert "| a |" in (merged / "report.md").read_text()
    assert "| b |" in (merged / "report.md").read_text()
    write_ledger(tmp_path / "three", noisy, methods=("standard", "a"), version="2").close()
    done = bench("report", tmp_path / "one", tmp_path / "three", "--out", tmp_path / "out")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert not (tmp_path / "out" / "report.md").exists()


def test_scores_by_an_older_scorer_are_said_and_not_used(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "run", noisy)
    ledger.db.execute("UPDATE scores SET scorer = 'old'")
    found = results.compute(Ledger(tmp_path / "run")).document()
    facts = ("40 scores of Preference", "another version of its scorer", "count for nothing")
    assert any(not missing(note, *facts) for note in found["notes"]), found["notes"]
    assert not found["run"]["finished"]


def test_runs_of_one_model_name_with_other_weights_are_refused(tmp_path: Path) -> None:
    """They share no pair that could tell: the seeds are others."""
    ledgers = [write_ledger(tmp_path / str(seed), noisy, seeds=(seed,)) for seed in (0, 1)]
    found = valid(results.compute(*ledgers))
    assert {r["seed"] for r in found["seeds"]} == {0, 1}
    for ledger, digest in zip(ledgers, "ab", strict=True):
        written = json.dumps({"weights": {"shapes-sdxl": digest}})
        ledger.db.execute("UPDATE sessions SET provenance = ?", (written,))
    with pytest.raises(NotComparable, match="other weights of shapes-sdxl; report them apart"):
        results.compute(*ledgers)


def test_a_run_given_twice_is_one_run(tmp_path: Path, bench: Bench) -> None:
    write_ledger(tmp_path / "run", noisy).close()
    done = bench("report", tmp_path / "run", tmp_path / "run" / ".." / "run", "--format", "md")
    assert done.code == 0, done.err
    assert len(json.loads((tmp_path / "run" / "results.json").read_text())["runs"]) == 1


def test_a_foreign_ledgers_names_are_plain_text_on_a_terminal(tmp_path: Path, bench: Bench) -> None:
    name = "quick\x1b[31m\u202ered"
    ledger = write_ledger(tmp_path / "run", noisy)
    written = ledger.get("suite")
    written["methods"][1]["label"] = name
    ledger.set("suite", written)
    ledger.set("optimises", {m: {"shapes-sdxl": []} for m in ("standard", name)})
    ledger.db.execute("UPDATE cells SET method = ? WHERE method = 'reseed'", (name,))
    ledger.close()
    done = bench("report", tmp_path / "run", "--format", "md")
    assert done.code == 0, done.err
    assert "quick [31m red against standard" in done.out
    assert not {"\x1b", "\u202e"} & set(done.out)


@pytest.mark.parametrize(
    ("prompts", "low", "ok", "said"),
    [
        (12, -0.02, None, "too few prompts (12) to show one"),
        (30, -0.02, False, "the harness misses an effect that is there"),
        (12, 0.02, True, "as it must be"),
        (12, -0.3, False, "the harness misses an effect that is there"),
    ],
)
def test_a_control_of_too_few_prompts_is_no_fault_of_the_harness(
    prompts: int, low: float, ok: bool | None, said: str
) -> None:
    """Few prompts may not show a gain; that there is none is shown by any number."""
    from bench.analysis.controls import finding_of
    from bench.records import ComparisonRow

    row = ComparisonRow.model_construct(
        method="m", metric="shapes-preference", n_prompts=prompts, delta=low + 0.1, low=low, high=low + 0.2
    )
    found = finding_of(row, "positive", 0.001 if ok else 0.4)
    assert found.ok is ok
    assert found.sentence.endswith(said)
