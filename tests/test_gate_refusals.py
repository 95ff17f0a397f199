"""Gates on the command line: what cannot be judged ends with a reason and its exit code."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Run
from gated_runs import frozen as frozen
from gated_runs import gated as gated
from kept_models import kept_models as kept_models

from bench.errors import BenchError, UserError
from bench.store import Ledger


def changed(path: Path, to: Path, **fields: Any) -> Path:
    """A baseline file with other fields."""
    to.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return to


# What cannot be judged ------------------------------------------------------------------------------------------------


def test_an_unfinished_run_is_not_comparable_and_not_frozen(bench: Bench, gated: Run, frozen: Path) -> None:
    bench(*gated.arguments())
    ledger = Ledger(gated.folder)
    ledger.db.execute("DELETE FROM images WHERE job_id = (SELECT job_id FROM cells WHERE method = 'inversion' LIMIT 1)")
    ledger.close()
    done = bench("gate", gated.folder)
    assert done.code == 3
    assert (
        "not comparable: inversion on shapes-clipscore, shapes-sdxl (ddim, 4 steps, g 5.0): incomplete, n = 3"
        in done.out
    )
    done = bench("gate", gated.folder, "--baseline", frozen, "--verbose")
    assert done.code == 3
    assert "incomplete, 1 of 4 scores are missing now" in done.out
    done = bench("baseline", "freeze", gated.folder)
    assert done.code == 3
    assert "nothing to freeze: inversion has 3 of 4 images" in done.error


def test_an_empty_run_is_not_comparable_and_not_frozen(bench: Bench, gated: Run, frozen: Path) -> None:
    bench(*gated.arguments())
    ledger = Ledger(gated.folder)
    ledger.db.execute("DELETE FROM images")
    ledger.close()
    for arguments in (["gate", gated.folder], ["gate", gated.folder, "--baseline", frozen]):
        done = bench(*arguments)
        assert done.code == 3, done.err
        assert "\nok: " not in "\n" + done.out
    done = bench("baseline", "freeze", gated.folder)
    assert done.code == 3
    assert "the run has no images yet" in done.error


def test_a_run_that_never_began_and_one_of_a_newer_program(bench: Bench, finished: Run, tmp_path: Path) -> None:
    Ledger(tmp_path / "early", create=True).close()
    copy = finished.copy(tmp_path)
    ledger = Ledger(copy.folder)
    ledger.set("schema", 99)
    ledger.close()
    for command in (["gate"], ["baseline", "freeze"]):
        done = bench(*command, tmp_path / "early")
        assert done.code == 2
        assert "early" in done.error
        done = bench(*command, copy.folder)
        assert done.code == 2
        assert "written by a newer version (ledger schema 99" in done.error


def test_a_run_whose_images_were_deleted_is_judged_by_its_scores(bench: Bench, gated: Run, frozen: Path) -> None:
    bench(*gated.arguments())
    shutil.rmtree(gated.folder / "images")
    done = bench("gate", gated.folder, "--baseline", frozen)
    assert done.code == 0, done.out + done.err


def test_a_rule_on_a_metric_that_was_not_measured_is_not_comparable(bench: Bench, gated: Run) -> None:
    """The suite had the metric when its gates were written, and its scores are gone."""
    bench(*gated.arguments())
    ledger = Ledger(gated.folder)
    ledger.db.execute("DELETE FROM scores WHERE metric = 'shapes-clipscore'")
    ledger.close()
    done = bench("gate", gated.folder)
    assert done.code == 3
    assert "not comparable: inversion on shapes-clipscore" in done.out


def test_a_baseline_of_another_suite_or_schema(bench: Bench, finished: Run, frozen: Path, tmp_path: Path) -> None:
    suite = json.loads(frozen.read_text())["suite"]
    other = tmp_path / "other.json"
    for fields, code, said in (
        ({"suite": {**suite, "name": "other"}}, 3, "the run has suite 'tiny', the frozen baseline 'other'"),
        ({"suite": {**suite, "id": "0123456789"}, "protocol": {"seeds": [1]}}, 3, "they differ in"),
        ({"schema": 1}, 3, "an older baseline (schema 1) without scores of each sample; freeze it again"),
        ({"schema": 99}, 2, "written by a newer version"),
        ({"arms": "none"}, 2, "not a readable baseline (another form"),
    ):
        done = bench("gate", finished.folder, "--baseline", changed(frozen, other, **fields))
        assert done.code == code
        assert said in done.error
    other.write_text(frozen.read_text()[:-100])
    done = bench("gate", finished.folder, "--baseline", other)
    assert done.code == 2
    assert "not a readable baseline" in done.error


def test_a_mistake_is_reported_before_the_run_rather_than_after(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    for options, said in (
        (["--gate", "--baseline", tmp_path / "none.json"], "no such baseline"),
        (["--gate", "--tolerance", "x"], "--tolerance x: expected a number"),
        (["--junit", tmp_path / "j.xml"], "--junit: nothing is judged without --gate or --baseline FILE"),
        (["--tolerance", "0.1"], "--tolerance: nothing is judged without"),
        (["--gate", "--tolerance", "0.1"], "--tolerance: only a baseline reads it; give --baseline FILE"),
        (["--gate", "--require", "shown"], "or write `require: shown` in the suite's rule"),
        (["--require", "shown"], "--require: only a baseline reads it; give --baseline FILE"),
        (["--inconclusive", "fail"], "--inconclusive: nothing is judged without --gate or --baseline FILE"),
    ):
        done = bench("run", tiny, "--runs", tmp_path / "runs", *options)
        assert done.code == 2
        assert said in done.error
    assert not (tmp_path / "runs").exists()


def test_an_option_that_only_a_baseline_reads_is_a_mistake_without_one(bench: Bench, gated: Run) -> None:
    bench(*gated.arguments())
    for options, said in (
        (["--tolerance", "0.1"], "--tolerance: only a baseline reads it; give --baseline FILE, or leave it out"),
        (
            ["--require", "shown"],
            "--require: only a baseline reads it; give --baseline FILE, or write `require: shown`",
        ),
        (["--two-sided"], "--two-sided: only a baseline reads it; give --baseline FILE, or write `two_sided: true`"),
    ):
        done = bench("gate", gated.folder, *options)
        assert done.code == 2, options
        assert said in done.error


def test_a_form_that_cannot_be_written_does_not_cost_the_others(
    bench: Bench, finished: Run, frozen: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    json_file = tmp_path / "gate.json"
    junit = tmp_path / "file" / "gate.xml"
    done = bench("gate", finished.folder, "--baseline", frozen, "--junit", junit, "--json", json_file)
    assert done.code == 2
    assert "gate.xml: cannot be written" in done.error
    assert json.loads(json_file.read_text())["outcome"] == "passed"


def test_an_inconclusive_rule_fails_where_that_is_asked_for(bench: Bench, gated: Run) -> None:
    bench(*gated.arguments())
    codes = [bench("gate", gated.folder, "--inconclusive", what).code for what in ("pass", "fail")]
    assert codes == [0, 1]


@pytest.mark.usefixtures("kept_models")
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("the checkpoint is damaged"), 2, "the checkpoint is damaged"),
        (BenchError("the scorer answered nothing"), 4, "the scorer answered nothing"),
        (ZeroDivisionError("division by zero"), 4, "ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_fault_of_the_run_writes_the_forms_with_its_reason_and_keeps_its_exit_code(
    bench: Bench,
    gated: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise error

    files = {name: tmp_path / f"g.{name}" for name in ("json", "junit", "markdown")}
    for path in files.values():
        path.write_text("of a run before, which passed")
    monkeypatch.setattr("bench.runner.score.score", broken)
    forms = [part for name, path in files.items() for part in (f"--{name}", path)]
    few = ("--no-cache", "--runs", tmp_path / "new", "--limit", 1, "--method", "inversion")
    done = bench(*gated.arguments("--gate", *few, *forms))
    assert done.code == code, done.err
    report = json.loads(files["json"].read_text())
    assert (report["exit_code"], report["outcome"], report["verdicts"][0]["sentence"]) == (code, "not comparable", said)
    root = ET.fromstring(files["junit"].read_bytes())
    assert (root.get("errors"), str(root.findall(".//error")[0].get("message"))) == ("1", said)
    assert said in files["markdown"].read_text()


def test_a_suite_that_cannot_be_read_writes_the_forms_too(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("models: [none]")
    done = bench("run", tmp_path / "s.yaml", "--gate", "--json", tmp_path / "g.json")
    assert done.code == 2
    assert (
        done.error.removeprefix("error: ") == json.loads((tmp_path / "g.json").read_text())["verdicts"][0]["sentence"]
    )


def test_a_form_that_cannot_be_written_does_not_hide_a_fault(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = bench("gate", tmp_path / "none", "--json", tmp_path / "file" / "g.json")
    assert done.code == 2
    assert "none" in done.error
    assert "note: " in done.err
    assert "cannot be written" in done.err


def test_a_suite_without_gates_is_not_comparable(bench: Bench, finished: Run) -> None:
    done = bench("gate", finished.folder)
    assert done.code == 3
    assert "its suite has no gates; add some, or give --baseline FILE" in done.error


def test_run_gate_without_gates_is_no_pass(bench: Bench, finished: Run, tmp_path: Path) -> None:
    done = bench(*finished.copy(tmp_path).arguments("--gate"))
    assert done.code == 3
    assert done.out.splitlines()[-1] == "gate: not comparable (0 passed, 0 not comparable, 0 failed)"
