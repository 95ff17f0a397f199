"""Several networks of one recipe as one method: the answers follow from the scores, and what is missing is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from ledgers import write_ledger

from bench import stats
from bench.analysis import results
from bench.errors import UserError
from bench.stats.crossed import crossed_delta
from npnet import trainings

NETWORKS = ("net_1", "net_2", "net_3")
GAIN = {"standard": 0.0, "other": 0.3, "net_1": 0.1, "net_2": 0.2, "net_3": 0.6}
RNG = np.random.default_rng(3)
SPREAD = {(name, i, seed): RNG.normal(0, 0.2) for name in GAIN for i in range(40) for seed in (0, 1)}


def score(method: str, prompts: str, index: int, seed: int, metric: str) -> float:
    return 1 + GAIN[method] + SPREAD[method, index, seed]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is read and never changed."""
    folder = tmp_path_factory.mktemp("networks") / "run"
    ledger = write_ledger(folder, score, methods=tuple(GAIN), prompts=40, seeds=(0, 1),
                          metrics=("shapes-clipscore",))  # fmt: skip
    results.write(ledger)
    ledger.close()
    return folder


def table(method: str) -> np.ndarray:
    """A method's mean of each prompt over its two seeds."""
    return np.array([np.mean([score(method, "", i, seed, "") for seed in (0, 1)]) for i in range(40)])


def test_the_interval_is_the_crossed_one_of_prompts_means(run: Path) -> None:
    found = {one.question: one for one in trainings.answers(run, NETWORKS, ["other"])}
    assert list(found) == ["other > standard", "networks > standard", "networks > other"]
    treated = np.stack([table(name) for name in NETWORKS])
    for question, control in (("networks > standard", "standard"), ("networks > other", "other")):
        want = crossed_delta(treated - table(control))
        assert found[question].estimate == pytest.approx(want.interval.estimate)
        assert (found[question].low, found[question].high) == pytest.approx((want.interval.low, want.interval.high))
        assert found[question].each == pytest.approx(tuple((treated - table(control)).mean(axis=1)))
    want = stats.paired_delta(table("other"), table("standard"), range(40))
    assert (found["other > standard"].low, found["other > standard"].high) == pytest.approx((want.low, want.high))


def test_the_csv_is_the_printed_table(run: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    trainings.run(run, NETWORKS, ["other"], out=tmp_path / "table.csv", say=lines.append)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    printed = [line.strip("| ").split(" | ") for line in lines[0].split("\n")]
    assert [row[:3] for row in rows[1:]] == [row[:3] for row in printed[2:]]
    assert "3 networks and 40 prompts" in lines[1]


@pytest.mark.parametrize(
    ("networks", "against", "said"),
    [
        (("net_1",), (), "at least two"),
        (("net_1", "net_9"), (), "no method 'net_9'"),
        (("net_1", "net_2"), ("othr",), "no method 'othr'.*other"),
    ],
)
def test_what_is_not_there_is_refused(
    run: Path, networks: tuple[str, ...], against: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        trainings.answers(run, networks, against)


def test_missing_scores_and_few_prompts_are_refused(tmp_path: Path) -> None:
    def without(method: str, prompts: str, index: int, seed: int, metric: str) -> float | None:
        return None if (method, index) == ("net_2", 7) else score(method, prompts, index, seed, metric)

    results.write(write_ledger(tmp_path / "lacks", without, methods=tuple(GAIN), prompts=40))
    with pytest.raises(UserError, match=r"net_2 has 39 scores of .*, standard 40"):
        trainings.answers(tmp_path / "lacks", NETWORKS)
    results.write(write_ledger(tmp_path / "few", score, methods=tuple(GAIN), prompts=20))
    with pytest.raises(UserError, match=r"20 prompts .* 30"):
        trainings.answers(tmp_path / "few", NETWORKS)
