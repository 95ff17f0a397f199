"""One arm of one ledger as columns, and the rows that two arms have in common: what `compare` and `power` stand on.

Ledgers are opened read-only and read as they stood at one moment, so a run that is still being made can be read too.
Reading goes arm by arm, so that memory is that of a few arms, whatever the size of the ledger.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bench import registry
from bench.arms import carried_keys
from bench.errors import NotComparable
from bench.evidence import learnt_from
from bench.kinship import dependences
from bench.metrics.base import MetricEntry
from bench.plan import Arm, known_metrics
from bench.prompts.base import Prompt
from bench.results import load_suite, metrics_of
from bench.score import prompt_key
from bench.store import Ledger, lost_images
from bench.suite import Suite

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Words = NDArray[np.object_]

TIMES = ("encode_ms", "noise_ms", "sampling_ms", "decode_ms", "select_ms")
CALLS = ("calls_noise", "calls_sampling")
_NUMBERS = (*TIMES, *CALLS, "peak_bytes", "batch", "from_cache")
_WORDS = ("digest", "latent_digest", "hardware", "peak_kind")
_SCORES = ("scores", "pair_scores", "features")
_SEEDS = 2**31  # a seed is below this: index and seed fit one integer


@dataclass(frozen=True)
class Rows:
    """An arm's cells as columns of equal length, in the order of prompt set, prompt index and seed."""

    places: Ints
    """What a row is paired by within a prompt set: prompt index and seed in one number, ascending."""
    texts: Words
    """The prompt's text, which is the cluster."""
    keys: Words
    """`bench.score.prompt_key`: text and metadata, all that a metric sees of a prompt."""
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
    same = alike(a.keys[left], b.keys[right])
    return left[same], right[same], int((~same).sum())


def alike(a: Words, b: Words) -> NDArray[np.bool_]:
    """Where two columns of texts are equal, (n,)."""
    return np.asarray(a == b, dtype=bool)


class Source:
    """A run folder's ledger, read-only and as it stood when it was opened."""

    def __init__(self, folder: Path):
        """Raises UserError where no readable ledger is, NotComparable for one without any cell."""
        self.folder = folder
        self.ledger = Ledger(folder, read_only=True)
        self.db = self.ledger.db
        self._scorer: dict[str, str | None] = {}
        self._keys: dict[tuple[str, str | None], str] = {}
        try:
            # One read transaction: what another process writes meanwhile is not seen.
            self.db.execute("BEGIN")
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
        query = "SELECT {0}, COUNT(*) FROM cells GROUP BY {0}".format(
            "method, model, prompts, sampler, steps, guidance"
        )
        found = {Arm(*row[:-1]): int(row[-1]) for row in self.db.execute(query)}
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
        query = "SELECT COUNT(*) FROM cells JOIN images USING (job_id)"
        return int(self.db.execute(query).fetchone()[0])

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
        parts = (f"SELECT metric, scorer, COUNT(*) FROM {table} GROUP BY metric, scorer" for table in _SCORES)
        for metric, scorer, n in self.db.execute(" UNION ALL ".join(parts)):
            found[metric][scorer] = n
        return dict(found)

    def scorer(self, metric: str) -> str | None:
        """The scorer that stands for a metric of this run: the last session's, else the one that judged most."""
        if metric not in self._scorer:
            last = (self.provenance.get("weights") or {}).get(metric)
            if last is None or not self._judged_by(metric, last):
                known = self.scorers.get(metric, {})
                last = max(known, key=lambda scorer: known[scorer], default=None)
            self._scorer[metric] = last
        return self._scorer[metric]

    def _judged_by(self, metric: str, scorer: str) -> bool:
        queries = (f"SELECT 1 FROM {table} WHERE metric = ? AND scorer = ? LIMIT 1" for table in _SCORES)
        return any(self.db.execute(query, (metric, scorer)).fetchone() for query in queries)

    @cached_property
    def sessions(self) -> list[tuple[str, dict[str, Any]]]:
        """When each session began, and its provenance."""
        rows = self.db.execute("SELECT started, provenance FROM sessions ORDER BY id").fetchall()
        return [(started, json.loads(provenance)) for started, provenance in rows]

    @property
    def provenance(self) -> dict[str, Any]:
        """The last session's."""
        return self.sessions[-1][1] if self.sessions else {}

    def marked(self, arm: Arm) -> list[str]:
        """The metrics that the arm's method optimises, as the run's plan found it."""
        planned = self.ledger.get("optimises") or {}
        return list((planned.get(arm.method) or {}).get(arm.model) or [])

    def siblings(self, arm: Arm, entries: Iterable[MetricEntry]) -> list[str]:
        """Those metrics that are no independent evidence for the arm's method, as `bench.evidence` has it."""
        learnt = learnt_from(self.ledger, arm.method, arm.model)
        return [one.metric for one in dependences(entries, known_metrics(self.marked(arm)), learnt)]

    def rows(self, arm: Arm, scorers: dict[str, str]) -> Rows:
        """The arm's cells with their images, and their scores by the scorer of each metric in `scorers`."""
        columns = ", ".join((*_WORDS, *_NUMBERS))
        query = (
            f"SELECT prompt_index, seed, prompt, metadata, {columns} FROM cells LEFT JOIN images USING (job_id) "
            "WHERE method = ? AND model = ? AND prompts = ? AND sampler = ? AND steps = ? AND guidance = ? "
            "ORDER BY prompt_index, seed"
        )
        of = (arm.method, arm.model, arm.prompts, arm.sampler, arm.steps, arm.guidance)
        found = list(zip(*self.db.execute(query, of), strict=True)) or [()] * (4 + len(_WORDS) + len(_NUMBERS))
        index, seed, text, metadata, *rest = found
        for pair in zip(text, metadata, strict=True):
            if pair not in self._keys:
                data = json.loads(pair[1]) if pair[1] else None
                self._keys[pair] = prompt_key(Prompt(0, pair[0], metadata=data))
        words = {name: _words(column) for name, column in zip(_WORDS, rest, strict=False)}
        keys = _words([self._keys[pair] for pair in zip(text, metadata, strict=True)])
        kinds = {name: registry.get("metrics", name).kind for name in scorers}
        self._want(words["digest"], keys, self._baselines(arm, zip(index, seed, strict=True)))
        scores = self._scores(len(keys), scorers, kinds)
        if arm.method == self.suite.baseline:
            scores |= {name: np.where(words["digest"] != None, 0.0, np.nan)  # noqa: E711 - elementwise
                       for name, kind in kinds.items() if kind == "pair"}  # fmt: skip
        return Rows(
            np.array(index, dtype=np.int64) * _SEEDS + np.array(seed, dtype=np.int64),
            _words(text),
            keys,
            _words([carried_keys(m) for m in metadata]),
            {n: np.array(column, dtype=np.float64) for n, column in zip(_NUMBERS, rest[len(_WORDS) :], strict=True)},
            words,
            scores,
            {name: self._features(len(keys), name, scorers[name]) for name in scorers if kinds[name] == "set"},
        )

    def _baselines(self, arm: Arm, places: Iterable[tuple[int, int]]) -> list[str | None]:
        """The digest of the baseline's image at each of the arm's places (prompt index, seed)."""
        query = (
            "SELECT prompt_index, seed, digest FROM cells JOIN images USING (job_id) "
            "WHERE method = ? AND model = ? AND prompts = ? AND sampler = ? AND steps = ? AND guidance = ?"
        )
        of = (self.suite.baseline, arm.model, arm.prompts, arm.sampler, arm.steps, arm.guidance)
        found = {(index, seed): digest for index, seed, digest in self.db.execute(query, of)}
        return [found.get(place) for place in places]

    def _want(self, digests: Words, keys: Words, baselines: list[str | None]) -> None:
        """Say which images, judged against which prompts and beside which baseline's images, are looked up next."""
        self.db.execute(
            "CREATE TEMP TABLE IF NOT EXISTS wanted (row INTEGER PRIMARY KEY, digest TEXT, prompt TEXT, baseline TEXT)"
        )
        self.db.execute("DELETE FROM wanted")
        rows = zip(range(len(keys)), digests.tolist(), keys.tolist(), baselines, strict=True)
        self.db.executemany("INSERT INTO wanted VALUES (?, ?, ?, ?)", (row for row in rows if row[1] is not None))

    def _scores(self, n: int, scorers: dict[str, str], kinds: dict[str, str]) -> dict[str, Floats]:
        """Values (n,) by metric of what is wanted; one look-up an image finds all of its metrics."""
        number = {pair: i for i, pair in enumerate(scorers.items())}
        values = np.full((len(scorers), n), np.nan)
        # CROSS JOIN holds SQLite to this order: from the wanted few into the scores, not through all of them.
        for kind, columns in (
            ("image", "value FROM wanted CROSS JOIN scores USING (digest, prompt)"),
            ("pair", "2 * value - 1 FROM wanted CROSS JOIN pair_scores USING (digest, baseline, prompt)"),
        ):
            read = self.db.execute(f"SELECT row, metric, scorer, {columns}")
            while some := read.fetchmany(50_000):
                row, metric, scorer, value = zip(*some, strict=True)
                which = [number.get(of, -1) if kinds.get(of[0]) == kind else -1
                         for of in zip(metric, scorer, strict=True)]  # fmt: skip
                there = np.array(which) >= 0
                values[np.array(which)[there], np.array(row)[there]] = np.array(value)[there]
        return dict(zip(scorers, values, strict=True))

    def _features(self, n: int, metric: str, scorer: str) -> Words:
        query = (
            "SELECT row, features FROM wanted CROSS JOIN features USING (digest, prompt) "
            "WHERE metric = ? AND scorer = ?"
        )
        found = np.full(n, None, dtype=object)
        for row, features in self.db.execute(query, (metric, scorer)):
            found[row] = features
        return found


def setting_of(arm: Arm) -> tuple[str, str, int, float]:
    """Model, sampler, steps, guidance: what a comparison holds fixed."""
    return arm.model, arm.sampler, arm.steps, arm.guidance


def _words(values: Any) -> Words:
    """Texts as an object column; a plain `np.array` would pad all to the longest."""
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found
