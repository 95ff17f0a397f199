"""The memory of methods, measured apart: `run --memory` makes one batch of each arm in a process of its own.

On a CPU a process's peak memory is of all that it has done, so that of a run compares no methods. Here a fresh process
loads the arm's model, warms it up with a batch of the same size, and notes its resident memory: weights, libraries and
what the first calls of a network leave behind are in memory for every method, and so is the level that all are measured
from. Then it makes one batch of the arm's first jobs as a run does, into a folder that is thrown away, and the peaks
of the noise stage and of the sampling stage above that level are the arm's (`sampling.measure.Resident`). What a method
loads before its noise stage, such as its own network, is above the level and counts as its own. Decoding is the same
for all methods, and judging among candidates is not in it.

All arms have one batch size. A row is written when its arm is measured, so a run that is killed resumes at the next.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from bench import plugins, registry
from bench.backoff import AUTO, DEFAULT_BATCH, BatchSize
from bench.progress import Progress
from bench.prompts.base import Prompt, PromptSet
from bench.runner.executors import is_of_session
from bench.runner.outline import Outline, Row
from bench.runner.plan import Job, Plan
from bench.sampling.measure import APART, RETURNING
from bench.sampling.records import SINGLE
from bench.store import Ledger, Memory
from bench.suite import Suite

SCRATCH = ".memory-"
"""What the folders are called, within the run's, that batches are made in."""
REQUEST, ANSWER, LOG = "request.json", "answer.json", "log.txt"


class Key(NamedTuple):
    """An arm, whatever its prompts."""

    method: str
    model: str
    sampler: str
    steps: int
    guidance: float


class Batch(NamedTuple):
    """The first jobs of an arm, and the prompt sets that the suite has for it."""

    key: Key
    jobs: tuple[Job, ...]
    prompts: tuple[str, ...]

    @property
    def ids(self) -> str:
        return json.dumps([job.id for job in self.jobs])


def batches(outline: Outline, most: int) -> list[Batch]:
    """Each arm's first jobs that can share a batch, as many of every arm: at most `most`, and what each arm has."""
    rows: dict[Key, list[Row]] = {}
    for row in outline.rows:
        if row.prompts:
            rows.setdefault(Key(row.arm.method, *_setting(row)), []).append(row)
    if any(SINGLE in row.chain.all_needs() for of in rows.values() for row in of):
        most = 1
    first = {key: _first(of, most) for key, of in rows.items()}
    size = min(map(len, first.values()), default=0)
    return [Batch(key, tuple(jobs[:size]), tuple(row.arm.prompts for row in rows[key])) for key, jobs in first.items()]


def _setting(row: Row) -> tuple[str, str, int, float]:
    return row.arm.model, row.arm.sampler, row.arm.steps, row.arm.guidance


def _first(rows: Sequence[Row], most: int) -> list[Job]:
    found: dict[str, Job] = {}
    for job in _jobs(rows):
        if not found or job.group == next(iter(found.values())).group:
            found.setdefault(job.id, job)
        if len(found) == most:
            break
    return list(found.values())


def _jobs(rows: Sequence[Row]) -> Iterator[Job]:
    """An arm's jobs, candidates among them, in the order of its cells."""
    for row in rows:
        for _, look, seed in row.cells():
            for template, of in row.images(seed):
                yield template.made(look, of, template.id(look, of))


def lacking(plan: Plan, ledger: Ledger, batch_size: BatchSize | None, *, hardware: str | None = None) -> list[Batch]:
    """The batches that were not measured yet, or on other hardware than this; none of images of other code."""
    have = {
        (Key(*row[:5]), row.jobs) for row in ledger.memory() if row.reason is None and hardware in (None, row.hardware)
    }
    wanted = batches(plan, _size(plan, batch_size))
    return [one for one in wanted if _is_planned(one, plan) and (one.key, one.ids) not in have]


def _size(plan: Plan, batch_size: BatchSize | None) -> int:
    asked = batch_size or plan.suite.batch_size or AUTO
    return DEFAULT_BATCH["cpu"] if asked == AUTO else asked


def _is_planned(batch: Batch, plan: Plan) -> bool:
    """Whether its jobs are the plan's, which keeps others in the place of those whose images are of other code."""
    return all(job.id in plan.jobs for job in batch.jobs)


# The run's process ---------------------------------------------------------------------------------------------------


def measure(plan: Plan, ledger: Ledger, *, device: str, batch_size: BatchSize | None = None) -> None:
    """Measure every arm that was not measured yet; what goes wrong is kept as the reason of its arm.

    On a GPU nothing is measured: the allocator's peak of each batch is that batch's own already.
    """
    if device != "cpu":
        print("note: --memory measures on a CPU; on a GPU the allocator's peaks are each batch's own", file=sys.stderr)
        return
    # Only here does a run need torch.
    from bench.provenance import hardware

    for old in ledger.folder.glob(f"{SCRATCH}*"):  # of a run that was killed; its processes ended with it
        shutil.rmtree(old, ignore_errors=True)
    here = hardware(device)
    todo = lacking(plan, ledger, batch_size, hardware=here)
    kept = [one.key.method for one in batches(plan, _size(plan, batch_size)) if not _is_planned(one, plan)]
    if kept:
        names = ", ".join(dict.fromkeys(kept))
        print(f"note: no memory is measured of {names}: images of other code are kept", file=sys.stderr)
    with Progress("memory", len(todo), unit="arms") as progress:
        for batch in todo:
            ledger.put_memory(_row(batch, _measured(plan, batch, ledger.folder), here))
            progress.advance(1)


def _row(batch: Batch, found: dict[str, Any], hardware: str) -> Memory:
    return Memory(
        *batch.key,
        dtype=batch.jobs[0].dtype,
        jobs=batch.ids,
        noise_bytes=found.get("noise"),
        sampling_bytes=found.get("sampling"),
        level_bytes=found.get("level"),
        kind=APART,
        hardware=hardware,
        reason=found.get("reason"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _measured(plan: Plan, batch: Batch, folder: Path) -> dict[str, Any]:
    """What the process of a batch found: `noise`, `sampling` and `level` in bytes, or a `reason`."""
    if reason := unreachable(plan.suite, batch):
        return {"reason": reason}
    request = {
        "suite": _of_arm(plan.suite, batch).model_dump(mode="json"),
        "plugins": plugins.files(),
        "prompts": [_listed(name, plan.prompts[name]) for name in batch.prompts if is_of_session("prompts", name)],
        "ids": batch.ids,
        "size": len(batch.jobs),
        "dtype": batch.jobs[0].dtype,
        "threads": _threads(),
    }
    with TemporaryDirectory(prefix=SCRATCH, dir=folder, ignore_cleanup_errors=True) as place:
        scratch = Path(place)
        (scratch / REQUEST).write_text(json.dumps(request))
        code = _process(scratch)
        if (scratch / ANSWER).is_file():
            found: dict[str, Any] = json.loads((scratch / ANSWER).read_text())
            return found
        return {"reason": _ended(code, (scratch / LOG).read_text(errors="replace"))}


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _process(scratch: Path) -> int:
    """Run a batch's process to its end; returns its exit code. It ends by itself where this one does."""
    with (
        (scratch / LOG).open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "bench.runner.memory_process", str(scratch)],
            stdin=subprocess.PIPE,  # never written to: it closes when this process ends
            stdout=log,
            stderr=log,
            env={**os.environ, **RETURNING},
        ) as running,
    ):
        try:
            return running.wait()
        except BaseException:
            running.kill()
            raise


def _ended(code: int, log: str) -> str:
    """Why a process gave no answer."""
    if code < 0:
        killed = ", as where memory runs out" if code == -9 else ""
        return f"its process was ended by signal {-code}{killed}"
    said = [line for line in log.strip().splitlines() if line.strip()]
    return said[-1] if said else f"its process ended with {code}"


def unreachable(suite: Suite, batch: Batch) -> str | None:
    """Why another process cannot load what an arm uses; None where it can."""
    (spec,) = [one for one in suite.methods if one.label == batch.key.method]
    used = [("models", batch.key.model), ("samplers", batch.key.sampler)]
    used += [("methods", link.use) for link in spec.chain]
    for kind, name in used:
        if is_of_session(kind, name):
            return (
                f"{kind.rstrip('s')} {name!r} is defined in this session, and a process of its own cannot load it; "
                "put it into a file and name that as a plugin"
            )
    return None


def _listed(name: str, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """A prompt set that was given as a list, for another process."""
    entry: PromptSet = registry.get("prompts", name)
    return {
        "name": name,
        "images_per_prompt": entry.images_per_prompt,
        "carries": entry.carries,
        "prompts": TypeAdapter(list[Prompt]).dump_python(list(prompts), mode="json"),
    }


def _of_arm(suite: Suite, batch: Batch) -> Suite:
    """The suite with this arm alone, which has the same jobs."""
    key = batch.key
    return suite.model_copy(
        update={
            "models": (key.model,),
            "samplers": (key.sampler,),
            "steps": (key.steps,),
            "guidance": (key.guidance,),
            "prompts": batch.prompts,
            "methods": tuple(one for one in suite.methods if one.label == key.method),
            "baseline": key.method,
            "metrics": (),
            "headline": None,
            "controls": {},
            "gates": (),
        }
    )
