"""results.json that was edited by hand: rows that name what is not in it get one line, not a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import records
from bench.errors import UserError

NOW = Path(__file__).parent / "data" / "results" / "version_2.json"


def a_pair_of_no_setting(found: dict[str, Any]) -> None:
    found["pairs"][0]["setting"] = 9


def a_pair_of_no_run(found: dict[str, Any]) -> None:
    found["pairs"][0]["runs"] = dict.fromkeys(found["pairs"][0]["runs"], 9)


def a_score_of_no_metric(found: dict[str, Any]) -> None:
    next(iter(found["pairs"][0]["scores"].values()))["fancy"] = 1.0


def a_score_of_no_image(found: dict[str, Any]) -> None:
    found["pairs"][0]["scores"]["ghost"] = {}


def a_comparison_of_no_metric(found: dict[str, Any]) -> None:
    found["comparisons"][0]["metric"] = "fancy"


def an_arm_that_lacks_a_metric(found: dict[str, Any]) -> None:
    del found["arms"][0]["metrics"][next(iter(found["metrics"]))]


def a_metric_of_no_arm(found: dict[str, Any]) -> None:
    found["metrics"]["fancy"] = next(iter(found["metrics"].values()))


def no_run(found: dict[str, Any]) -> None:
    found["runs"], found["pairs"], found["failed"] = [], [], []


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (a_pair_of_no_setting, "pairs.0.setting: 9 of "),
        (a_pair_of_no_run, "pairs.0.runs: 9 of "),
        (a_score_of_no_metric, "pairs.0.scores: 'fancy' is not in `metrics`"),
        (a_score_of_no_image, "pairs.0.scores: 'ghost' is not in its `images` and `runs`"),
        (a_comparison_of_no_metric, "comparisons.0.metric: 'fancy' is not in `metrics`"),
        (an_arm_that_lacks_a_metric, "arms.0.metrics: "),
        (a_metric_of_no_arm, "arms.0.metrics: 'fancy' is not in both of this row and `metrics`"),
        (no_run, "runs: names no run"),
    ],
)
def test_a_row_that_names_what_is_not_there_gets_one_line(
    edit: Callable[[dict[str, Any]], None], said: str, tmp_path: Path
) -> None:
    found = json.loads(NOW.read_text())
    edit(found)
    file = tmp_path / "results.json"
    file.write_text(json.dumps(found))
    with pytest.raises(UserError) as error:
        records.read(file)
    assert f"{file}: damaged or edited by hand ({said}" in str(error.value)
    assert "`bench report RUN` writes it again" in str(error.value)
    assert "\n" not in str(error.value)
