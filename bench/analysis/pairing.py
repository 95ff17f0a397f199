"""One arm of one ledger as columns, and the rows that two arms have in common: what `compare` and `power` stand on.

Ledgers are opened read-only and read as they stood at one moment, so a run that is still being made can be read too.
Reading goes arm by arm, so that memory is that of a few arms, whatever the size of the ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bench import registry
from bench.analysis.evidence import learnt_from
from bench.analysis.results import load_suite, metrics_of
from bench.errors import NotComparable
from bench.kinship import dependences
from bench.metrics.base import MetricEntry
from bench.runner.plan import Arm, known_metrics
from bench.store import CALLS, TIMES, Ledger, lost_images
from bench.store.keys import carried_keys, key_of
from bench.store.rows import ArmKey, CellImage, Session
from bench.suite import Suite

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Words = NDArray[np.object_]

_NUMBERS = (*TIMES, *CALLS, "peak_bytes", "batch", "from_cache")
_WORDS = ("digest", "latent_digest", "hardware", "peak_kind")
_SEEDS = 2**31  # a seed is below this: index and seed fit one integer


@dataclass(frozen=True)
class Rows:
    """An arm's cells as columns of equal length, in the order of prompt set, prompt index and seed."""

    places: Ints
    """What a row is paired by within a prompt set: prompt index and seed in one number, ascending."""
    texts: Words
    """The prompt's text, which is the cluster."""
    keys: Words
    """`bench.store.prompt_key`: text and metadata, all that a metric sees of a prompt."""
    carried: Words
    """The keys of the metadata that the prompt carries."""
    numbers: dict[str, Floats]
    """What an image cost, by name; NaN where the image is not there yet."""
    words: dict[str, Words]
    """Digests, hardware and kind of memory, by name; None where the image is not there yet."""
    scores: dict[str, Floats]
    """Values by metric; NaN where there is none. Of a metric of pairs 2p - 1, the baseline's own being 0."""
    features: dict[str, Words]
    """By set metric, the ledger's float32 bytes; None where there are none."""

    def __len__(self) -> int:
        return len(self.places)

    @property
    def made(self) -> NDArray[np.bool_]:
        """Which images are there."""
        return ~np.isnan(self.numbers["sampling_ms"])

    @cached_property
    def total_ms(self) -> Floats:
        """All stages of an image together."""
        return np.sum([self.numbers[name] for name in TIMES], axis=0)

    def take(self, rows: NDArray[Any]) -> Rows:
        """Some of the rows, by number or by mask."""
        return Rows(
            self.places[rows],
            self.texts[rows],
            self.keys[rows],
            self.carried[rows],
            {name: column[rows] for name, column in self.numbers.items()},
            {name: column[rows] for name, column in self.words.items()},
            {name: column[rows] for name, column in self.scores.items()},
            {name: column[rows] for name, column in self.features.items()},
        )


def joined(parts: list[Rows]) -> Rows:
    """Several prompt sets' rows as one."""

    def columns(name: str) -> dict[str, Any]:
        return {key: np.concatenate([getattr(p, name)[key] for p in parts]) for key in getattr(parts[0], name)}

    return Rows(
        np.concatenate([p.places for p in parts]),
        np.concatenate([p.texts for p in parts]),
        np.concatenate([p.keys for p in parts]),
        np.concatenate([p.carried for p in parts]),
        columns("numbers"),
        columns("words"),
        columns("scores"),
        columns("features"),
    )


def in_common(a: Rows, b: Rows) -> tuple[Ints, Ints, int]:
    """Row numbers in a and in b of the same prompt and seed, (n,) each, and how many places hold another prompt."""
    _, left, right = np.intersect1d(a.places, b.places, assume_unique=True, return_indices=True)
    same = same_texts(a.keys[left], b.keys[right])
    return left[same], right[same], int((~same).sum())


def same_texts(a: Words, b: Words) -> NDArray[np.bool_]:
    """Where two columns of texts are equal, (n,)."""
    return np.asarray(a == b, dtype=bool)


class Source:
    """A run folder's ledger, read-only and as it stood when it was opened."""

    def __init__(self, folder: Path):
        """Raises UserError where no readable ledger is, NotComparable for one without any cell."""
        self.folder = folder
        self.ledger = Ledger(folder, read_only=True)
        self._scorer: dict[str, str | None] = {}
        try:
            self.ledger.hold_still()
            self.suite: Suite = load_suite(self.ledger)
            self.arms: dict[Arm, int] = self._arms()
            if not self.arms:
                raise NotComparable(f"{folder}: an empty run (its ledger has no cell); run the suite first")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.ledger.close()

    def _arms(self) -> dict[Arm, int]:
        """Every arm with its number of cells, in the order of settings, prompt sets and the suite's methods."""
        found = {Arm(*row[:-1]): row.cells for row in self.ledger.arms()}
        methods = {spec.label: i for i, spec in enumerate(self.suite.methods)}
        sets = {name: i for i, name in enumerate(self.suite.prompts)}
        return dict(
            sorted(
                found.items(),
                key=lambda item: (*setting_of(item[0]), sets.get(item[0].prompts, 0), methods.get(item[0].method, 0)),
            )
        )

    @cached_property
    def metrics(self) -> list[str]:
        """The suite's metrics, and those that were added to the run since."""
        return metrics_of(self.ledger, self.suite)

    @cached_property
    def n_images(self) -> int:
        """How many cells have their image."""
        return self.ledger.n_images()

    @property
    def n_cells(self) -> int:
        return sum(self.arms.values())

    @property
    def finished(self) -> bool:
        """Whether the run came to its end; its image files may have been deleted since."""
        return self.ledger.get("finished") is not None and self.n_images == self.n_cells

    def lost(self) -> int:
        """How many image files of the ledger are no longer in the folder."""
        return lost_images(self.ledger)

    @cached_property
    def scorers(self) -> dict[str, dict[str, int]]:
        """By metric, the digest of every scorer that judged images here, and of how many; reads all scores."""
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for one in self.ledger.all_scorers():
            found[one.metric][one.scorer] = one.n
        return dict(found)

    def scorer(self, metric: str) -> str | None:
        """The scorer that stands for a metric of this run: the last session's, else the one that judged most."""
        if metric not in self._scorer:
            last = (self.provenance.get("weights") or {}).get(metric)
            if last is None or not self.ledger.judged_by(metric, last):
                known = self.scorers.get(metric, {})
                last = max(known, key=lambda scorer: known[scorer], default=None)
            self._scorer[metric] = last
        return self._scorer[metric]

    @cached_property
    def sessions(self) -> list[Session]:
        """Every session, the first one first."""
        return self.ledger.sessions()

    @property
    def provenance(self) -> dict[str, Any]:
        """The last session's."""
        return self.sessions[-1].provenance if self.sessions else {}

    def marked(self, arm: Arm) -> list[str]:
        """The metrics that the arm's method optimises, as the run's plan found it."""
        planned = self.ledger.get("optimises") or {}
        return list((planned.get(arm.method) or {}).get(arm.model) or [])

    def siblings(self, arm: Arm, entries: Iterable[MetricEntry]) -> list[str]:
        """Those metrics that are no independent evidence for the arm's method, as `bench.analysis.evidence` has it."""
        learnt = learnt_from(self.ledger, arm.method, arm.model)
        return [one.metric for one in dependences(entries, known_metrics(self.marked(arm)), learnt)]

    def rows(self, arm: Arm, scorers: dict[str, str]) -> Rows:
        """The arm's cells with their images, and their scores by the scorer of each metric in `scorers`."""
        cells = self.ledger.arm(_key(arm))
        read = dict(zip(CellImage._fields, zip(*cells, strict=True), strict=True)) if cells else {}
        columns: dict[str, Sequence[Any]] = {name: read.get(name, ()) for name in CellImage._fields}
        words = {name: _words(columns[name]) for name in _WORDS}
        keys = _words([key_of(cell.prompt, cell.metadata) for cell in cells])
        kinds = {name: registry.get("metrics", name).kind for name in scorers}
        theirs = self.ledger.digests(_key(replace(arm, method=self.suite.baseline)))
        bases = [theirs.get((cell.prompt_index, cell.seed)) for cell in cells]
        self.ledger.look_up(zip(words["digest"].tolist(), keys.tolist(), bases, strict=True))
        scores = self._scores(len(cells), scorers, kinds)
        if arm.method == self.suite.baseline:
            scores |= {name: np.where(words["digest"] != None, 0.0, np.nan)  # noqa: E711 - elementwise
                       for name, kind in kinds.items() if kind == "pair"}  # fmt: skip
        index, seed = (np.array(columns[name], dtype=np.int64) for name in ("prompt_index", "seed"))
        return Rows(
            index * _SEEDS + seed,
            _words(columns["prompt"]),
            keys,
            _words([carried_keys(cell.metadata) for cell in cells]),
            {name: np.array(columns[name], dtype=np.float64) for name in _NUMBERS},
            words,
            scores,
            {name: self._features(len(cells), name, scorers[name]) for name in scorers if kinds[name] == "set"},
        )

    def _scores(self, n: int, scorers: dict[str, str], kinds: dict[str, str]) -> dict[str, Floats]:
        """Values (n,) by metric of what is looked up; one look-up an image finds all of its metrics."""
        number = {pair: i for i, pair in enumerate(scorers.items())}
        values = np.full((len(scorers), n), np.nan)
        for kind in ("image", "pair"):
            for some in self.ledger.found(kind):
                row, metric, scorer, value = zip(*some, strict=True)
                which = np.array([number.get(of, -1) if kinds.get(of[0]) == kind else -1
                                  for of in zip(metric, scorer, strict=True)])  # fmt: skip
                there = which >= 0
                values[which[there], np.array(row)[there]] = np.array(value)[there]
        return dict(zip(scorers, values, strict=True))

    def _features(self, n: int, metric: str, scorer: str) -> Words:
        found = np.full(n, None, dtype=object)
        for row, features in self.ledger.found_features(metric, scorer):
            found[row] = features
        return found


def _key(arm: Arm) -> ArmKey:
    return arm.method, arm.model, arm.prompts, arm.sampler, arm.steps, arm.guidance


def setting_of(arm: Arm) -> tuple[str, str, int, float]:
    """Model, sampler, steps, guidance: what a comparison holds fixed."""
    return arm.model, arm.sampler, arm.steps, arm.guidance


def _words(values: Any) -> Words:
    """Texts as an object column; a plain `np.array` would pad all to the longest."""
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found
