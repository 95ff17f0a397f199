"""The process that measures the memory of one batch for `bench.runner.memory`: `-m bench.runner.memory_process DIR`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

from pydantic import TypeAdapter

from bench import plugins, registry
from bench.errors import BenchError, UserError, first_line
from bench.prompts.base import Prompt, PromptSet
from bench.runner.faults import described
from bench.runner.memory import ANSWER, REQUEST, batches
from bench.runner.plan import Job, outlined
from bench.sampling.measure import Resident
from bench.suite import Suite


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
    from bench.runner.generator import Generator

    generator = Generator("cpu")
    _, meter = generator.model(jobs[0], len(jobs))
    meter.resident = resident = Resident()
    made = generator.make(jobs)
    generator.close()
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
