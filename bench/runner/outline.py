"""What a suite makes, as arms, prompts and seeds rather than image by image; what that costs. Imports no torch.

A plan of 720,000 images is priced from here in seconds, where listing each with its id takes minutes. Images are whole
numbers: equal ones are one image, as equal ids are.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

from bench import registry
from bench.methods.base import Chain, Method
from bench.metrics.base import MetricEntry
from bench.models.base import ModelEntry
from bench.needs.base import Need
from bench.prompts.base import Prompt
from bench.runner.jobs import Arm, Job, Look, Template
from bench.sampling.records import Nfe
from bench.suite import Suite

PNG_BYTES_PER_PIXEL = {64: 0.35, 1024: 1.5}
"""Measured size of a PNG by side: flat shapes, and photographs at SDXL's size; the estimate takes the nearer."""
_SEED, _LOOK = 64, 24
"""Bits of an image's number that hold its seed and its prompt."""
_SEEDS = (1 << _SEED) - 1

Task = int | tuple[int, int]
"""An image's number, or a method's and its baseline's for a metric of pairs."""


@dataclass(frozen=True, eq=False)
class Row:
    """An arm: its prompts with their seeds, and what makes one image of each, or several and a choice."""

    arm: Arm
    prompts: Sequence[Prompt]
    looks: Sequence[Look]
    seeds: Sequence[Sequence[int]]
    """Of each prompt."""
    chain: Chain
    choosing: Method | None
    at: Callable[[int], Template]
    """The arm's jobs by number of steps."""
    _known: dict[int, tuple[tuple[Template, int], ...]] = field(default_factory=dict)

    def images(self, seed: int) -> tuple[tuple[Template, int], ...]:
        """The jobs and seeds of a cell's image, or of the candidates for it."""
        if seed not in self._known:
            self._known[seed] = tuple(self._images(seed))
        return self._known[seed]

    def _images(self, seed: int) -> Iterator[tuple[Template, int]]:
        if self.choosing is None:
            yield self.at(self.arm.steps), self.chain.seed(seed)
            return
        for one in self.choosing.candidates(seed):
            yield self.at(one.steps_of(self.arm.steps)), self.chain.seed(one.seed)

    def cells(self) -> Iterator[tuple[Prompt, Look, int]]:
        """Its prompts and seeds, one after the other."""
        for prompt, look, seeds in zip(self.prompts, self.looks, self.seeds, strict=True):
            for seed in seeds:
                yield prompt, look, seed


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A suite's arms and what they need."""

    suite: Suite
    rows: tuple[Row, ...]
    prompts: dict[str, list[Prompt]]
    """Those that the suite takes of each of its sets."""
    optimises: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By method label and model, the metrics that are no evidence for the method as it works with that model."""
    methods: dict[tuple[str, str], tuple[Method, ...]] = field(default_factory=dict)
    """By method label and model, the chain as it works with that model, what chooses included."""
    lacking: tuple[Need, ...] = ()
    """Files that are not here and without which some jobs' ids are unknown: such a plan is priced and never run."""
    learnt_from: dict[str, dict[str, list[list[str]]]] = field(default_factory=dict)
    """By method label and model, what its weights were tuned on beside named metrics, where there is any: traits, as
    (kind, name) in `bench.kinship`."""
    notes: tuple[str, ...] = ()
    """What of the suite is left out, and why."""
    times: int = 1
    """How many seeds each one of these stands for, where they are too many to go through: prices are of all."""

    @cached_property
    def tally(self) -> Tally:
        """Its images, counted."""
        with no_collection():
            return Tally(self.rows, self.suite.baseline)

    def nfe(self, job: Job) -> Nfe:
        """What one image costs by its method's closed form."""
        return job.chain.nfe(job.sampling, registry.get("samplers", job.sampler).calls(job.steps))

    def calls(self, job: Job) -> int:
        """Denoiser calls of one image, the noise stage's and gradients included."""
        return round(self.nfe(job).calls)

    def costs(self, known: Container[str] = ()) -> dict[str, float]:
        """images, denoiser calls, shared images, and estimates of seconds and bytes; `known` are in the cache."""
        tally = self.tally
        todo = tally.templates(known)
        with self.suite.configured():
            speeds: dict[str, ModelEntry] = {m: registry.get("models", m) for m in {t.job.model for t in todo}}
        calls = {template: n * self.calls(template.job) for template, n in todo.items()}
        seconds = sum(n * (speeds[t.job.model].call_ms or float("nan")) for t, n in calls.items()) / 1000
        cells = sum(map(len, tally.rows))
        counted = {
            "cells": cells,
            "images": len(tally.images),
            "choices": len(tally.choices),
            "shared": cells + sum(len(c) for c, _ in tally.choices) - len(tally.choices) - len(tally.images),
            "cached": len(tally.images) - todo.total(),
            "calls": sum(calls.values()),
            "seconds": seconds,
            "bytes": sum(n * _png_bytes(t.job.size) for t, n in todo.items()),
        }
        return {name: self.times * amount for name, amount in counted.items()}


@contextmanager
def no_collection() -> Iterator[None]:
    """Without the garbage collector, which would search a growing list of a million images for cycles: it has none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _png_bytes(size: tuple[int, int]) -> float:
    side = min(PNG_BYTES_PER_PIXEL, key=lambda s: abs(s - size[0]))
    return size[0] * size[1] * PNG_BYTES_PER_PIXEL[side]


def look_of(number: int) -> int:
    """The number of the prompt that an image shows."""
    return number >> _SEED & (1 << _LOOK) - 1


class _Place(NamedTuple):
    """What an arm is paired with its baseline in."""

    model: str
    prompts: str
    sampler: str
    steps: int
    guidance: float


def _place(arm: Arm) -> _Place:
    return _Place(arm.model, arm.prompts, arm.sampler, arm.steps, arm.guidance)


class Tally:
    """The images of some rows as numbers."""

    def __init__(self, rows: Sequence[Row], baseline: str) -> None:
        self.arms = rows
        self.images: dict[int, None] = {}
        """Those that are made, in the order of the rows."""
        self.choices: dict[tuple[tuple[int, ...], str], int] = {}
        """Numbers below zero of images that are chosen, by their candidates and the metric."""
        self.candidates: dict[str, set[int]] = {}
        """By the metric that chooses."""
        self.looks: dict[int, Look] = {}
        self.baseline = baseline
        self._templates: dict[str, int] = {}
        self._of: list[Template] = []
        self.rows: list[list[int]] = [self._numbers(row) for row in rows]
        """The image of each cell."""

    def templates(self, known: Container[str]) -> Counter[Template]:
        """How many images of each template have no id in `known`."""
        numbers = (number for number, name in self._named() if name not in known) if known else self.images
        counts = Counter(number >> _SEED + _LOOK for number in numbers)
        return Counter({self._of[of]: n for of, n in counts.items()})

    def ids(self) -> dict[int, str]:
        """The id of every image, in their order."""
        return dict(self._named())

    def _named(self) -> Iterator[tuple[int, str]]:
        """Every image with its id; what images of one prompt in an arm have in common is hashed once."""
        place = -1
        for number in self.images:
            if number >> _SEED != place:
                place = number >> _SEED
                prefix, end = self._of[place >> _LOOK].prefix(self.looks[look_of(number)])
            whole = prefix.copy()  # as `finished`, without a call for each of a million
            whole.update(b"%d%b" % (number & _SEEDS, end))
            yield number, whole.hexdigest()[:32]

    def in_groups(self) -> Iterator[int]:
        """Every image, those that can share a batch one after the other."""
        grouped: dict[tuple[Any, ...], list[int]] = {}
        groups = [grouped.setdefault(template.group, []) for template in self._of]
        for number in self.images:
            groups[number >> _SEED + _LOOK].append(number)
        return chain.from_iterable(grouped.values())

    def job(self, number: int, job_id: str) -> Job:
        """The job of an image, whose id is known."""
        return self._of[number >> _SEED + _LOOK].made(self.looks[look_of(number)], number & _SEEDS, job_id)

    def kinds(self, numbers: Iterable[int]) -> list[Job]:
        """One job for each arm and number of steps that some images are of."""
        some = {number >> _SEED + _LOOK for number in numbers}
        return [self._of[of].job for of in sorted(some)]

    def _numbers(self, row: Row) -> list[int]:
        self.looks |= {look.number: look for look in row.looks}
        if row.choosing is not None:
            return self._chosen(row, row.choosing.judge())
        made: dict[int, int] = {}
        for seed in set().union(*row.seeds):
            ((template, other),) = row.images(seed)
            made[seed] = self._number(template, other)
        places = [look.number << _SEED for look in row.looks]
        found = [place + made[seed] for place, seeds in zip(places, row.seeds, strict=True) for seed in seeds]
        self.images |= dict.fromkeys(found)
        return found

    def _chosen(self, row: Row, metric: str | None) -> list[int]:
        assert metric is not None
        asked: dict[int, list[int]] = {}
        for seed in set().union(*row.seeds):
            asked[seed] = [self._number(template, other) for template, other in row.images(seed)]
        made = [
            tuple([(look.number << _SEED) + one for one in asked[seed]])
            for look, seeds in zip(row.looks, row.seeds, strict=True)
            for seed in seeds
        ]
        images = list(chain.from_iterable(made))
        self.images |= dict.fromkeys(images)
        self.candidates.setdefault(metric, set()).update(images)
        return [self.choices.setdefault((one, metric), -1 - len(self.choices)) for one in made]

    def _number(self, template: Template, seed: int) -> int:
        of = self._templates.setdefault(template.key, len(self._templates))
        if of == len(self._of):
            self._of.append(template)
        return (of << _SEED + _LOOK) + seed

    # What is judged ---------------------------------------------------------------------------------------------------

    @cached_property
    def _judged(self) -> dict[object, set[Task]]:
        return {}

    def tasks(self, metric: MetricEntry) -> set[Task]:
        """What a metric of the suite judges, each once; the same set for metrics that judge the same."""
        pairs = metric.kind == "pair"
        sets = {row.arm.prompts: row.prompts for row in self.arms}
        judged = {name: self._of_set(metric, prompts) for name, prompts in sets.items()}
        key = (pairs, tuple(judged.items()))
        if key not in self._judged:
            self._judged[key] = set(self._pairs(judged) if pairs else self._images(judged))
        return self._judged[key]

    @staticmethod
    def _of_set(metric: MetricEntry, prompts: Sequence[Prompt]) -> tuple[bool, ...] | bool:
        """Which prompts of a set a metric judges; True for all of them."""
        judged = tuple(metric.judges(prompt.metadata) for prompt in prompts)
        return all(judged) or judged

    def _kept(self, row: Row, judged: tuple[bool, ...] | bool) -> list[bool]:
        each = [True] * len(row.prompts) if judged is True else judged
        assert not isinstance(each, bool)
        return [keep for keep, seeds in zip(each, row.seeds, strict=True) for _ in seeds]

    def _images(self, judged: dict[str, tuple[bool, ...] | bool]) -> Iterator[int]:
        for row, numbers in zip(self.arms, self.rows, strict=True):
            if judged[row.arm.prompts] is True:
                yield from numbers
            else:
                keep = self._kept(row, judged[row.arm.prompts])
                yield from (number for number, kept in zip(numbers, keep, strict=True) if kept)

    def _pairs(self, judged: dict[str, tuple[bool, ...] | bool]) -> Iterator[tuple[int, int]]:
        arms = list(zip(self.arms, self.rows, strict=True))
        bases = {_place(row.arm): numbers for row, numbers in arms if row.arm.method == self.baseline}
        for row, numbers in arms:
            base = bases.get(_place(row.arm))
            if row.arm.method == self.baseline or base is None:
                continue
            keep = self._kept(row, judged[row.arm.prompts])
            yield from ((n, b) for n, b, kept in zip(numbers, base, keep, strict=True) if kept)
