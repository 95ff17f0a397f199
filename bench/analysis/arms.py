"""Ledgers as arms: one method under one protocol, its scores and costs as columns, row for row with its pairs.

A pair is a prompt of a set and a seed; every method's image of a pair began from the same noise. Pairs, prompts and
images are numbers here, so that a run of a million scores is a few arrays. Several ledgers are read as one where
they agree on what they share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.image_columns import Images as Images
from bench.analysis.judged import Features, Judged
from bench.errors import NotComparable
from bench.metrics.base import MetricEntry
from bench.moved import moved
from bench.prompts.base import Prompt
from bench.store import Ledger, columns
from bench.store.keys import carried_keys, key_of
from bench.store.rows import ArmCells, Setting
from bench.suite import EVERY_PROMPT_SET, Suite

POOLED = EVERY_PROMPT_SET
"""Stands for all prompt sets together."""

Place = tuple[Setting, str, str]
"""Setting, method, prompt set: what an arm is."""
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt of a set, and a seed. Pairs sort by set, index and seed."""

    prompts: str
    index: int
    seed: int
    text: str
    category: str
    metadata: str | None
    """All else that the prompt carries, as the ledger has it: JSON."""

    @property
    def carried(self) -> frozenset[str]:
        """The keys of the metadata, which say their kind."""
        return carried_keys(self.metadata)

    @property
    def shown(self) -> Prompt:
        """The prompt as metrics see it."""
        return Prompt(self.index, self.text, self.category, json.loads(self.metadata) if self.metadata else None)

    @property
    def key(self) -> tuple[str, int, int]:
        return self.prompts, self.index, self.seed


@dataclass
class MeasuredArm:
    """One method under one protocol on one prompt set, or on all of them; columns are sorted by pair."""

    setting: Setting
    method: str
    prompts: str
    pair: Ints
    """Number of each pair, (n,)."""
    image: Ints
    """Row of its image, (n,); -1 where it is not there yet."""
    unit: Ints
    """What scorers judged of it, (n,), as `Measured.features` counts; -1 where there is no image."""
    scores: Floats
    """(metrics, n), NaN where there is no score. For a metric of pairs 2p - 1, the baseline's being 0; for one of sets
    always NaN: see `Measured.features`."""
    asked: frozenset[str]
    """The metrics that its run asks for."""

    @property
    def labels(self) -> dict[str, Any]:
        model, sampler, steps, guidance = self.setting
        return {
            "model": model,
            "prompts": self.prompts,
            "sampler": sampler,
            "steps": steps,
            "guidance": guidance,
            "method": self.method,
        }

    def made(self) -> Ints:
        """Rows of the images that are there."""
        return self.image[self.image >= 0]


@dataclass
class Measured:
    """All arms of one run or several, and what their numbers stand for."""

    pairs: list[Pair]
    texts: Ints
    """The prompt text of each pair as a number; numbers are in the order of the texts."""
    images: Images
    metrics: list[str]
    arms: list[MeasuredArm] = field(default_factory=list)
    features: dict[str, Features] = field(default_factory=dict)
    """By set metric."""
    unused: dict[str, int] = field(default_factory=dict)
    """Scores by another version of a metric's scorer, which count for nothing, by metric."""
    ms: dict[str, tuple[float, int]] = field(default_factory=dict)
    """(milliseconds of all scores by a metric's scorer, how many were timed) by metric."""


@dataclass
class _Cells:
    """The cells of one arm while they are read: job id and image row by pair, and whose they are."""

    jobs: dict[int, str] = field(default_factory=dict)
    rows: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Image row and scored unit by pair; -1 where not there."""
    asked: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Met:
    """The pairs of an arm as they were met; another arm of the set with the same columns has the same."""

    columns: tuple[Sequence[Any], ...]
    pairs: list[int]
    keys: list[str]
    """The prompts' keys, as scores have them."""


class _Reader:
    """Reads ledgers one after the other and holds what they have in common to be the same."""

    def __init__(self, entries: Mapping[str, MetricEntry], scorers: Mapping[str, str]):
        self.images = Images()
        self.judged = Judged(entries, scorers)
        self.pairs: dict[tuple[str, int, int], int] = {}
        self.met: list[Pair] = []
        self.cells: dict[Place, _Cells] = {}
        self.baseline = ""
        self._last: dict[str, _Met] = {}
        """By prompt set."""

    def read(self, ledger: Ledger, suite: Suite, run: int, asked: Sequence[str]) -> None:
        self.baseline = suite.baseline
        rows = self.images.read(ledger, run)
        digests = self.images.words["digest"]
        for arm in ledger.arms():
            found = columns.arm_cells(ledger, arm[:-1])
            met = self._met(ledger, arm.prompts, found)
            images = [rows.get(job, -1) for job in found["job_id"]]
            units = self.judged.number(
                (digests[image], key) if image >= 0 else None for image, key in zip(images, met.keys, strict=True)
            )
            cells = self.cells.setdefault(((arm.model, arm.sampler, arm.steps, arm.guidance), arm.method, arm.prompts),
                                          _Cells())  # fmt: skip
            cells.asked.update(asked)
            self._check(ledger, arm, cells, met, found)
            cells.jobs.update(zip(met.pairs, found["job_id"], strict=True))
            made = {pair: row for pair, row in cells.rows.items() if row[0] >= 0}  # the first run's image counts
            cells.rows.update(zip(met.pairs, zip(images, units, strict=True), strict=True))
            cells.rows.update(made)
        self.judged.read(ledger)

    def _check(
        self, ledger: Ledger, arm: ArmCells, cells: _Cells, met: _Met, found: Mapping[str, Sequence[Any]]
    ) -> None:
        """NotComparable where an image is another one than in the runs before."""
        for at, (pair, job) in enumerate(zip(met.pairs, found["job_id"], strict=True) if cells.jobs else ()):
            if cells.jobs.get(pair, job) != job:
                raise NotComparable(
                    f"{ledger.folder}: {arm.method} on {arm.model} ({arm.prompts} {found['prompt_index'][at]}, seed "
                    f"{found['seed'][at]}) is another image than in the run before it (other weights, or another "
                    "version of the method); report these runs apart"
                )

    def _met(self, ledger: Ledger, prompts: str, found: Mapping[str, Sequence[Any]]) -> _Met:
        """The pairs of an arm's cells, numbered as they are met."""
        these = tuple(found[name] for name in ("prompt_index", "seed", "prompt", "metadata"))
        last = self._last.get(prompts)
        if last is not None and last.columns == these:
            return last
        cells = list(zip(*these[:3], found["category"], these[3], strict=True))
        pairs = [self._pair(ledger, Pair(prompts, *cell)) for cell in cells]
        self._last[prompts] = met = _Met(these, pairs, [*map(key_of, these[2], these[3])])
        return met

    def _pair(self, ledger: Ledger, pair: Pair) -> int:
        number = self.pairs.setdefault(pair.key, len(self.pairs))
        if number == len(self.met):
            self.met.append(pair)
        elif self.met[number].text != pair.text:
            raise NotComparable(
                f"{ledger.folder}: prompt {pair.index} of {pair.prompts} is another text than in the run before "
                "it; the prompt set has changed, report these runs apart"
            )
        return number

    def measured(self) -> Measured:
        """What was read, with pairs numbered in their order."""
        order = sorted(range(len(self.met)), key=lambda i: self.met[i].key)
        pairs = [self.met[i] for i in order]
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        number = {text: i for i, text in enumerate(sorted({p.text for p in pairs}))}
        texts = np.array([number[p.text] for p in pairs], dtype=np.int64)
        scores, names = self.judged.scores(), list(self.judged.entries)
        result = Measured(pairs, texts, self.images, names, features=self.judged.features(),
                          unused={name: n for name, n in self.judged.unused.items() if n},
                          ms=self.judged.ms)  # fmt: skip
        for (setting, method, prompts), cells in self.cells.items():
            at = rank[list(cells.rows)]
            image, unit = np.array(list(cells.rows.values()), dtype=np.int64).T[:, np.argsort(at)]
            asked = frozenset(cells.asked)
            arm = MeasuredArm(setting, method, prompts, np.sort(at), image, unit, scores[:, unit], asked)
            result.arms.append(arm)
        for row, (name, entry) in enumerate(self.judged.entries.items()):
            if entry.kind == "pair":
                self._prefer(result, row, name, entry)
        return result

    def _prefer(self, found: Measured, row: int, name: str, entry: MetricEntry) -> None:
        """Fill in the scores of a metric of pairs: each image's against the baseline's of its place."""
        bases = {(a.setting, a.prompts): a for a in found.arms if a.method == self.baseline}
        looked = {place: np.zeros(len(found.pairs), dtype=bool) for place in bases}
        for arm in found.arms:
            base = bases.get((arm.setting, arm.prompts))
            if base is None or arm is base:
                continue
            theirs = np.full(len(found.pairs), -1)
            theirs[base.pair] = base.unit
            arm.scores[row] = self.judged.preferences(name, arm.unit, theirs[arm.pair])
            looked[arm.setting, arm.prompts][arm.pair[~np.isnan(arm.scores[row])]] = True
        judged = np.array([entry.judges(p.carried) for p in found.pairs], dtype=bool)
        for place, base in bases.items():
            there = (base.unit >= 0) & judged[base.pair]
            if entry.partial:  # people look at some pairs only
                there &= looked[place][base.pair]
            base.scores[row] = np.where(there, 0.0, np.nan)


def read_arms(
    runs: Sequence[tuple[Ledger, Suite, Sequence[str]]], entries: Mapping[str, MetricEntry], scorers: Mapping[str, str]
) -> Measured:
    """The arms of runs given as (ledger, suite, metrics asked for), in the order of settings, sets and methods.

    `entries` are the metrics to read, `scorers` the digest of each one's scorer. Raises NotComparable where two
    runs have different images, or different prompts, under one name.
    """
    reader = _Reader(entries, scorers)
    for number, (ledger, suite, asked) in enumerate(runs):
        reader.read(ledger, suite, number, asked)
    found = reader.measured()
    methods, sets = (
        _ranks(s.label for _, suite, _ in runs for s in suite.methods),
        _ranks(p for _, suite, _ in runs for p in suite.prompts),
    )
    found.arms.sort(key=lambda a: (a.setting, sets[a.prompts], methods[a.method]))
    return found


def _ranks(names: Any) -> dict[str, int]:
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def with_pooled(arms: Sequence[MeasuredArm]) -> list[MeasuredArm]:
    """The arms, and for every setting and method one over all prompt sets."""
    groups: dict[tuple[Setting, str], list[MeasuredArm]] = {}
    for arm in arms:
        groups.setdefault((arm.setting, arm.method), []).append(arm)
    return [*arms, *(_pooled(some) for some in groups.values())]


def _pooled(arms: Sequence[MeasuredArm]) -> MeasuredArm:
    pair = np.concatenate([a.pair for a in arms])
    order = np.argsort(pair)
    return MeasuredArm(
        arms[0].setting,
        arms[0].method,
        POOLED,
        pair[order],
        np.concatenate([a.image for a in arms])[order],
        np.concatenate([a.unit for a in arms])[order],
        np.concatenate([a.scores for a in arms], axis=1)[:, order],
        frozenset().union(*(a.asked for a in arms)),
    )


if not TYPE_CHECKING:
    __getattr__ = moved("bench.analysis.arms", {"cost_of": "bench.analysis.costs"})
