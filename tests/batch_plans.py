"""Plans of a few images of the embedded model, and their images in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kept_models import kept_models as kept_models

from bench.runner.generate import generate
from bench.runner.plan import Plan, make_plan
from bench.store import Ledger
from bench.suite import parse

SUITE = """\
models: [shapes-sdxl]
prompts: [shapes-pickapic]
samplers: [{samplers}]
steps: {steps}
baseline: standard
methods: [{methods}]
metrics: [shapes-clipscore, shapes-preference, shapes-aesthetic]
"""


def plan_of(*samplers: str, methods: Sequence[str] = ("standard", "inversion"), steps: int = 4, limit: int = 8) -> Plan:
    """Jobs of the embedded model, two methods or others by each sampler."""
    text = SUITE.format(samplers=", ".join(samplers), methods=", ".join(methods), steps=steps)
    return make_plan(parse(text, file="tiny.yaml", limit=limit))


def made(plan: Plan, folder: Path, *, batch_size: int = 8) -> Ledger:
    """A ledger in a folder, with all images of a plan."""
    ledger = Ledger(folder, create=True)
    generate(plan, ledger, None, device="cpu", batch_size=batch_size)
    return ledger
