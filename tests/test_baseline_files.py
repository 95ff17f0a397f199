"""The file of a frozen baseline: what it keeps, which versions open, and what is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from frozen_worlds import CASE, drawn
from frozen_worlds import world as world
from perf.simulated_runs import METRIC, Case, World, register, write_run

from bench import gate
from bench.analysis.results import compute
from bench.errors import BenchError, NotComparable, UserError
from bench.gate import Samples

SCHEMA = json.loads((Path(gate.__file__).parents[1] / "schemas" / "baseline.schema.json").read_text())


# What is kept ---------------------------------------------------------------------------------------------------------


def test_a_baseline_keeps_to_its_schema_and_comes_back_as_written(world: World, tmp_path: Path) -> None:
    frozen = gate.freeze(*world.run(drawn(0)))
    content, path = frozen.document(), tmp_path / "frozen.json"
    path.write_text(gate.dump(frozen))
    assert json.loads(path.read_text()) == content
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(path.read_text()))
    assert gate.load(path) == frozen
    del content["arms"][0]["jobs"]
    with pytest.raises(jsonschema.ValidationError, match="'jobs' is a required property"):
        jsonschema.Draft202012Validator(SCHEMA).validate(content)


def test_scores_are_in_the_order_of_set_index_and_seed_with_six_digits(tmp_path: Path) -> None:
    register()
    case = Case("", 3, (1, 2), CASE.draw)
    scores = {"standard": np.arange(4) / 3, "method": np.full(4, 1e-9)}
    ledger = write_run(tmp_path, case, scores)
    frozen = gate.freeze(compute(ledger), Samples.read(ledger))
    assert frozen.pairs["captions"].n == 4
    assert frozen.arms[0].scores[METRIC] == (0.0, 0.333333, 0.666667, 1.0)
    assert frozen.arms[1].scores[METRIC] == (1e-9,) * 4
    assert [arm.method for arm in frozen.arms] == ["standard", "method"]
    assert "caption" not in json.dumps(frozen.document()["pairs"]).replace("captions", ""), (
        "prompts are kept as a digest"
    )


def test_freezing_twice_writes_the_same_bytes(world: World) -> None:
    assert gate.dump(gate.freeze(*world.run(drawn(0)))) == gate.dump(gate.freeze(*world.run(drawn(0))))


def test_every_array_has_its_line(world: World) -> None:
    lines = gate.dump(gate.freeze(*world.run(drawn(0)))).splitlines()
    assert len([line for line in lines if line.lstrip().startswith(f'"{METRIC}": [')]) == 2
    assert max(len(line) for line in lines) < 100 * 20


def test_an_unfinished_run_is_not_frozen(tmp_path: Path) -> None:
    register()
    ledger = write_run(tmp_path / "part", CASE, drawn(0))
    with ledger.transaction():
        ledger.db.execute("DELETE FROM images WHERE job_id = 'method-7-0'")
    with pytest.raises(NotComparable, match="nothing to freeze: method has 99 of 100 images"):
        gate.freeze(compute(ledger), Samples.read(ledger))
    with ledger.transaction():
        ledger.db.execute("DELETE FROM images")
    with pytest.raises(NotComparable, match="nothing to freeze: the run has no images yet"):
        gate.freeze(compute(ledger), Samples.read(ledger))


# Files ----------------------------------------------------------------------------------------------------------------


def harmed(content: dict[str, Any], *path: Any, value: Any) -> str:
    """The file's text with one value changed."""
    inner: Any = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(content)


OLD = Path(__file__).parent / "data" / "baselines"
"""Baselines as each version wrote them, cut to two methods and three pairs: of schema 1, of 2 with its first fields,
and of 2 as it is."""


@pytest.mark.parametrize("name", ["version_2_first.json", "version_2.json"])
def test_a_baseline_of_every_version_with_scores_opens_with_its_numbers(name: str, tmp_path: Path) -> None:
    frozen, old = gate.load(OLD / name), json.loads((OLD / name).read_text())
    for arm, before in zip(frozen.arms, old["arms"], strict=True):
        assert {metric: list(values) for metric, values in arm.scores.items()} == before["scores"]
        assert {metric: one.mean for metric, one in arm.metrics.items()} == {
            metric: one["mean"] for metric, one in before["metrics"].items()
        }
        assert (arm.jobs, arm.cost.sampling_ms) == (before["jobs"], before["cost"]["sampling_ms"])
    assert [row.delta for row in frozen.comparisons] == [row["delta"] for row in old["comparisons"]]
    (tmp_path / name).write_text(gate.dump(frozen))
    assert gate.load(tmp_path / name) == frozen


def test_the_first_baselines_of_version_2_lack_what_it_gained_since() -> None:
    frozen = gate.load(OLD / "version_2_first.json")
    assert frozen.tolerance == {}
    assert {metric.kind for metric in frozen.metrics.values()} == {"image"}
    assert {pairs.keys for pairs in frozen.pairs.values()} == {None}
    assert {(arm.images, arm.cost.select_ms) for arm in frozen.arms} == {(None, None)}


def test_a_baseline_of_version_1_has_no_scores_and_that_is_said() -> None:
    with pytest.raises(NotComparable, match=r"an older baseline \(schema 1\) without scores of each sample; freeze it"):
        gate.load(OLD / "version_1.json")


def test_committed_baselines_are_read_and_written_byte_for_byte() -> None:
    for file in (Path(gate.__file__).parents[2] / "baselines").glob("*.json"):
        assert gate.dump(gate.load(file)) == file.read_text()


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda c: json.dumps(c)[:2000], UserError, "not a readable baseline"),
        (lambda c: "", UserError, "not a readable baseline"),
        (lambda c: "\x00\xff", UserError, "not a readable baseline"),
        (lambda c: "[" * 100_000, UserError, "not a readable baseline"),
        (lambda c: "[1, 2]", UserError, "not a baseline; expected a file written by `baseline freeze`"),
        (lambda c: json.dumps({"schema": 2, "arms": []}), UserError, "not a baseline; expected"),
        (lambda c: harmed(c, "kind", value="noisebench gate"), UserError, "a 'noisebench gate' file, not a baseline"),
        (lambda c: harmed(c, "schema", value=1), NotComparable, r"an older baseline \(schema 1\).*freeze it again"),
        (lambda c: json.dumps({"schema": 1, "suite_id": "ab"}), NotComparable, "an older baseline"),
        (lambda c: harmed(c, "schema", value=4), UserError, r"newer version \(baseline schema 4, read up to 3\)"),
        (lambda c: harmed(c, "schema", value="2"), UserError, "not a baseline"),
        (lambda c: harmed(c, "arms", value=[]), UserError, "arms: "),
        (lambda c: harmed(c, "arms", 0, "steps", value="20"), UserError, "arms.0.steps: "),
        (lambda c: harmed(c, "arms", 0, "scores", METRIC, value="high"), UserError, f"arms.0.scores.{METRIC}: "),
        (lambda c: harmed(c, "arms", 0, "scores", METRIC, 5, value="1"), UserError, "arms.0.scores"),
        (lambda c: harmed(c, "arms", 0, "scores", METRIC, value=[1.0]), UserError,
         "standard has 1 scores of simulated, expected 100"),
        (lambda c: harmed(c, "arms", 0, "scores", METRIC, 5, value=float("nan")), UserError, "finite number"),
        (lambda c: harmed(c, "pairs", "captions", "n", value=99), UserError, "expected 99"),
        (lambda c: harmed(c, "surprise", value=1), UserError, "surprise: "),
    ],
)  # fmt: skip
def test_a_file_that_is_no_baseline_is_one_clear_line(
    world: World, tmp_path: Path, change: Callable[[dict[str, Any]], str], kind: type[BenchError], said: str
) -> None:
    path = tmp_path / "frozen.json"
    path.write_text(change(gate.freeze(*world.run(drawn(0))).document()), encoding="latin-1")
    with pytest.raises(kind, match=said) as raised:
        gate.load(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: no such baseline; freeze a run: python -m bench baseline"):
        gate.load(tmp_path / "none.json")
    with pytest.raises(UserError, match="not a readable baseline"):
        gate.load(tmp_path)
