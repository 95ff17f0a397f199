"""A plan in n parts that make together, bit for bit, the images of the whole: for clusters without a scheduler of ours.

A shard has whole prompts, so that every choice and every pair is in one shard, and as many of them as fill batches.
Its batches are those of the whole plan; where one reaches into another shard, as where prompts have different numbers
of seeds, both make it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

from bench.errors import UserError
from bench.runner.generate import batches, by_model
from bench.runner.listing import Part, Plan


@dataclass(frozen=True)
class Shard:
    """One of several parts of a run."""

    index: int
    """From 1."""
    of: int

    def __str__(self) -> str:
        return f"shard {self.index} of {self.of}"

    @classmethod
    def of_pair(cls, given: Any) -> Shard:
        """From (i, n), as Python gives it; UserError where it is no such pair."""
        try:
            index, of = map(operator.index, given)
        except (TypeError, ValueError):
            index = of = 0
        if not 1 <= index <= of:
            raise UserError(f"shard={given!r}: expected (i, n) with i from 1 to n, such as (1, 8)")
        return cls(index, of)

    @property
    def suffix(self) -> str:
        """What its folder's name has besides the run's."""
        return f"-shard-{self.index}-of-{self.of}"


def split(plan: Plan, shard: Shard, *, batch: int, whole: str) -> Plan:
    """The part of a plan that is a shard, for batches of `batch` images; `whole` tells the plan from every other.

    UserError where there are fewer blocks of prompts than shards.
    """
    blocks = _blocks(plan, batch)
    if shard.of > len(blocks):
        raise UserError(
            f"--shard {shard.index}/{shard.of}: batches of {batch} images leave {len(blocks)} blocks of prompts to "
            "share; give fewer shards, or a smaller --batch-size to all of them"
        )
    first, last = (len(blocks) * k // shard.of for k in (shard.index - 1, shard.index))
    ours = {text for block in blocks[first:last] for text in block}
    at = [n for n, cell in enumerate(plan.cells) if cell.prompt.text in ours]
    cells = [plan.cells[n] for n in at]
    asked = {cell.job_id for cell in cells}
    choices = {name: one for name, one in plan.choices.items() if name in asked}
    needed = {name for name in asked if name not in choices}
    needed |= {candidate for one in choices.values() for candidate in one.candidates}
    made = _whole_batches(plan, needed, batch)
    part = Part(
        index=shard.index,
        of=shard.of,
        jobs=plan.jobs,
        batch=batch,
        cells=len(plan.cells),
        at=tuple(_runs(at)),
        whole=whole,
    )
    return replace(
        plan, cells=cells, choices=choices, part=part, jobs={i: plan.jobs[i] for i in plan.jobs if i in made}
    )


def _blocks(plan: Plan, batch: int) -> list[Sequence[str]]:
    """The prompts of a plan in blocks of which each fills batches, where all have as many seeds."""
    texts = list(dict.fromkeys(cell.prompt.text for cell in plan.cells))
    seeds = next((len(row.seeds[0]) for row in plan.rows if row.seeds), 1)
    size = batch // gcd(batch, max(1, seeds))
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _whole_batches(plan: Plan, needed: set[str], batch: int) -> set[str]:
    """The images of all batches that have a needed one."""
    found: set[str] = set()
    texts = [job.prompt for job in plan.jobs.values()]
    for of_model in by_model(plan.jobs.values()):
        for group in batches(of_model, batch, prompts=texts):
            ids = [job.id for job in group]
            if not needed.isdisjoint(ids):
                found.update(ids)
    return found


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Rising numbers as (first, how many) of those that follow one another."""
    first = count = 0
    for number in numbers:
        if count and number == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = number, 1
    if count:
        yield first, count
