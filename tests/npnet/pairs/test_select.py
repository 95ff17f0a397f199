"""Selection: exact counts by hand, the table, and what is said where it cannot be done."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Plug
from noise_pairs import collection

from bench.errors import UserError
from bench.metrics.base import MetricEntry
from npnet.pairs import dataset
from npnet.pairs.scores import read_scores
from npnet.pairs.select import Rule, describe, read_selection, run, select, table, write_selection

# Six pairs; the gains s0' - s0 are by hand: one 1, 0, -1, 0.5, 2, 0.25; two 1, 1, 1, -1, -1, 0.
ONE = [(0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 0.5), (-1.0, 1.0), (0.25, 0.5)]
TWO = [(0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, -1.0), (0.0, -1.0), (3.0, 3.0)]


@pytest.fixture
def six(tmp_path: Path) -> Path:
    folder = tmp_path / "six"
    collection(folder, scores={"one": ONE, "two": TWO}, pairs=6, chunk=4)
    return folder


def rules(**thresholds: float) -> list[Rule]:
    return [Rule(metric=metric, threshold=m) for metric, m in thresholds.items()]


def test_a_pair_is_kept_when_the_source_score_and_the_threshold_are_below_the_target_score(six: Path) -> None:
    selection = select(six, rules(one=0))
    assert selection.kept == (0, 3, 4, 5), "pair 1 gained nothing, and the inequality is strict"
    assert selection.filter_rate == pytest.approx(2 / 6)
    assert select(six, rules(one=0.5)).kept == (0, 4), "pair 3 gained just the threshold"
    assert select(six, rules(one=-1.5)).kept == (0, 1, 2, 3, 4, 5)


def test_several_scorers_have_to_agree_or_one_is_enough(six: Path) -> None:
    assert select(six, rules(one=0, two=0), "all").kept == (0,)
    assert select(six, rules(one=0, two=0), "any").kept == (0, 1, 2, 3, 4, 5)
    assert select(six, rules(one=1.5, two=0.5), "any").kept == (0, 1, 2, 4)


def test_the_table_has_every_scorer_and_threshold_from_one_reading(six: Path) -> None:
    lines = table(read_scores(six), ["one", "two"], [0, 0.5]).splitlines()
    assert [line.split("  ")[0].strip() for line in lines[:5]] == [
        "discarded by",
        "one",
        "two",
        "all of them",
        "any of them",
    ]
    # By hand: one keeps 4 and 2 of 6, two 3 and 3, both 1 and 1, either 6 and 4.
    assert [line.split()[-4::2] for line in lines[1:5]] == [
        ["33.33", "66.67"],
        ["50.00", "50.00"],
        ["83.33", "83.33"],
        ["0.00", "33.33"],
    ]
    assert lines[5] == "6 pairs read"
    assert len({len(line) for line in lines[:5]}) == 1, "columns are aligned"


def test_pairs_that_are_not_finite_are_dropped_and_counted_apart(tmp_path: Path) -> None:
    scores = [*ONE[:4], (math.nan, 1.0), ONE[5]]
    collection(tmp_path, scores={"one": scores}, pairs=6, chunk=4, broken={0: math.nan, 3: math.inf})
    selection = select(tmp_path, rules(one=-5))
    assert selection.kept == (1, 2, 5), "0 is NaN, 3 is infinite, 4 has no score"
    assert (selection.seen, selection.not_finite, selection.filter_rate) == (6, 3, 0.0)
    assert "3 pairs with NaN or infinity left out" in table(read_scores(tmp_path), ["one"], [0])


def test_shards_that_are_not_collected_yet_are_allowed_and_said(tmp_path: Path) -> None:
    collection(tmp_path, scores={"one": ONE}, pairs=6, chunk=4, only=[1])
    selection = select(tmp_path, rules(one=0))
    assert (selection.kept, selection.seen, selection.planned) == ((4, 5), 2, 6)
    assert "2 pairs read of 6 planned" in table(read_scores(tmp_path), ["one"], [0])


def test_a_selection_file_reads_as_it_was_written(six: Path, tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "new" / "kept.json"
    assert run(six, metrics=["one", "two"], thresholds=[0, 0.5], mode="any", out=out, say=said.append) is None
    selection = read_selection(out)
    assert selection == select(six, rules(one=0, two=0.5), "any")
    assert selection.protocol == dataset.read_manifest(six).digest()
    assert said[-1].startswith("kept 6 of 6 pairs by any of one > +0, two > +0.5")
    write_selection(out, selection)
    assert read_selection(out) == selection


def test_without_names_the_table_has_all_scorers_at_no_threshold(six: Path) -> None:
    said: list[str] = []
    assert run(six, metrics=[], thresholds=[], mode="all", out=None, say=said.append) is None
    assert [line.split()[0] for line in said[0].splitlines()[1:3]] == ["one", "two"]
    assert "m = 0" in said[0]


def test_a_selection_needs_one_threshold_or_one_for_each_metric(six: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 thresholds for 2 metrics"):
        run(six, metrics=["one", "two"], thresholds=[0, 1, 2], mode="all", out=tmp_path / "x.json", say=lambda _: None)


def test_an_unknown_metric_names_the_nearest(six: Path) -> None:
    with pytest.raises(UserError, match=r"no scores by 'onne' there; did you mean 'one'\?"):
        select(six, rules(onne=0))


@pytest.mark.parametrize("asked", [{"one": 3.0}, {"one": 3.0, "two": 2.0}])
def test_no_pair_left_says_which_threshold_keeps_some(six: Path, asked: dict[str, float]) -> None:
    with pytest.raises(UserError, match="no pair of 6 is left") as raised:
        select(six, rules(**asked), "all")
    if len(asked) == 1:
        assert "a threshold below 2 keeps some" in str(raised.value)
        assert select(six, rules(one=1.999)).kept == (4,)
    else:
        # The pair nearest to both is 0, which misses them by 2 and by 1.
        assert "thresholds lower by more than 2 keep some" in str(raised.value)
        assert select(six, rules(one=0.999, two=-0.001)).kept == (0,)


def test_scores_of_some_shards_only_or_of_two_scorers_do_not_select(six: Path) -> None:
    protocol, shards = dataset.read(six)
    _, second = shards
    fields = {name: getattr(second, name) for name in ("index", "seed", "prompts", "source", "target")}
    other = dataset.Shard(**fields, scores=second.scores, metric_digests={"one": "2", "two": "1"})
    dataset.write_shard(six, protocol, 1, other)
    with pytest.raises(UserError, match=r"'one' scores come from different scorers \(1, 2\)"):
        select(six, rules(one=0))
    without = {"two": second.scores["two"]}
    dataset.write_shard(six, protocol, 1, dataset.Shard(**fields, scores=without, metric_digests={"two": "1"}))
    with pytest.raises(
        UserError, match=r"only 1 of 2 shards have scores by 'one'; run npnet score .*six --metric one$"
    ):
        select(six, rules(one=0))
    assert select(six, rules(two=0)).kept == (0, 1, 2)
    lines = table(read_scores(six), ["one", "two"], [0]).splitlines()
    assert [line.split()[-1] for line in lines[1:5]] == ["-", "%", "-", "-"], "no rate of what only some shards have"
    assert f"run npnet score {six} --metric one" in lines[6]


@pytest.fixture
def less_is_better(plug: Plug) -> None:
    entry = MetricEntry("one", "One", "", load=None, identify=lambda: "1", higher_is_better=False)
    plug("metrics", one=entry)


@pytest.mark.usefixtures("less_is_better")
def test_a_metric_of_which_less_is_better_keeps_what_fell(six: Path) -> None:
    assert select(six, rules(one=0)).kept == (2,), "the only pair whose score fell"
    assert select(six, rules(one=-0.75)).kept == (1, 2, 3, 5), "or rose by less than 0.75"
    assert describe(rules(one=0.5), "all") == "one < -0.5"
    with pytest.raises(UserError, match=r"left after selection by one < -3; a threshold below 1 keeps some"):
        select(six, rules(one=3))
    shown = table(read_scores(six), ["one", "two"], [0])
    assert "83.33 %" in shown.splitlines()[1]
    assert shown.endswith("not installed here: two; more is taken to be better")


def test_a_rate_in_the_table_is_that_of_the_selection(tmp_path: Path) -> None:
    """Whatever another scorer could not judge."""
    broken = [(math.nan, 1.0), *TWO[1:4], (math.inf, 0.0), TWO[5]]
    collection(tmp_path, scores={"one": ONE, "two": broken}, pairs=6, chunk=4)
    scores = read_scores(tmp_path)
    asked = [(rules(one=0), "all"), (rules(two=0), "all"), (rules(one=0, two=0), "all"), (rules(one=0, two=0), "any")]
    lines = table(scores, ["one", "two"], [0]).splitlines()
    for line, (wanted, mode) in zip(lines[1:5], asked, strict=True):
        usable = scores.usable([rule.metric for rule in wanted])
        both = [(s[0] < s[1], t[0] < t[1]) for s, t, u in zip(ONE, broken, usable, strict=True) if u]
        named = [[one, two][: 1 if len(wanted) == 1 else 2] for one, two in both]
        if wanted[0].metric == "two":
            named = [[two] for _, two in both]
        kept = sum(all(n) if mode == "all" else any(n) for n in named)
        assert float(line.split()[-2]) == pytest.approx(100 * (1 - kept / len(named)), abs=0.005)
    assert "pairs with NaN or infinity left out: two 2, all of them 2, any of them 2" in lines


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 1, "selection": {"kept": [1]}}', '{"schema": 9}'])
def test_a_file_that_is_no_selection_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kept.json"
    path.write_text(content)
    with pytest.raises(UserError) as raised:
        read_selection(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_broken_or_foreign_shard_is_named(six: Path, tmp_path: Path) -> None:
    collection(tmp_path / "other", scores={"one": ONE, "two": TWO}, pairs=6, chunk=4, guidance=1.0)
    path = dataset.shard_path(six, 1)
    whole = path.read_bytes()
    path.write_bytes(dataset.shard_path(tmp_path / "other", 1).read_bytes())
    with pytest.raises(UserError, match=r"pairs-000001\.safetensors: a shard of another collection"):
        select(six, rules(one=0))
    path.write_bytes(whole[:-10])
    with pytest.raises(UserError, match=r"pairs-000001\.safetensors: not a whole shard"):
        select(six, rules(one=0))


def test_more_is_kept_at_lower_thresholds_and_by_fewer_scorers(tmp_path: Path) -> None:
    draws = np.random.default_rng(0).standard_normal((2, 48, 2))
    collection(tmp_path, scores={"one": draws[0].tolist(), "two": draws[1].tolist()})
    scores = read_scores(tmp_path)
    kept = [set(select(scores, rules(one=m)).kept) for m in (-1, 0, 1)]
    assert kept[0] >= kept[1] >= kept[2]
    both, either = (set(select(scores, rules(one=0, two=0), mode).kept) for mode in ("all", "any"))
    assert both <= kept[1] <= either


def test_selecting_starts_without_torch() -> None:
    code = "import sys, npnet.pairs.select, npnet.training.train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
