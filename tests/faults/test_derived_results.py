"""results.json is made from the ledger: one that was edited, emptied or lost is made again, and never believed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Bench, Run
from facts import missing


def edited(file: Path) -> None:
    """A delta that was not measured, in a file that is whole otherwise."""
    text = file.read_text()
    changed = re.sub(r'"delta": -?[\d.e-]+', '"delta": 777.25', text)
    assert changed != text
    file.write_text(changed)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def lost(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_text(file.read_text()[:1000])


@pytest.mark.parametrize("damage", [edited, emptied, cut, lost])
def test_a_finished_run_that_is_run_again_makes_them_again(
    bench: Bench, finished: Run, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    run = finished.copy(tmp_path)
    file = run.folder / "results.json"
    before = run.results()["comparisons"]
    damage(file)
    done = bench(*run.arguments())
    assert done.code == 0, done.err
    assert "777" not in done.out
    if damage is not lost:
        assert f"note: {file} is not what was written; made again from the ledger" in done.err
        assert "nothing to do" in done.err
    assert run.results()["comparisons"] == before
    assert "note:" not in bench(*run.arguments()).err


def test_a_run_from_before_there_were_digests_makes_its_results_again(
    bench: Bench, finished: Run, tmp_path: Path
) -> None:
    run = finished.copy(tmp_path)
    (run.folder / "SHA256SUMS").unlink()
    edited(run.folder / "results.json")
    done = bench(*run.arguments())
    assert done.code == 0, done.err
    assert "777.25" not in json.dumps(run.results())
    names = {line.split("  ")[1] for line in (run.folder / "SHA256SUMS").read_text().splitlines()}
    assert "results.json" in names


def test_verify_says_that_they_were_edited_and_what_writes_them_again(
    bench: Bench, finished: Run, tmp_path: Path
) -> None:
    run = finished.copy(tmp_path)
    edited(run.folder / "results.json")
    done = bench("verify", run.folder)
    assert done.code == 2
    assert missing(done.out, "results.json: not what was written", f"`python -m bench report {run.folder}`") == []
    assert bench("report", run.folder).code == 0
    assert bench("verify", run.folder).code == 0
