"""The memory of arms, as it was measured apart, in a run's results: whose ratio there is, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ledgers import write_ledger

from bench.analysis import results
from bench.analysis.costs import LEAST_BYTES
from bench.sampling.measure import APART
from bench.store import Ledger, Memory

MIB = 2**20


def row(method: str, noise: int | None, sampling: int | None, **changed: Any) -> Memory:
    made = {"reason": None, "hardware": "a cpu", "jobs": '["a", "b"]', **changed}
    return Memory(method, "shapes-sdxl", "ddim", 20, 5.0, "fp32", made["jobs"], noise, sampling, MIB, APART,
                  made["hardware"], made["reason"], "now")  # fmt: skip


def costs(folder: Path, *rows: Memory) -> dict[str, Any]:
    ledger = write_ledger(folder, lambda *_: 1.0, methods=("standard", "a"), prompts=2)
    setting = next(iter(ledger.cells())).setting
    for one in rows:
        model, sampler, steps, guidance = setting
        ledger.put_memory(one._replace(model=model, sampler=sampler, steps=steps, guidance=guidance))
    return {arm.method: arm.cost for arm in results.compute(ledger).arms if arm.prompts == "*"}


def test_an_arms_memory_is_that_of_its_larger_stage_and_has_a_ratio_without_bounds(tmp_path: Path) -> None:
    found = costs(tmp_path, row("standard", MIB, 4 * MIB), row("a", 12 * MIB, 3 * MIB))
    assert (found["a"].memory_bytes, found["a"].memory_noise_bytes, found["a"].memory_batch) == (12 * MIB, 12 * MIB, 2)
    ratio = found["a"].ratios.memory_bytes
    assert (ratio.ratio, ratio.low, ratio.high) == (3.0, None, None)
    assert found["standard"].ratios.memory_bytes is None


@pytest.mark.parametrize(
    "theirs",
    [
        row("standard", MIB, 4 * MIB, hardware="another cpu"),
        row("standard", MIB, 4 * MIB, jobs='["a"]'),
        row("standard", 0, LEAST_BYTES - 1),
        row("standard", None, None, reason="it broke"),
    ],
    ids=["hardware", "batch", "nothing to divide by", "failed"],
)
def test_memory_of_two_kinds_has_no_ratio(tmp_path: Path, theirs: Memory) -> None:
    found = costs(tmp_path, theirs, row("a", 12 * MIB, 3 * MIB))
    assert found["a"].memory_bytes == 12 * MIB
    assert found["a"].ratios.memory_bytes is None
    assert found["standard"].memory_failed == theirs.reason


def test_what_was_not_measured_is_missing_in_the_file(tmp_path: Path) -> None:
    found = costs(tmp_path)["a"].model_dump(exclude_unset=True)
    assert not [name for name in (*found, *found["ratios"]) if name.startswith("memory")]


def test_a_measurement_of_other_jobs_than_the_plans_is_forgotten(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, create=True)
    ledger.put_memory(row("standard", 1, 2))
    ledger.put_memory(row("a", 1, 2, jobs='["c"]'))
    ledger.forget_memory({"a", "b"})
    assert [one.method for one in ledger.memory()] == ["standard"]
