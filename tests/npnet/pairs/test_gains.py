"""Teachers in one table: each cut to what the same denoiser calls buy, its gains those of plain arithmetic."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from noise_pairs import PROMPTS, collection

from bench import stats
from bench.errors import NotComparable, UserError
from npnet.pairs import gains
from npnet.pairs.gains import Middling, described
from npnet.pairs.scores import read_scores

INVERSION = ({"use": "inversion", "guidance": None, "inversion_guidance": 1.0, "version": "1"},)
NEARBY = ({"use": "best_nearby", "n": 4, "angle": 0.25, "chooser": "taste", "version": "1", "judge_digest": "1"},)


def printed(*folders: Path, **given: Any) -> list[str]:
    lines: list[str] = []
    gains.run(folders, say=lines.append, **given)
    return "\n".join(lines).splitlines()


def scored(seed: int, gain: float) -> dict[str, list[tuple[float, float]]]:
    """48 pairs with scores by two scorers, whose targets are better by `gain` on average."""
    rng = np.random.default_rng(seed)
    source = rng.standard_normal((48, 2))
    target = source + gain + rng.standard_normal((48, 2))
    return {name: list(zip(source[:, i].tolist(), target[:, i].tolist(), strict=True)) for i, name in enumerate("ab")}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Re-denoise sampling at 21 calls a pair, and four tries nearby at 40."""
    collection(tmp_path / "inversion", scores=scored(0, 0.0), teacher=INVERSION, calls=21)
    collection(tmp_path / "nearby", scores=scored(1, 1.0), teacher=NEARBY, calls=40)
    return tmp_path / "inversion", tmp_path / "nearby"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_row_has_the_pairs_that_the_calls_buy_and_their_own_gain(two: tuple[Path, Path]) -> None:
    lines = printed(*two, calls=840)
    assert cells(lines[0]) == ["teacher", "calls a pair", "pairs", "a", "b"]
    for line, folder, n, name in zip(lines[2:4], two, (40, 21), ("inversion", "best_nearby"), strict=True):
        row = cells(line)
        assert row[0].startswith(name)
        assert row[1:3] == [str(840 // n), str(n)]
        read = read_scores(folder)
        for cell, metric in zip(row[3:], "ab", strict=True):
            source, target = read.values[metric][:n].T
            interval = stats.paired_delta(target, source, read.prompts[:n])
            assert cell == (
                f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}], "
                f"{100 * (target > source).mean():.1f} %"
            )
    assert "840 denoiser calls each." in lines[-1]


def test_without_a_number_each_spends_what_the_cheapest_collection_cost(two: tuple[Path, Path]) -> None:
    lines = printed(*two)
    assert [cells(line)[2] for line in lines[2:4]] == ["48", str(48 * 21 // 40)]


def test_the_metric_that_a_teacher_goes_by_is_marked(tmp_path: Path) -> None:
    collection(tmp_path / "near", teacher=NEARBY, calls=40)
    collection(tmp_path / "climb", teacher=({"use": "ascent", "metric": "taste", "version": "1"},), calls=50)
    collection(tmp_path / "plain", teacher=INVERSION, calls=21)
    marked = [
        cells(line)[3].endswith("†") for line in printed(*(tmp_path / n for n in ("near", "climb", "plain")))[2:5]
    ]
    assert marked == [True, True, False]


def test_a_teacher_is_described_by_what_is_not_its_default() -> None:
    assert described(INVERSION) == "inversion"
    assert described(NEARBY) == "best_nearby (angle 0.25)"
    assert described([*INVERSION, {"use": "best_of_n", "n": 2, "chooser": "x"}]) == "inversion + best_of_n (n 2)"
    assert described([{"use": "not_installed", "n": 2}]) == "not_installed"


def test_middling_captions_are_found_by_their_other_pairs(tmp_path: Path) -> None:
    """Prompt 0 of three: sources 0, 1, 1; without itself each has a mean of 1, 0.5, 0.5. Single prompts never count."""
    prompts = [*(PROMPTS[0],) * 3, *(PROMPTS[1],) * 2, PROMPTS[2]]
    sources = [0.0, 1.0, 1.0, 0.0, 0.0, 0.5]
    collection(
        tmp_path / "c",
        scores={"taste": [(s, s + 0.1 * i) for i, s in enumerate(sources)]},
        prompts=prompts,
        pairs=6,
        chunk=6,
        calls=10,
    )
    scores = read_scores(tmp_path / "c")
    assert Middling("taste", 0.25, 0.75).of(scores).tolist() == [False, True, True, False, False, False]
    assert Middling("taste", 0, 1).of(scores).tolist() == [True] * 5 + [False]
    row = cells(printed(tmp_path / "c", middling=Middling("taste", 0.25, 0.75))[2])
    assert row[2] == "2"
    assert row[3].startswith("+0.150 ")


def test_pairs_that_are_not_finite_count_in_nothing(tmp_path: Path) -> None:
    scores = {"taste": [(0.0, float("nan") if i == 0 else 1.0) for i in range(48)]}
    collection(tmp_path / "c", scores=scores, broken={1: float("inf")}, calls=10)
    assert cells(printed(tmp_path / "c")[2])[3] == "+1.000 [+0.723, +1.000], 100.0 %"


def test_a_teachers_name_breaks_no_table(tmp_path: Path) -> None:
    collection(tmp_path / "c", teacher=({"use": "a|b"},), calls=10)
    assert r"| a\|b |" in printed(tmp_path / "c")[2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 5}, r"steps is 4 there and 5 here"),
        ({"guidance": 2.0}, r"guidance is 5.0 there and 2.0 here"),
        ({"digest": "2"}, r"'taste' is by different scorers \(1 in .*one, 2 in .*two\); run npnet score"),
    ],
)
def test_other_settings_and_other_scorers_are_not_compared(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    collection(tmp_path / "one", calls=21)
    collection(tmp_path / "two", calls=21, **change)
    with pytest.raises(NotComparable, match=said):
        printed(tmp_path / "one", tmp_path / "two")


def test_what_cannot_be_answered_is_one_line(two: tuple[Path, Path], tmp_path: Path) -> None:
    collection(tmp_path / "free")
    for given, said in (
        ({"calls": 2000}, "its pairs cost 1008 denoiser calls, and 2000 are asked for; collect more, or give --calls"),
        ({"calls": 30}, "30 denoiser calls buy no pair of 40; give more --calls"),
        ({"metrics": ["aa"]}, "no scores by 'aa' in every collection"),
        ({"middling": Middling("taste", 0, 1)}, "no scores by 'taste' there"),
    ):
        with pytest.raises(UserError, match=re.escape(said)) as told_of:
            printed(*two, **given)
        assert "\n" not in str(told_of.value)
    with pytest.raises(UserError, match="its shards do not say what they cost"):
        printed(tmp_path / "free")
    collection(tmp_path / "other", scores={"c": [(0.0, 1.0)] * 48}, calls=21)
    with pytest.raises(UserError, match="no scores in common"):
        printed(two[0], tmp_path / "other")


def test_the_command_prints_the_table_without_torch(two: tuple[Path, Path]) -> None:
    code = "import sys; from npnet.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    given = ["teachers", *map(str, two), "--calls", "840", "--metric", "a", "--middling", "b:-9:9"]
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert cells(done.stdout.splitlines()[0]) == ["teacher", "calls a pair", "pairs", "a"]


@pytest.mark.parametrize(
    ("option", "value"), [("--middling", "a:1"), ("--middling", "a:x:1"), ("--calls", "0"), ("--calls", "nan")]
)
def test_a_slip_in_an_option_is_reported(two: tuple[Path, Path], option: str, value: str, capsys: Any) -> None:
    from npnet.cli import main

    with pytest.raises(SystemExit):
        main(["teachers", str(two[0]), option, value])
    assert "expected" in capsys.readouterr().err
