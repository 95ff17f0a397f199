"""The records of results.json: files of every version open, a damaged one gets one line, and the schema is theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from pydantic import BaseModel, ValidationError

from bench import provenance, records
from bench.errors import UserError
from bench.job.resuming import Kept
from bench.records import baseline, baseline_upgrades, load, two_runs, upgrades
from bench.records import json_schema as schemas
from bench.store import Ledger

ROOT = Path(__file__).parents[1]
OLD = Path(__file__).parent / "data" / "results"
"""Rows of files as each version wrote them: of schema 1, of 2 with its first fields, and of 2 as it is."""
NOW = OLD / "version_2.json"


def written(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OLD / name).read_text())
    return found


# Versions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["version_1.json", "version_2_first.json", "version_2.json", "version_3.json"])
def test_a_file_of_every_version_opens_with_its_numbers_and_comes_back_from_a_file_as_it_is(name: str) -> None:
    found, old = records.read(OLD / name), written(name)
    assert found.schema_version == records.SCHEMA
    for kind in ("arms", "comparisons", "tasks", "controls", "pairs"):
        for before, after in zip(old[kind], found.document()[kind], strict=True):
            for key in before.keys() - {"cost", "metrics"}:
                assert after[key] == before[key], f"{kind}: {key}"
    for before, arm in zip(old["arms"], found.arms, strict=True):
        assert {name: one.mean for name, one in arm.metrics.items()} == {
            name: one["mean"] for name, one in before["metrics"].items()
        }
        assert arm.cost.sampling_ms == before["cost"]["sampling_ms"]
    assert load.parse(found.text().encode(), "results.json") == found


def test_version_1_had_one_run_no_ratios_and_pairs_of_its_first_setting() -> None:
    found, old = records.read(OLD / "version_1.json"), written("version_1.json")
    assert [(run.folder, run.path, run.id) for run in found.runs] == [(old["run"]["folder"], ".", old["suite"]["id"])]
    assert found.run == found.runs[0].summary()
    assert {setting.model for setting in found.settings} == {arm["model"] for arm in old["arms"]}
    assert all(getattr(arm.cost.ratios, name) is None for arm in found.arms for name in records.Ratios.model_fields)
    assert found.pairs_total == len(old["pairs"])
    assert {(pair.setting, *pair.runs.values()) for pair in found.pairs} == {(0, 0, 0, 0)}
    assert (found.seeds, found.categories, found.equal_compute, found.failed) == ((), (), (), ())
    assert {(row.sd, row.win_strict, row.sibling) for row in found.comparisons} == {(None, None, False)}


def test_the_first_files_of_version_2_lack_what_it_gained_since() -> None:
    found = records.read(OLD / "version_2_first.json")
    assert (found.suite.headline, found.suite.controls, found.failed) == (None, (), ())
    assert {arm.siblings for arm in found.arms} == {()}
    assert {metric.bounds for metric in found.metrics.values()} == {None}
    assert {row.win_strict_low for row in (*found.comparisons, *found.categories)} == {None}
    assert not any(one.sibling for row in found.equal_compute for one in row.metrics.values())
    assert any(row.metrics for row in found.equal_compute)


def test_the_example_that_reports_are_tested_on_is_a_file_of_this_version() -> None:
    assert len(records.read(OLD.parent / "results_example.json").arms) == 21


@pytest.mark.parametrize("file", sorted(ROOT.glob("reports/*/results.json")), ids=lambda file: file.parent.name)
def test_committed_results_are_read_and_written_byte_for_byte(file: Path) -> None:
    assert records.read(file).text() == file.read_text()


def test_a_changed_format_has_a_new_version_and_an_upgrade() -> None:
    assert schemas.digest() == upgrades.FORMATS[records.SCHEMA], "the format changed: see bench/records/upgrades.py"
    assert sorted(upgrades.UPDATES) == list(range(2, records.SCHEMA + 1))
    said = "the format changed: see bench/records/baseline_upgrades.py"
    assert schemas.digest(baseline.Frozen) == baseline_upgrades.FORMATS[baseline_upgrades.SCHEMA], said
    assert schemas.digest(two_runs.TwoRuns) == two_runs.FORMATS[two_runs.SCHEMA], "the format changed: a new SCHEMA"


@pytest.mark.parametrize("file", schemas.FILES, ids=lambda file: file.name)
def test_the_committed_schemas_are_those_of_the_records(file: Path) -> None:
    assert file.read_text() == schemas.text(schemas.FILES[file]), "run `python -m bench.records`"


def test_words_may_change_within_a_version_and_names_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, digest = schemas.schema(), schemas.digest()

    def changed(edit: Callable[[dict[str, Any]], Any]) -> str:
        found = json.loads(json.dumps(whole))
        edit(found["$defs"]["MetricRow"]["properties"])
        monkeypatch.setattr(schemas, "schema", lambda of: found)
        return schemas.digest()

    assert changed(lambda fields: fields["title"].update(description="another")) == digest
    assert changed(lambda fields: fields.pop("title")) != digest
    assert changed(lambda fields: fields["unit"].update(type="number")) != digest


# What a file may not be ----------------------------------------------------------------------------------------------


def edited(change: Callable[[dict[str, Any]], Any]) -> bytes:
    found = written(NOW.name)
    change(found)
    return json.dumps(found).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b'{"schema": 2,\n', ":2: not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no results"),
        (b'{"schema": 2}', "no results"),
        (b'{"schema": true, "suite": {}}', "no results"),
        (b'{"schema": 0, "suite": {}}', "no results"),
        (b'{"schema": 5, "suite": {}}', "newer version (results schema 5, this one reads up to 4); upgrade"),
        (b'{"schema": 1, "suite": {}}', "edited by hand (lacks 'run')"),
        (b'{"schema": 2, "suite": [], "controls": []}', "edited by hand"),
        (edited(lambda r: r["comparisons"][1].update(delta="0.3")), "comparisons.1.delta"),
        (edited(lambda r: r["comparisons"][1].update(complete=1)), "comparisons.1.complete"),
        (edited(lambda r: r["comparisons"][1].update(n=-1)), "comparisons.1.n"),
        (edited(lambda r: r["comparisons"][1].update(delta=float("nan"))), "comparisons.1.delta"),
        (edited(lambda r: r["comparisons"][1].pop("p")), "comparisons.1.p: field required"),
        (edited(lambda r: r["comparisons"][1].update(verdict="good")), "comparisons.1.verdict"),
        (edited(lambda r: r["arms"][0].pop("cost")), "lacks 'cost'"),
        (edited(lambda r: r["arms"].append(None)), "edited by hand"),
        (edited(lambda r: r.update(verdicts=[])), "(verdicts: "),
    ],
)
def test_a_file_that_is_no_results_gets_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "results.json"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        records.read(tmp_path)
    line = str(error.value)
    assert line.startswith(str(file))
    assert said in line
    assert "\n" not in line
    assert "upgrade" in line or "`bench report RUN` writes it again" in line


def test_a_file_that_is_not_there_gets_one_line(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "results.json"):
        with pytest.raises(UserError, match=r"results.json: no such file; expected results.json of a run folder"):
            records.read(place)


# Records -------------------------------------------------------------------------------------------------------------


def kinds() -> list[type[BaseModel]]:
    listed = [one for name in records.__all__ if isinstance(one := getattr(records, name), type)]
    own = [one for module in (baseline, two_runs) for one in vars(module).values() if isinstance(one, type)]
    return [*listed, *(one for one in own if issubclass(one, records.Record))]


def test_every_field_of_every_record_is_described() -> None:
    assert len(kinds()) > 25
    lacking = [f"{one.__name__}.{n}" for one in kinds() for n, f in one.model_fields.items() if not f.description]
    assert lacking == []


def test_a_name_that_a_record_does_not_have_is_refused_when_written_and_when_read() -> None:
    with pytest.raises(ValidationError, match="verdict"):
        records.Reference(method="standard", steps=4, calls=8.0, verdict="good")  # type: ignore[call-arg]
    row = records.Reference(method="standard", steps=4, calls=8.0)
    with pytest.raises(AttributeError):
        row.verdict  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ValidationError, match="frozen"):
        row.steps = 5  # type: ignore[misc]


def test_nothing_that_a_session_says_is_left_out(finished: Run) -> None:
    (row,) = Ledger(finished.folder, read_only=True).db.execute("SELECT provenance, stages FROM sessions").fetchall()
    run = records.read(finished.folder).document()["run"]
    assert run["provenance"].pop("batch_sizes") == [50], "of all sessions, so that none of them has it"
    assert run["provenance"] == json.loads(row[0])
    assert run["stages"] == json.loads(row[1])
    of_one = {*provenance.collect("cpu", {}, {"loop": {}}), "kept_images"}
    assert of_one | {"batch_sizes"} == {*records.Provenance.model_fields}
    assert {*Kept(1, 2, (), (), {}).record()} == {*records.KeptImages.model_fields, "under"}
