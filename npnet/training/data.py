"""The pairs that a training reads: chosen by selection, memory-mapped where they lie, split by prompt. No torch.

Rows of the shards are read when a batch asks for them, so a collection may be larger than the memory; what is read
often stays in the operating system's page cache, and small collections so cost no disk at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, field_validator

from bench.errors import UserError
from bench.suite import document as suite_yaml
from npnet.pairs import dataset
from npnet.pairs.mapped import Rows, memory_mapped
from npnet.pairs.scores import Scores, read_scores
from npnet.pairs.select import Mode, Rule, Selection, describe, read_selection, select

SPLIT = 2
"""Version of `split`: an unfinished training of another one does not resume, its validation prompts would change."""


class SelectionSettings(BaseModel):
    """Which pairs of the collections are learnt from: rules, or files written by `npnet select`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: tuple[Path, ...] = ()
    """Selection files, one for each collection; then nothing else is given."""
    metrics: tuple[str, ...] = ()
    """Metrics whose scores judge a pair."""
    threshold: float | tuple[float, ...] = 0.0
    """m in s0 + m < s0': one for every metric, or one for each in their order."""
    mode: Mode = "all"
    """Whether all metrics have to agree, or one is enough."""

    @field_validator("threshold", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, bool) or not isinstance(one, int | float):
                said = (
                    f"'threshold' should be a number, or a list of one for each metric, got {suite_yaml.shown(value)}"
                )
                suite_yaml.fault(said)
        return value

    def rules(self) -> list[Rule]:
        """The rules that the metrics and thresholds say; UserError where their numbers do not fit."""
        many = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,) * len(self.metrics)
        if len(many) != len(self.metrics) or bool(self.metrics) == bool(self.file):
            raise UserError(
                f"selection: {len(self.metrics)} metrics, {len(many)} thresholds and {len(self.file)} files; give "
                "metrics with one threshold, or with one each, or selection files, or none"
            )
        return [Rule(metric=name, threshold=m) for name, m in zip(self.metrics, many, strict=True)]


@dataclass(frozen=True)
class Chosen:
    """A collection, and which of its pairs are learnt from."""

    scores: Scores
    selection: Selection | None
    """None for a training without selection."""
    places: np.ndarray
    """Places in `scores` of the chosen pairs, rising."""

    def record(self) -> dict[str, Any]:
        """For a checkpoint's provenance: the collection's protocol, and what was kept of how many pairs."""
        protocol = self.scores.protocol
        picked = self.selection
        return {
            "protocol": protocol.digest(),
            **protocol.model_dump(mode="json"),
            "seen": len(self.scores),
            "kept": len(self.places),
            "not_finite": picked.not_finite if picked else 0,
            "filter_rate": picked.filter_rate if picked else 0.0,
            "rules": [rule.model_dump() for rule in picked.rules] if picked else [],
            "mode": picked.mode if picked else None,
            "scorers": picked.scorers if picked else {},
        }


@dataclass(frozen=True)
class Pairs:
    """Chosen pairs of one model: noises (N, C, h, w), and a number of its prompt for each (N,)."""

    protocol: dataset.Protocol
    """Of the first collection; all share its model and latent."""
    source: Rows
    target: Rows
    prompt: np.ndarray
    prompts: tuple[str, ...]
    """Distinct prompts, in order of first appearance; some may have no pair here."""
    digest: str
    """16 hex digits over the collections' protocols and the numbers of the chosen pairs."""

    def __len__(self) -> int:
        return len(self.prompt)


def choose(folders: Sequence[Path], settings: SelectionSettings | None) -> list[Chosen]:
    """Read collections of one model and choose their pairs; UserError for broken, foreign, empty or repeated ones."""
    # Both are wrong before a shard is read, which may take minutes.
    rules = settings.rules() if settings is not None else []
    selections = [read_selection(path) for path in settings.file] if settings is not None else []
    scores = [read_scores(folder) for folder in folders]
    first = scores[0].protocol
    for other in scores[1:]:
        for name in ("model", "model_digest", "latent"):
            there, here = getattr(other.protocol, name), getattr(first, name)
            if there != here:
                raise UserError(
                    f"{other.folder}: {name} {there}, but {scores[0].folder} has {here}; "
                    "a network is trained on pairs of one model: train on them apart"
                )
    _check_distinct(scores)
    if settings is None:
        return [Chosen(one, None, _everything(one)) for one in scores]
    if settings.file:
        return _from_files(scores, selections, settings.file)
    return [_by_rules(one, rules, settings.mode) for one in scores]


def _check_distinct(scores: Sequence[Scores]) -> None:
    """A pair that two folders hold would count twice, and could be on both sides of the split of a single prompt."""
    for one, other in combinations(scores, 2):
        if one.protocol.digest() == other.protocol.digest():
            both = np.intersect1d(one.index, other.index)
            if len(both):
                raise UserError(
                    f"{one.folder} and {other.folder} hold the same pair {both[0]} ({len(both)} pairs in all); merge "
                    "them with npnet merge, or name one of them"
                )


def _everything(scores: Scores) -> np.ndarray:
    """All places; without selection nothing drops a pair that is not finite, so it is an error that names it."""
    if not scores.finite.all():
        at = int(np.argmin(scores.finite))
        raise UserError(
            f"{scores.shards[scores.shard[at]]}: pair {scores.index[at]} holds NaN or infinity "
            f"({int((~scores.finite).sum())} of {len(scores)} pairs do); train with a selection, which drops such "
            "pairs, or delete the shard and collect it again"
        )
    return np.arange(len(scores))


def _by_rules(scores: Scores, rules: Sequence[Rule], mode: Mode) -> Chosen:
    selection = select(scores, rules, mode)
    return Chosen(scores, selection, np.searchsorted(scores.index, selection.kept))


def _from_files(scores: Sequence[Scores], files: Sequence[Selection], paths: Sequence[Path]) -> list[Chosen]:
    chosen = []
    for one in scores:
        digest = one.protocol.digest()
        fitting = [(file, path) for file, path in zip(files, paths, strict=True) if file.protocol == digest]
        if len(fitting) != 1:
            raise UserError(
                f"{one.folder}: {len(fitting)} of the selection files ({', '.join(map(str, paths))}) are of this "
                f"collection (protocol {digest}), expected one; select from it with npnet select --out"
            )
        selection, path = fitting[0]
        there = np.isin(selection.kept, one.index)
        places = np.searchsorted(one.index, np.asarray(selection.kept, np.int64)[there])
        if not there.all() or not one.finite[places].all():
            raise UserError(
                f"{path}: of its {len(there)} pairs {int((~there).sum())} are not in {one.folder}, and "
                f"{int((~one.finite[places]).sum())} hold NaN or infinity; select again"
            )
        if not len(places):
            raise UserError(f"{path}: keeps no pair ({describe(selection.rules, selection.mode)}); select again")
        chosen.append(Chosen(one, selection, places))
    return chosen


def gather(chosen: Sequence[Chosen], *, limit: int | None, seed: int) -> Pairs:
    """The chosen pairs as one; with `limit` so many, drawn by a hash so that fewer pairs are a subset of more."""
    where = [(c, int(place)) for c, one in enumerate(chosen) for place in one.places]
    if limit is not None and limit < len(where):
        drawn = sorted(where, key=lambda at: _drawn(seed, chosen[at[0]].scores, at[1]))
        where = sorted(drawn[:limit])
    files = [memory_mapped(path) for one in chosen for path in one.scores.shards]
    offsets = np.cumsum([0, *(len(one.scores.shards) for one in chosen)])
    part = np.array([offsets[c] + chosen[c].scores.shard[place] for c, place in where])
    row = np.array([chosen[c].scores.row[place] for c, place in where])
    texts = [chosen[c].scores.prompts[place] for c, place in where]
    known = {text: i for i, text in enumerate(_known_prompts(chosen, texts))}
    numbers = [(chosen[c].scores.protocol.digest(), int(chosen[c].scores.index[place])) for c, place in where]
    return Pairs(
        protocol=chosen[0].scores.protocol,
        source=Rows([file["source"] for file in files], part, row),
        target=Rows([file["target"] for file in files], part, row),
        prompt=np.array([known[text] for text in texts]),
        prompts=tuple(known),
        digest=hashlib.sha256(json.dumps(numbers).encode()).hexdigest()[:16],
    )


def _known_prompts(chosen: Sequence[Chosen], used: Sequence[str]) -> list[str]:
    """All prompts of the collections where half of them are used, so that other selections find them encoded too."""
    everything = dict.fromkeys(text for one in chosen for text in one.scores.prompts)
    own = dict.fromkeys(used)
    return list(everything if 2 * len(own) >= len(everything) else own)


def _drawn(seed: int, scores: Scores, place: int) -> bytes:
    return hashlib.sha256(f"{seed} {scores.protocol.digest()} {scores.index[place]}".encode()).digest()


def split(pairs: Pairs, *, validation: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(training, validation) numbers of pairs; about the share `validation`, at least one pair each.

    No prompt is in both: a collection has several seeds a prompt, and a split by pair would let a network that
    remembers prompts look better than it is on captions it never saw, which is what it is for. A prompt validates
    where a hash of its text falls below the share, so its side is the same whatever the selection and the limit are,
    and ablations do not validate on one another's training prompts. Only where that leaves a side empty, the prompt
    whose hash is nearest changes over. A single prompt leaves only the pairs to split. (The released code splits by
    pair.)
    """
    n = len(pairs)
    if n < 2:
        raise UserError(f"{n} pair to train on; expected at least 2, one of them for validation")
    prompts, group = np.unique(pairs.prompt, return_inverse=True)
    if len(prompts) == 1:
        order = np.random.default_rng(seed).permutation(n)
        count = min(max(round(validation * n), 1), n - 1)
        return np.sort(order[count:]), np.sort(order[:count])
    keys = [hashlib.sha256(f"{seed} {pairs.prompts[i]}".encode()).digest() for i in prompts]
    below = np.array([int.from_bytes(key, "big") < validation * 2**256 for key in keys])
    if not below.any():
        below[keys.index(min(keys))] = True
    if below.all():
        below[keys.index(max(keys))] = False
    return np.flatnonzero(~below[group]), np.flatnonzero(below[group])
