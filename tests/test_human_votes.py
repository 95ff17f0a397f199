"""People's votes as a metric, and metrics added to a run that is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Run
from facts import missing
from ledgers import write_ledger

SETTING = {"model": "shapes-sdxl", "sampler": "ddim", "steps": 10, "guidance": 5.0}


def votes(path: Path, cast: list[dict[str, Any]], **more: Any) -> Path:
    given = {"schema": 1, "kind": "noisebench votes", "suite_id": "x", "run": "made", "voter": "me", "votes": cast}
    path.write_text(json.dumps(given | more))
    return path


def vote(index: int, choice: str, *, left: str = "standard", right: str = "a", **more: Any) -> dict[str, Any]:
    text = f"a circle, take {index} of shapes-drawbench"
    return {"setting": SETTING, "prompts": "shapes-drawbench", "index": index, "seed": 0, "prompt": text, "left": left,
            "right": right, "choice": choice, "at": "2026-01-01T00:00:00Z", **more}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_ledger(tmp_path / "run", lambda *_: 1.0, methods=("standard", "a", "b")).close()
    return tmp_path / "run"


Score = Callable[..., dict[str, Any]]


@pytest.fixture
def human(run: Path, bench: Bench) -> Score:
    """Reads votes files and gives the human comparisons by method."""

    def read(*paths: Path) -> dict[str, Any]:
        done = bench("score", run, "--metric", "human", *(a for p in paths for a in ("--votes", p)))
        assert done.code == 0, done.err
        rows = json.loads((run / "results.json").read_text())["comparisons"]
        return {c["method"]: c for c in rows if c["metric"] == "human" and c["prompts"] == "*"}

    return read


def test_wins_less_losses_are_the_delta_whichever_side_they_were_on(human: Score, tmp_path: Path) -> None:
    cast = [vote(i, "right") for i in range(6)] + [vote(6, "left"), vote(7, "tie")]
    cast += [vote(8, "left", left="a", right="standard"), vote(9, "right", left="a", right="standard")]
    found = human(votes(tmp_path / "votes.json", cast))
    comparison = found["a"]
    assert (comparison["win"], comparison["tie"], comparison["loss"], comparison["n"]) == (7, 1, 2, 10)
    assert comparison["delta"] == pytest.approx((7 - 2) / 10)
    assert comparison["win_rate"] == pytest.approx(0.75)
    assert comparison["complete"]
    assert found["b"]["n"] == 0


def test_voters_of_one_pair_are_averaged_and_a_file_read_twice_counts_once(human: Score, tmp_path: Path) -> None:
    one = votes(tmp_path / "one.json", [vote(i, "right") for i in range(5)])
    two = votes(tmp_path / "two.json", [vote(i, "left" if i else "right") for i in range(5)], voter="you")
    human(one)
    comparison = human(two, one)["a"]
    assert comparison["delta"] == pytest.approx((1 + 4 * 0) / 5)
    assert human(two)["a"] == comparison


def test_the_report_knows_people_and_the_run_stays_finished(human: Score, run: Path, tmp_path: Path) -> None:
    human(votes(tmp_path / "votes.json", [vote(i, "right") for i in range(12)]))
    found = json.loads((run / "results.json").read_text())
    assert found["run"]["finished"]
    assert "Human votes" in (run / "report.md").read_text()


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"kind": "something"}, 2, "not a votes file: kind"),
        ({"schema": 2}, 2, "not a votes file: schema"),
        ({"votes": [vote(0, "both")]}, 2, "not a votes file: votes.0.choice"),
        ({"votes": [vote(0, "left", prompt="a ring")]}, 3, "cast on another prompt"),
        ({"votes": [vote(0, "left", images={"a": "images/old.png"})]}, 3, "cast on another image of a"),
        ({"votes": [vote(99, "left")]}, 3, "none of 1 votes is about a pair of this run"),
        ({"votes": [vote(0, "left", left="a", right="b")]}, 3, "1 without standard"),
    ],
)
def test_what_is_no_vote_on_this_run_is_one_line(
    run: Path, bench: Bench, tmp_path: Path, change: dict[str, Any], code: int, said: str
) -> None:
    path = votes(tmp_path / "votes.json", [], **change)
    done = bench("score", run, "--metric", "human", "--votes", path)
    assert done.code == code
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_file_that_is_no_json_and_a_missing_one_are_one_line(run: Path, bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"schema": 1, ')
    for name in ("cut.json", "none.json"):
        done = bench("score", run, "--metric", "human", "--votes", tmp_path / name)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "export it from report.html again" in done.err


def test_people_are_no_metric_of_a_suite_and_need_their_votes(run: Path, bench: Bench) -> None:
    done = bench("score", run, "--metric", "human")
    assert done.code == 2
    assert missing(done.error, "'human'", "report.html", "give --votes FILE") == []
    done = bench("score", run, "--metric", "shapes-aesthetic", "--votes", run / "x.json")
    assert done.code == 2
    assert "give --metric human too" in done.err


def test_a_metric_can_be_added_to_a_finished_run(finished: Run, tmp_path: Path, bench: Bench) -> None:
    run = finished.copy(tmp_path)
    before = run.results()
    assert "shapes-aesthetic" not in before["metrics"]
    done = bench("score", run.folder, "--metric", "shapes-aesthetic", "--device", "cpu")
    assert done.code == 0, done.err
    after = run.results()
    comparison = [c for c in after["comparisons"] if c["metric"] == "shapes-aesthetic"]
    assert all(c["complete"] for c in comparison)
    assert len(comparison) == len(
        [c for c in before["comparisons"] if c["metric"] == before["comparisons"][0]["metric"]]
    )
    assert [c["delta"] for c in after["comparisons"] if c["metric"] in before["metrics"]] == [
        c["delta"] for c in before["comparisons"]
    ]


def test_a_metric_without_a_scorer_cannot_be_added(run: Path, bench: Bench) -> None:
    done = bench("score", run, "--metric", "pickscore")
    assert (done.code, done.err.count("\n")) == (2, 1)
