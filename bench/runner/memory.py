"""The memory of methods, measured apart: `run --memory` makes one batch of each arm in a process of its own.

On a CPU a process's peak memory is of all that it has done, so that of a run compares no methods. Here a fresh process
loads the arm's model, warms it up with a batch of the same size, and notes its resident memory: weights, libraries and
what the first calls of a network leave behind are held by every method, and so is the level that all are measured
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
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from bench import plugins, registry
from bench.errors import BenchError, UserError, first_line
from bench.fitting import AUTO, DEFAULT_BATCH, BatchSize
from bench.progress import Progress
from bench.prompts.base import Prompt, PromptSet
from bench.runner.faults import described
from bench.runner.outline import Outline, Row
from bench.runner.plan import Job, Plan, outlined
from bench.sampling.measure import APART, RETURNING, Resident
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
        "prompts": [_listed(name, plan.prompts[name]) for name in batch.prompts if _is_of_session("prompts", name)],
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
            [sys.executable, "-m", "bench.runner.memory", str(scratch)],
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
        if _is_of_session(kind, name):
            return (
                f"{kind.rstrip('s')} {name!r} is defined in this session, and a process of its own cannot load it; "
                "put it into a file and name that as a plugin"
            )
    return None


def _is_of_session(kind: str, name: str) -> bool:
    """Whether a plugin is neither of a package nor of a file that another process can load."""
    source = registry.of_this_process(kind, name)
    return source is not None and source not in plugins.files()


def _listed(name: str, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """A prompt set that was given as a list, for another process."""
    entry: PromptSet = registry.get("prompts", name)
    return {
        "name": name,
        "images_per_prompt": entry.images_per_prompt,
        "carries": entry.carries,
        "prompts": TypeAdapter(list[Prompt]).dump_python(list(prompts), mode="json"),
    }


def _put_listed(given: dict[str, Any]) -> None:
    """Register what `_listed` wrote."""
    prompts = TypeAdapter(list[Prompt]).validate_python(given["prompts"])
    found = PromptSet(
        given["name"],
        len(prompts),
        lambda: prompts,
        "a list",
        images_per_prompt=given["images_per_prompt"],
        carries=tuple(given["carries"]),
        seeds={p.index: p.seeds for p in prompts if p.seeds},
    )
    registry.put("prompts", found.name, found, registry.NOTEBOOK)


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


# The process of a batch ----------------------------------------------------------------------------------------------


def _work(scratch: Path) -> dict[str, Any]:
    """Make the batch that is asked for in a folder; what its stages took, or the reason why there is no batch."""
    import torch

    asked = json.loads((scratch / REQUEST).read_text())
    torch.set_num_threads(asked["threads"])
    for file in asked["plugins"]:
        plugins.load(file)
    for given in asked["prompts"]:
        _put_listed(given)
    suite = Suite.model_validate(asked["suite"])
    with suite.configured():
        (batch,) = batches(outlined(suite, dtype=asked["dtype"]), asked["size"])
        if batch.ids != asked["ids"]:
            raise UserError("its code or files have changed since the run started; run it again")
        return _made(batch.jobs, scratch)


def _made(jobs: Sequence[Job], scratch: Path) -> dict[str, Any]:
    from bench.runner.maker import Maker

    maker = Maker("cpu")
    _, meter = maker.model(jobs[0], len(jobs))
    meter.resident = resident = Resident()
    made = maker.make(jobs)
    maker.close()
    if made.failures:
        return {"reason": made.failures[0][1]}
    peaks = {name: resident.peaks.get(name) for name in ("noise", "sampling")}
    if set(peaks.values()) == {None}:
        return {"reason": "this system does not show a stage's own peak: loading the model took more"}
    return {**peaks, "level": resident.level}


def _end_with_parent() -> None:
    """End this process when the one that started it has: its end of the pipe closes."""
    sys.stdin.buffer.read()
    os._exit(1)


def _main(scratch: Path) -> int:
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        found = _work(scratch)
    except BenchError as error:
        found = {"reason": first_line(error)}
    except Exception as error:
        traceback.print_exc()
        found = {"reason": described(error)}
    (scratch / f"{ANSWER}.part").write_text(json.dumps(found))
    (scratch / f"{ANSWER}.part").replace(scratch / ANSWER)
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(Path(sys.argv[1])))
