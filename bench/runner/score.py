"""Images -> score rows, once for each image, prompt and scorer; and the choices that scores decide.

A score belongs to what decides it, by digest: of a pair that is the method's image, the baseline's, the prompt and the
scorer, so that it is never taken for one against another baseline image.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from bench import registry
from bench.metrics.base import MetricEntry, Value
from bench.prompts.base import Prompt
from bench.runner.executors.base import Executor, InProcess
from bench.runner.judging import Asked, Shown, judge, place, together
from bench.runner.outline import Outline
from bench.runner.panel import Key
from bench.runner.plan import Choice, Plan
from bench.store import Image, Ledger, prompt_key

SAME = Value(0.5, {"same image": True})
"""What a metric of pairs says of two equal images, without being asked."""


class Task(NamedTuple):
    """An image to judge, by its job id, against its prompt; for a metric of pairs also the baseline image's job."""

    job_id: str
    prompt: Prompt
    baseline: str | None = None


# What is to be judged ------------------------------------------------------------------------------------------------


def judges(plan: Plan) -> dict[str, list[Task]]:
    """What must be scored before choices can be made: candidates by the metric that chooses among them."""
    found: dict[str, list[Task]] = {}
    for cell in plan.cells:
        choice = plan.choices.get(cell.job_id)
        if choice:
            found.setdefault(choice.metric, []).extend(Task(c, cell.prompt) for c in choice.candidates)
    return found


def arms(plan: Plan) -> dict[str, list[Task]]:
    """What the suite's metrics judge: every cell's image, or every method's beside the baseline's.

    A metric that needs metadata skips prompts without, or with those of another kind.
    """
    cells = [
        (c.arm.method, (c.arm.model, c.arm.prompts, c.arm.sampler, c.arm.steps, c.arm.guidance, c.prompt.index, c.seed),
         c.job_id, c.prompt) for c in plan.cells
    ]  # fmt: skip
    return {name: _tasks(registry.get("metrics", name), cells, plan.suite.baseline) for name in plan.suite.metrics}


def of_run(ledger: Ledger, metric: str) -> list[Task]:
    """What a metric judges in a run that is there; as `arms` for a plan."""
    cells = [
        (c.method, c.place, c.job_id, Prompt(c.prompt_index, c.prompt, c.category, c.carried)) for c in ledger.cells()
    ]
    return _tasks(registry.get("metrics", metric), cells, ledger.get("suite")["baseline"])


def _tasks(entry: MetricEntry, cells: Sequence[tuple[str, tuple[Any, ...], str, Prompt]], baseline: str) -> list[Task]:
    judged = [cell for cell in cells if entry.judges(cell[3].metadata)]
    if entry.kind != "pair":
        return [Task(job_id, prompt) for _, _, job_id, prompt in judged]
    bases = {place: job_id for method, place, job_id, _ in cells if method == baseline}
    return [
        Task(job_id, prompt, bases[place])
        for method, place, job_id, prompt in judged
        if method != baseline and place in bases
    ]


def planned(plan: Outline) -> Iterator[str]:
    """What each metric of a plan judges, as `shapes-clipscore 16 images`."""
    sizes: Counter[tuple[object, ...]] = Counter()
    for row, images in zip(plan.rows, plan.tally.rows, strict=True):
        sizes[row.arm.method, row.arm.model, row.arm.sampler, row.arm.steps, row.arm.guidance] += len(images)
    most = plan.times * max(sizes.values(), default=0)
    for name in plan.suite.metrics:
        entry: MetricEntry = registry.get("metrics", name)
        n = plan.times * len(plan.tally.tasks(entry))
        if entry.kind == "pair":
            yield f"{name} {n} pairs of images{' in both orders' if entry.both_orders else ''}"
        elif entry.kind == "set" and most < entry.fewest:
            yield f"{name} {n} images, but no value: it needs {entry.fewest} a method, there are {most}"
        else:
            yield f"{name} {n} images{' in sets' if entry.kind == 'set' else ''}"


# Judging -------------------------------------------------------------------------------------------------------------


def score(
    work: dict[str, list[Task]],
    ledger: Ledger,
    *,
    device: str,
    executor: Executor | None = None,
    limit: float | None = None,
) -> dict[str, float]:
    """Score what is missing; returns seconds by metric. Metrics that share a network are scored together.

    Without an `executor` it is done in this process. `limit` is the most seconds that the score of an image may take.
    """
    images = ledger.images()
    asked = [one for name, tasks in work.items() if (one := _asked(name, tasks, images, ledger)).todo]
    seconds: dict[str, float] = {}
    for group in together(asked):
        seconds |= judge(group, ledger, device, executor or InProcess(), limit)
    return {one.entry.name: seconds[one.entry.name] for one in asked}


def _asked(name: str, tasks: Sequence[Task], images: dict[str, Image], ledger: Ledger) -> Asked:
    """What a metric has not judged yet of images that are there; pairs of equal images it is not asked about."""
    entry: MetricEntry = registry.get("metrics", name)
    digest = entry.digest()
    done = {"image": ledger.scored, "pair": ledger.paired, "set": ledger.featured}[entry.kind](name, digest)
    todo: dict[Key, Shown] = {}
    for task in tasks:
        shown = [images.get(job) for job in (task.job_id, task.baseline) if job is not None]
        there = [image for image in shown if image]
        key = (*(image.digest for image in there), prompt_key(task.prompt))
        if len(there) == len(shown) and key not in done:
            todo.setdefault(key, (there, task.prompt))
    if entry.kind == "pair":
        same = [key for key in todo if key[0] == key[1]]
        ledger.put_pair_scores((*place(key), name, digest, SAME.value, json.dumps(SAME.detail), None) for key in same)
        todo = {key: one for key, one in todo.items() if key[0] != key[1]}
    return Asked(entry, digest, todo)


# Choices -------------------------------------------------------------------------------------------------------------


def choose(plan: Plan, ledger: Ledger) -> int:
    """Give every choice the image of its best candidate, at the cost of all of them; returns how many were made.

    Each stage holds what all candidates cost there, and judging is a stage of its own. Where a candidate could not be
    made the choice fails for that candidate's reason: the best of fewer is another method.
    """
    images, reasons = ledger.images(), ledger.failures()
    prompts = {c.job_id: c.prompt for c in plan.cells}
    made: list[Image] = []
    failed: list[tuple[str, str, str]] = []
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for choice in plan.choices.values():
        lost = [k for k, c in enumerate(choice.candidates) if c not in images]
        if lost:
            known = [(k, reasons[choice.candidates[k]]) for k in lost if choice.candidates[k] in reasons]
            for k, reason in known[:1]:
                failed.append((choice.id, f"candidate {k + 1} of {len(choice.candidates)}: {reason}", now))
            continue
        before = images.get(choice.id)
        if before and before.digest in {images[c].digest for c in choice.candidates}:
            continue  # made before, and none of its candidates was lost and made again since
        chosen = _choose(choice, prompts[choice.id], [images[c] for c in choice.candidates], ledger)
        if chosen:
            made.append(chosen)
        elif why := _unscored(choice, images, ledger):
            failed.append((choice.id, why, now))
    ledger.put_images(made)
    ledger.put_failures(failed)
    return len(made)


def _unscored(choice: Choice, images: dict[str, Image], ledger: Ledger) -> str | None:
    """Why the first candidate without a score has none: the best of the others is another method's image."""
    for k, candidate in enumerate(choice.candidates):
        reason = ledger.why_unscored(images[candidate].digest, choice.metric, choice.metric_digest)
        if reason is not None:
            return f"candidate {k + 1} of {len(choice.candidates)}, {choice.metric}: {reason}"
    return None


def _choose(choice: Choice, prompt: Prompt, candidates: list[Image], ledger: Ledger) -> Image | None:
    entry: MetricEntry = registry.get("metrics", choice.metric)
    of = prompt_key(prompt), choice.metric, choice.metric_digest
    rows = [ledger.score_of(image.digest, *of) for image in candidates]
    if any(r is None for r in rows):
        return None
    values = [entry.sign * r[0] for r in rows if r]
    best = candidates[values.index(max(values))]
    judging = sum(r[1] or 0.0 for r in rows if r)
    return replace(
        best,
        job_id=choice.id,
        chosen_from=json.dumps(list(choice.candidates)),
        cost=json.dumps(_summed([json.loads(i.cost) for i in candidates], judging=judging), sort_keys=True),
        **{name: sum(getattr(i, name) for i in candidates) for name in _SUMMED},
        select_ms=judging,
        # A choice is made again in every run; what came from the cache is its candidates.
        from_cache=max(i.from_cache for i in candidates),
    )


_SUMMED = ("calls_noise", "calls_sampling", "noise_ms", "sampling_ms", "decode_ms")


def _summed(costs: Sequence[dict[str, dict[str, float]]], *, judging: float) -> dict[str, dict[str, float]]:
    """The records of all candidates as one: counts and times add up, peaks do not; encoding is done once."""
    found: dict[str, dict[str, float]] = {}
    for cost in costs:
        for stage, row in cost.items():
            into = found.setdefault(stage, {})
            for name, amount in row.items():
                most = name == "peak_bytes" or stage == "encode"
                into[name] = max(into.get(name, 0), amount) if most else into.get(name, 0) + amount
    found["select"] = {"ms": round(judging, 6), "rewards": len(costs)}
    return found
