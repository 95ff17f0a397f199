"""What a run's ledger keeps of the run itself: what it is for, and what its sessions took."""

from __future__ import annotations

import sys
from typing import Any

from bench.job.scoring import record_scorers
from bench.runner.plan import Plan
from bench.store import Cell, Ledger, as_json, write_atomically


def record_suite(ledger: Ledger, plan: Plan) -> None:
    """What the run is for, kept with it so that every later stage needs the folder only."""
    with ledger.transaction():
        ledger.set("suite", plan.suite.model_dump(mode="json"))
        ledger.set("optimises", plan.optimises)
        ledger.set("learnt_from", plan.learnt_from)
        ledger.set("left_out", plan.notes)
        if plan.part:
            ledger.set("shard", plan.part.record())
        record_scorers(ledger, plan.suite, plan.suite.metrics)
        ledger.forget_memory(plan.jobs.keys())
        ledger.put_cells(
            Cell(
                c.arm.method,
                c.arm.model,
                c.arm.prompts,
                c.arm.sampler,
                c.arm.steps,
                c.arm.guidance,
                c.prompt.index,
                c.seed,
                c.prompt.text,
                c.prompt.category,
                as_json(c.prompt.metadata),
                c.job_id,
            )
            for c in plan.cells
        )
    write_atomically(ledger.folder / "suite.yaml", plan.suite.source_text.encode())


def end_session(ledger: Ledger, session: int, stages: dict[str, Any]) -> None:
    """Keep what its stages took, and say how fast images were made if any were."""
    ledger.end_session(session, stages)
    generated = stages.get("generate") or {}
    if generated.get("made") and "efficiency" in generated:
        print(
            f"generate: {generated['made']} images in {generated['seconds']:.1f} s, "
            f"{100 * generated['efficiency']:.1f} % of it inside the model",
            file=sys.stderr,
        )
