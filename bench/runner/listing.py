"""Outline -> Plan: every image with its id. Imports no torch.

A million images are listed in seconds: what ids of one arm, and of one prompt in it, have in common is hashed once, and
a job is built where somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import chain, repeat
from typing import Any

from bench import registry
from bench.metrics.base import MetricEntry
from bench.runner.jobs import Cell, Choice, Job, choice_id
from bench.runner.outline import Outline, Tally, look_of, no_collection


class Jobs(Mapping[str, Job]):
    """The jobs of a plan by id, arm after arm, each built where it is looked at."""

    def __init__(self, tally: Tally, numbers: Mapping[str, int]) -> None:
        """`numbers` are the images' numbers in the tally, by job id."""
        self._tally, self._numbers = tally, numbers

    def __getitem__(self, job_id: str) -> Job:
        return self._tally.job(self._numbers[job_id], job_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._numbers

    def kinds(self) -> list[Job]:
        """One job for each arm and number of steps: all that jobs have besides prompt and seed."""
        return self._tally.kinds(self._numbers.values())


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a plan knows of the whole that it is a shard of."""

    index: int
    """From 1."""
    of: int
    jobs: Mapping[str, Job]
    """Of the whole plan: batches are those of the whole, so that they give the same pixels."""
    batch: int
    """Images a batch, for which the whole was split."""
    cells: int
    """Of the whole plan."""
    at: tuple[tuple[int, int], ...]
    """Where the shard's cells stand among those, as (first, how many)."""
    whole: str
    """What tells the whole plan from every other."""

    def record(self) -> dict[str, Any]:
        """As the ledger has it."""
        found = {name: getattr(self, name) for name in ("index", "of", "batch", "cells", "whole")}
        return {**found, "at": [list(one) for one in self.at]}


@dataclass(frozen=True, kw_only=True)
class Plan(Outline):
    """Everything a run will do. `jobs` are arm after arm, made in turns (`generate.batches`); `choices` come after."""

    jobs: Mapping[str, Job]
    choices: Mapping[str, Choice]
    cells: list[Cell]
    part: Part | None = None
    """Of a shard."""

    @property
    def batched(self) -> Mapping[str, Job]:
        """The jobs that batches are made of, whichever of them this plan is to make."""
        return self.part.jobs if self.part else self.jobs

    def kinds(self) -> list[Job]:
        """Jobs that have between them all that jobs of the plan have besides prompts and seeds."""
        return self.jobs.kinds() if isinstance(self.jobs, Jobs) else list(self.jobs.values())


def listed(outline: Outline) -> Plan:
    """The plan of an outline; within the suite's own settings (`Suite.configured`)."""
    with no_collection():
        tally = outline.tally
        ids = tally.ids()
        choices: dict[str, Choice] = {}
        chosen = _choices(outline, ids, choices)
        cells: list[Cell] = []
        for row, numbers in zip(outline.rows, tally.rows, strict=True):
            of = chosen if row.choosing else ids
            prompts = chain.from_iterable(map(repeat, row.prompts, map(len, row.seeds)))
            cells += map(Cell, repeat(row.arm), prompts, chain.from_iterable(row.seeds), map(of.__getitem__, numbers))
        jobs = Jobs(tally, {ids[number]: number for number in tally.in_groups()})
        shared = {f.name: getattr(outline, f.name) for f in fields(Outline)}
        plan = Plan(**shared, jobs=jobs, choices=choices, cells=cells)
        plan.__dict__["tally"] = tally  # counted before
        return plan


def _choices(outline: Outline, ids: Mapping[int, str], choices: dict[str, Choice]) -> dict[int, str]:
    """The id of each choice by its number in the tally; `choices` gets them by id."""
    found: dict[int, str] = {}
    texts = {number: look.text for number, look in outline.tally.looks.items()}
    digests = {metric: metric_digest(metric) for metric in outline.tally.candidates}
    for (candidates, metric), number in outline.tally.choices.items():
        made = tuple([ids[one] for one in candidates])
        choice = Choice(made, metric, digests[metric], texts[look_of(candidates[0])])
        found[number] = name = choice_id(made, digests[metric])
        choice.__dict__["id"] = name  # as if it had been asked for
        choices.setdefault(name, choice)
    return found


_metric_digests: dict[MetricEntry, str] = {}
"""By entry, not by name: a suite may ask a metric with settings of its own."""


def metric_digest(name: str) -> str:
    """What tells the scores of a metric, as a suite has it, from those of another."""
    entry: MetricEntry = registry.get("metrics", name)
    if entry not in _metric_digests:
        _metric_digests[entry] = entry.digest()
    return _metric_digests[entry]
