"""Memory measured apart: a stage's own peak, an arm in a process of its own, kept, resumed and compared."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Bench, Done
from covering import FULL
from fork_server import Forked, commands_with
from suite_texts import BEST_OF_2, TWO_ARMS, write_suite

import bench as package
from bench import registry
from bench.errors import UserError
from bench.runner import memory
from bench.runner.plan import make_plan
from bench.store import Ledger, Memory
from bench.suite import load

MIB = 2**20
METHODS = """\
import torch
from bench.methods.base import Method


class Held(Method):
    def noise(self, s, x):
        held = torch.ones(200 * 250_000)
        return x + 0 * held[0]


class Broken(Method):
    def noise(self, s, x):
        raise RuntimeError("it broke")
"""


def suite_of(file: Path, methods: list[Any]) -> Path:
    return write_suite(file, TWO_ARMS, name=None, steps=2, methods=methods, metrics=["shapes-clipscore"])


# A stage's own peak --------------------------------------------------------------------------------------------------

STAGES = """
import json, sys
from bench.sampling.measure import Resident
MIB = 2**20
earlier = bytearray(b"1") * (200 * MIB); del earlier
found = Resident(resets=json.loads(sys.argv[1]))
for name, size in (("small", 50), ("large", 400), ("after", 100)):
    found.start(); held = bytearray(b"1") * (size * MIB); del held; found.stop(name)
print(json.dumps(found.peaks))
"""


@pytest.mark.parametrize("resets", [True, False])
def test_a_stages_peak_is_its_own_or_unknown(*, resets: bool) -> None:
    """Where a peak cannot be reset, only a stage that raised it is known: not the one below what came before it."""
    if resets and not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this system does not reset a process's peak")
    # By way of a shell that forks: a process that this one starts has this one's peak for its own from the start.
    script = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", STAGES, json.dumps(resets)]
    found = json.loads(subprocess.run(script, capture_output=True, text=True, check=True).stdout)
    assert found["large"] / MIB == pytest.approx(400, abs=10)
    if resets:
        assert (found["small"] / MIB, found["after"] / MIB) == pytest.approx((50, 100), abs=10)
    else:
        assert found["small"] is found["after"] is None


# Which batch ---------------------------------------------------------------------------------------------------------


def planned(tmp_path: Path, methods: list[Any], *, limit: int = 3) -> Any:
    return make_plan(load(suite_of(tmp_path / "some.yaml", methods), limit=limit))


def test_every_arm_has_a_batch_of_one_size_of_its_first_jobs(tmp_path: Path) -> None:
    plan = planned(tmp_path, ["standard", "inversion", BEST_OF_2 | {"name": "best_of_n"}])
    found = {batch.key.method: batch for batch in memory.batches(plan, 50)}
    assert {name: len(batch.jobs) for name, batch in found.items()} == {"standard": 3, "inversion": 3, "best_of_n": 3}
    ids = {name: [job.id for job in batch.jobs] for name, batch in found.items()}
    assert ids["standard"] == [c.job_id for c in plan.cells if c.arm.method == "standard"]
    first = next(c.job_id for c in plan.cells if c.arm.method == "best_of_n")
    assert ids["best_of_n"][:2] == [*plan.choices[first].candidates], "candidates are what is made"
    assert {len(batch.jobs) for batch in memory.batches(plan, 2)} == {2}


def test_what_is_of_this_session_alone_is_refused_with_what_to_do(tmp_path: Path) -> None:
    from bench.methods.standard import Standard

    class Mine(Standard):
        pass

    registry.put("methods", "mine", Mine, registry.NOTEBOOK)
    try:
        plan = planned(tmp_path, ["standard", "mine"])
        ledger = Ledger(tmp_path / "run", create=True)
        (batch,) = [one for one in memory.batches(plan, 4) if one.key.method == "mine"]
        reason = memory.unreachable(plan.suite, batch)
        ledger.close()
    finally:
        registry.forget(registry.NOTEBOOK)
    assert reason is not None
    assert "method 'mine' is defined in this session" in reason
    with pytest.raises(UserError):
        registry.get("methods", "mine")


# A run ---------------------------------------------------------------------------------------------------------------


def arguments(home: Path, *more: object) -> list[object]:
    return ["run", home / "memory.yaml", "--plugin", home / "memory_methods.py", "--limit", 4, "--device", "cpu",
            "--runs", home / "runs", "--no-cache", "--memory", *more]  # fmt: skip


def scratch_processes(home: Path) -> list[str]:
    """Command lines of processes that measure a batch of this run."""
    return commands_with("bench.runner.memory", str(home))


def kept(home: Path) -> dict[str, Memory]:
    """What a run's ledger holds, which another process may write now."""
    for folder in (home / "runs").glob("*/ledger.sqlite"):
        try:
            ledger = Ledger(folder.parent, read_only=True)
        except (UserError, sqlite3.OperationalError):
            continue  # its tables are not all there yet
        found = {one.method: one for one in ledger.memory()}
        ledger.close()
        return found
    return {}


class Measured(NamedTuple):
    """A run that measured its arms; every week it was killed at the third one and run again."""

    home: Path
    killed: dict[str, Memory]
    """What the ledger held when it was killed."""
    done: Done
    """How it ended."""


AGAIN = [{"use": "standard", "name": "again"}] if FULL else []
"""Each arm costs a process that imports everything."""


@pytest.fixture(scope="module")
def measured(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    home = tmp_path_factory.mktemp("memory")
    suite_of(home / "memory.yaml", ["standard", "broken", "held", *AGAIN])
    (home / "memory_methods.py").write_text(METHODS)
    killed = kill_at_the_third_arm(home) if FULL else {}
    yield Measured(home, killed, bench(*arguments(home)))
    registry.forget(str((home / "memory_methods.py").resolve()))


def kill_at_the_third_arm(home: Path) -> dict[str, Memory]:
    """Start the run, kill it there and wait for the arm's process to end; what the ledger holds."""
    running = Forked(arguments(home), home / "said")
    deadline = time.monotonic() + 400
    while not (len(kept(home)) == 2 and scratch_processes(home)):
        assert running.poll() is None, running.err
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert running.kill() == -signal.SIGKILL
    found = kept(home)
    while scratch_processes(home):
        assert time.monotonic() < deadline, "the process of an arm outlived its run"
        time.sleep(0.05)
    return found


def test_what_was_measured_is_not_measured_again(measured: Measured) -> None:
    """What failed is tried again, as an image that failed is: that arm alone is lacking."""
    suite = load(measured.home / "memory.yaml", limit=4)
    (folder,) = (measured.home / "runs").iterdir()
    ledger = Ledger(folder, read_only=True)
    assert [one.key.method for one in memory.lacking(make_plan(suite), ledger, None)] == ["broken"]
    assert not list(folder.glob(f"{memory.SCRATCH}*")), "nothing is left lying about"
    ledger.close()


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="two more processes: every week, by NOISEBENCH_FULL=1")
def test_a_run_killed_while_it_measures_resumes_at_the_next_arm(measured: Measured) -> None:
    """What was measured is not measured again; what failed is tried again, as an image that failed is."""
    before, arms = measured.killed, 3 + len(AGAIN)
    assert set(before) == {"standard", "broken"}
    assert f"memory: {arms - 1}/{arms - 1} arms" in measured.done.err
    after = kept(measured.home)
    assert len(after) == arms
    assert after["standard"] == before["standard"]
    (folder,) = (measured.home / "runs").iterdir()
    assert not list(folder.glob(f"{memory.SCRATCH}*")), "nothing is left lying about"


def test_what_a_method_holds_is_its_own(measured: Measured) -> None:
    found = kept(measured.home)
    standard, held = found["standard"], found["held"]
    assert held.noise_bytes is not None
    assert standard.noise_bytes is not None
    assert held.noise_bytes - standard.noise_bytes >= 180e6
    if AGAIN:
        assert found["again"].peak_bytes == pytest.approx(standard.peak_bytes, rel=0.15)
    assert held.sampling_bytes == pytest.approx(standard.sampling_bytes, abs=20e6), "what is freed is not sampling's"
    assert {len(one.ids) for one in found.values()} == {4}


def test_a_method_that_fails_costs_its_own_measurement_only(measured: Measured) -> None:
    done = measured.done
    assert kept(measured.home)["broken"].reason == "RuntimeError: it broke (memory_methods.py:13)"
    assert done.code == 3
    assert "failed: the memory of broken was not measured: RuntimeError: it broke" in done.err


def test_results_and_report_compare_what_was_measured_apart_and_never_a_processes_peak(measured: Measured) -> None:
    home = measured.home
    (folder,) = (home / "runs").iterdir()
    found = json.loads((folder / "results.json").read_text())
    arms = {arm["method"]: arm["cost"] for arm in found["arms"] if arm["prompts"] == "*"}
    assert arms["held"]["memory_bytes"] == kept(home)["held"].peak_bytes
    assert arms["held"]["ratios"]["memory_bytes"]["ratio"] > 10
    assert {cost["ratios"]["peak_bytes"] for cost in arms.values()} == {None}
    assert found["run"]["stages"]["memory_seconds"] > 0
    text = (folder / "report.md").read_text()
    assert "for a batch of 4 images in a process of its own" in text


@pytest.mark.skipif(not FULL, reason="a process for it alone: every week, by NOISEBENCH_FULL=1")
def test_prompts_of_a_list_are_measured_too(one_thread: None, tmp_path: Path) -> None:
    suite = {"name": "listed", "models": ["shapes-sdxl"], "samplers": ["ddim"], "steps": 2, "baseline": "standard",
             "methods": ["standard"], "metrics": ["shapes-clipscore"]}  # fmt: skip
    some = ["a red circle", {"prompt": "two blue squares", "category": "counting"}]
    found = package.run(suite, prompts=some, runs=tmp_path, cache=False, device="cpu", memory=True)
    (cost,) = found.costs[found.costs["prompts"] == "*"].itertuples()
    assert cost.memory_bytes > 0
    assert cost.memory_batch == 2
    assert found.costs.attrs["units"]["memory_bytes"] == "bytes"
