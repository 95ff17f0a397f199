"""What becomes of a run's images where code, weights or precision are no longer those that they were made with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import LIMIT, Run

from bench import registry, suite
from bench.errors import UserError
from bench.job import resuming
from bench.runner.plan import Plan, make_plan
from bench.store import Ledger


def planned(run: Run, *, dtype: str = "fp32", folder: Path | None = None) -> Plan:
    """The plan of a run as other code has it: under other job ids; `folder`: with other weights of its model."""
    entry = registry.get("models", "shapes-sdxl")
    entry = entry if folder is None else replace(entry, source=str(folder))
    with registry.configured("models", {"shapes-sdxl": entry}):
        plan = make_plan(suite.load(run.suite, limit=LIMIT), dtype=dtype)
    jobs = {job.id: replace(job, code="other") for job in plan.jobs.values()}
    ids = {before: job.id for before, job in jobs.items()}
    cells = [replace(cell, job_id=ids.get(cell.job_id, cell.job_id)) for cell in plan.cells]
    return replace(plan, cells=cells, jobs={job.id: job for job in jobs.values()})


@pytest.fixture
def ledger(finished: Run, tmp_path: Path) -> Ledger:
    """A finished run whose loop has changed since."""
    found = Ledger(finished.copy(tmp_path).folder)
    found.set("code", {**found.get("code"), "loop": "0" * 16})
    return found


def decided(ledger: Ledger, plan: Plan, how: resuming.OtherCode) -> Plan:
    return resuming.decided(plan, ledger, resuming.codes(plan), how)


def test_a_run_records_precision_and_weights(finished: Run, tmp_path: Path) -> None:
    recorded = Ledger(finished.copy(tmp_path).folder).get("made_with")
    assert recorded["precision of model shapes-sdxl"] == "fp32"
    assert recorded["weights of model shapes-sdxl"] == registry.get("models", "shapes-sdxl").digest()
    assert {"weights of method inversion", "weights of chooser shapes-geneval"} <= {*recorded}


def test_other_code_alone_can_be_kept(finished: Run, ledger: Ledger) -> None:
    before = ledger.get("made_with")
    kept = decided(ledger, planned(finished), "keep")
    assert {cell.job_id for cell in kept.cells} <= {*ledger.images()}
    assert ledger.get("kept")["changed"] == ["loop"]
    assert ledger.get("made_with") == before


@pytest.mark.parametrize("how", ["keep", "ask"])
def test_images_of_another_precision_are_not_kept(finished: Run, ledger: Ledger, how: resuming.OtherCode) -> None:
    with pytest.raises(UserError, match=r"precision of model shapes-sdxl \(then fp32, now bf16\).*--regenerate"):
        decided(ledger, planned(finished, dtype="bf16"), how)
    again = planned(finished, dtype="bf16")
    assert decided(ledger, again, "regenerate") is again
    assert ledger.get("made_with")["precision of model shapes-sdxl"] == "bf16"


def test_images_of_other_weights_are_not_kept(finished: Run, ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model_index.json").write_text("{}")
    with pytest.raises(UserError, match="weights of model shapes-sdxl"):
        decided(ledger, planned(finished, folder=tmp_path / "other"), "keep")


def test_a_ledger_that_recorded_no_weights_is_still_read(finished: Run, ledger: Ledger) -> None:
    ledger.db.execute("DELETE FROM meta WHERE key = 'made_with'")
    kept = decided(ledger, planned(finished, dtype="bf16"), "keep")
    assert {cell.job_id for cell in kept.cells} <= {*ledger.images()}
    assert ledger.get("made_with") is None
