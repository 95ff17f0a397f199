"""Small runs of arms of which some fail: whose images are there, and what is said of the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from conftest import Plug
from suite_texts import TWO_ARMS, suite_text

from bench.methods.base import Method
from bench.runner.generate import generate
from bench.runner.plan import make_plan
from bench.store import Ledger
from bench.suite import parse

ARMS = ("standard", "odd", "inversion")


def made(
    method: type[Method],
    folder: Path,
    plug: Plug,
    *,
    sampler: str = "ddim",
    batch: int = 2,
    arms: Sequence[str] = ARMS,
) -> tuple[dict[str, int], list[str]]:
    """Images that are there by method label, and reasons of those of `odd` that are not; two prompts an arm."""
    plug("methods", odd=method)
    there, reasons = generated(folder, arms, sampler=sampler, batch=batch)
    assert not any(reasons[arm] for arm in arms if arm != "odd")
    return there, reasons["odd"]


def generated(
    folder: Path, arms: Sequence[str], *, sampler: str = "ddim", batch: int = 2
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """By method label, how many images are there, and the reasons of those that are not; two prompts an arm."""
    text = suite_text(TWO_ARMS, samplers=[sampler], steps=3, methods=[*arms], metrics=["shapes-clipscore"])
    plan = make_plan(parse(text, file="blame.yaml", limit=2))
    ledger = Ledger(folder / "run", create=True)
    try:
        generate(plan, ledger, None, device="cpu", batch_size=batch)
    finally:
        images, reasons = ledger.images(), ledger.failures()
        ledger.close()
    assert not set(images) & set(reasons)
    jobs = {arm: [cell.job_id for cell in plan.cells if cell.arm.method == arm] for arm in arms}
    there = {arm: sum(job in images for job in of) for arm, of in jobs.items()}
    return there, {arm: sorted(reasons[job] for job in of if job in reasons) for arm, of in jobs.items()}
