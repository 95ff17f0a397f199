"""What the tests of methods that read attention share: prompts, batches on tiny networks, and plans of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analytic import Made, Methods, session
from analytic import make as analytic_make
from batch_plans import made

from bench import suite
from bench.models.base import Family
from bench.prompts.base import Prompt
from bench.runner.plan import Job, Plan, make_plan
from bench.sampling.session import Session
from bench.store import Image

PROMPTS = ("a cat and a dog", "a red frog", "a photo of a bench and a cat", "dog")


def batch(
    family: Family, method: Methods, *, steps: int, prompts: Sequence[str] = PROMPTS, guidance: float = 5, **more: Any
) -> Session:
    """A session of the prompts, an image each."""
    return session(method, prompts=prompts, family=family, steps=steps, guidance=guidance, **more)


def make(s: Session) -> Made:
    """The session's images; its hooks leave the network, so that the next one's calls are not counted twice."""
    try:
        return analytic_make(s)
    finally:
        s.meter.close()


def planned(model: str, method: str, *texts: str) -> Plan:
    """The plan of `standard` and a method, of four steps, on a model's folder."""
    text = f"""\
name: attended
models: ['{model}']
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 4
baseline: standard
methods: [standard, {method}]
metrics: [shapes-clipscore]
"""
    prompts = [Prompt(i, words) for i, words in enumerate(texts)]
    return make_plan(suite.parse(text, file="suites/attended.yaml"), read=lambda name: prompts)


def ledgered(plan: Plan, folder: Path) -> list[tuple[Job, Image]]:
    """The plan's jobs with a noise method, each with its row of the ledger; those without one have no facts."""
    ledger = made(plan, folder, batch_size=4)
    images = ledger.images()
    ledger.close()
    assert all(json.loads(images[job.id].facts) == {} for job in plan.jobs.values() if not job.links)
    return [(job, images[job.id]) for job in plan.jobs.values() if job.links]
