"""The leaderboard: one table a protocol, one column a scorer, and the reason for each separation."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_boards import MANY, published

from bench.site.beside import beside
from bench.site.board import Board, boards
from bench.site.sources import found


def of(*folders: Path) -> list[Board]:
    return boards(found(folders).runs)


def test_runs_of_one_protocol_share_a_table_and_each_row_names_its_run(tmp_path: Path) -> None:
    one = published(tmp_path / "one", gain=0.5)
    two = published(tmp_path / "two", gain=2.0)
    (board,) = of(one, two)
    rows = [(row.method, row.run.place.parent.name) for row in board.rows]
    assert sorted(rows[:2]) == [("standard", "one"), ("standard", "two")], "baselines stand first"
    assert rows[2:4] == [("inversion", "two"), ("inversion", "one")], "then by the change that was measured"
    (column,) = board.columns
    # 18 of 24 prompts gain 2: a mean of 1.5.
    assert board.rows[2].values[column].text == "+1.50"
    assert board.rows[2].values[column].sub.startswith("[+")
    assert board.rows[2].values[column].tone == "better"
    assert len({row.run.digest for row in board.rows}) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": "m1"}, "weights of the model m0 against m1"),
        ({"changes": {"steps": 8}}, "steps 4 against 8"),
        ({"changes": {"guidance": 3.0}}, "guidance 5.0 against 3.0"),
        ({"n": 12}, "images an arm 24 against 12"),
        ({"changes": {"samplers": ["euler"]}}, "sampler ddim against euler"),
        ({"changes": {"baseline": "reseed"}}, "baseline standard against reseed"),
    ],
    ids=["weights", "steps", "guidance", "images", "sampler", "baseline"],
)
def test_what_is_not_comparable_stands_apart_with_the_reason(tmp_path: Path, change: dict, said: str) -> None:
    one, other = published(tmp_path / "one"), published(tmp_path / "other", **change)
    first, second = of(one, other)
    assert {row.run.digest for row in first.rows}.isdisjoint(row.run.digest for row in second.rows)
    (of_plain,) = [board for board in (first, second) if board.runs[0].place.parent.name == "one"]
    (reason,) = of_plain.apart
    assert said in reason


def test_another_scorer_is_another_column(tmp_path: Path) -> None:
    one = published(tmp_path / "one")
    other = published(tmp_path / "other", scorer="s1", gain=9.0)
    (board,) = of(one, other)
    assert [column.metric for column in board.columns] == ["shapes-preference"] * 2
    assert all(len(row.values) == 1 for row in board.rows), "no row has numbers of both scorers"
    (note,) = [note for note in board.notes if "scorers are different" in note]
    assert "shapes-preference" in note


def test_baselines_that_do_not_agree_are_said(tmp_path: Path) -> None:
    """Runs of other seeds share a protocol here; each delta is still to its own baseline."""
    one, other = published(tmp_path / "one"), published(tmp_path / "other", base=10.0)
    (board,) = of(one, other)
    assert any("another mean by shapes-preference" in note for note in board.notes)


def test_a_metric_that_a_method_optimises_is_marked_and_ranks_nothing(tmp_path: Path) -> None:
    known = {"best": {"shapes-sdxl": ["shapes-preference"]}}
    best = {"use": "best_of_n", "name": "best", "n": 2, "selection_metric": "shapes-preference"}
    run = published(tmp_path / "run", changes={"methods": [*MANY["methods"], best]}, optimises=known)
    (board,) = of(run)
    (row,) = [row for row in board.rows if row.method == "best"]
    (value,) = row.values.values()
    assert (value.mark, value.sort, value.tone) == ("†", None, "")


def test_two_runs_beside_each_other_have_their_scorers_and_protocols(tmp_path: Path) -> None:
    shown = found([published(tmp_path / "one"), published(tmp_path / "two", n=12)]).runs
    shown_runs = beside(shown)["runs"]
    assert {run["slug"] for run in shown_runs} == {run.slug for run in shown}
    assert {arm["protocol"]["images"] for run in shown_runs for arm in run["arms"]} == {24, 12}
    assert all(arm["metrics"]["shapes-preference"][1] for run in shown_runs for arm in run["arms"]), (
        "each with its scorer"
    )
