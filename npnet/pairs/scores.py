"""The scores of a collection, all in memory, without its noise. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench import registry
from bench.errors import UserError, nearest
from bench.progress import Progress
from npnet.pairs import dataset


@dataclass(frozen=True)
class Scores:
    """All of a collection but its noise, in order of the pairs' numbers."""

    folder: Path
    protocol: dataset.Protocol
    shards: tuple[Path, ...]
    index: np.ndarray
    """Pair numbers (n,), rising."""
    shard: np.ndarray
    """Place in `shards` of each pair (n,)."""
    row: np.ndarray
    """Place in its shard of each pair (n,)."""
    prompts: tuple[str, ...]
    finite: np.ndarray
    """Whether a pair's source and target noise are finite (n,)."""
    values: Mapping[str, np.ndarray]
    """Source and target score (n, 2) in float64; NaN where a shard has no such score."""
    scorers: Mapping[str, frozenset[str]]
    """Digests under which a metric's scores were made; several where shards differ."""
    shards_with: Mapping[str, int] = field(default_factory=dict)
    """Number of shards that hold a metric's scores."""
    calls: float | None = None
    """Denoiser calls a pair, as a mean over the collection; None where a shard does not say."""

    def __len__(self) -> int:
        return len(self.index)

    def check(self, metrics: Sequence[str]) -> None:
        """UserError for a metric that the collection has not, has only partly, or has from two scorers."""
        for metric in metrics:
            if metric not in self.values:
                raise UserError(f"{self.folder}: no scores by {metric!r} there{nearest(metric, self.values)}")
            lacking = self.lacking(metric)
            if lacking:
                raise UserError(lacking)
            if len(self.scorers[metric]) > 1:
                raise UserError(
                    f"{self.folder}: its {metric!r} scores come from different scorers "
                    f"({', '.join(sorted(self.scorers[metric]))}), which cannot be compared; score it with one of them"
                )

    def lacking(self, metric: str) -> str | None:
        """What to say where only some shards have a metric's scores; None where all have."""
        scored = self.shards_with[metric]
        if scored == len(self.shards):
            return None
        return (
            f"{self.folder}: only {scored} of {len(self.shards)} shards have scores by {metric!r}; "
            f"run npnet score {self.folder} --metric {metric}"
        )

    def usable(self, metrics: Sequence[str]) -> np.ndarray:
        """Whether a pair's noises and its scores by `metrics` are all finite (n,)."""
        found = self.finite.copy()
        for metric in metrics:
            found &= np.isfinite(self.values[metric]).all(axis=1)
        return found

    def better(self, metric: str, threshold: float) -> np.ndarray:
        """s0 + threshold < s0' (n,), with the scores' signs turned where less is better; False where one is NaN."""
        source, target = sign_of(metric) * self.values[metric].T
        with np.errstate(invalid="ignore"):
            return source + threshold < target


def sign_of(metric: str) -> int:
    """-1 where a metric's smaller scores are the better ones, else 1, as of one that is not installed."""
    return registry.get("metrics", metric).sign if metric in registry.names("metrics") else 1


def read_scores(folder: Path) -> Scores:
    """One pass over a collection, a shard in memory at a time; UserError names a shard that is broken or foreign."""
    protocol, shards = dataset.read(folder)
    paths: list[Path] = []
    parts: list[tuple[dataset.Shard, np.ndarray]] = []
    with Progress(f"read {folder.name}", len(dataset.shards(folder)), "shards") as progress:
        for shard in shards:
            paths.append(dataset.shard_path(folder, int(shard.index[0]) // protocol.chunk))
            finite = np.isfinite(shard.source).all((1, 2, 3)) & np.isfinite(shard.target).all((1, 2, 3))
            parts.append((_without_noise(shard), finite))
            progress.advance(1)
    names = sorted({name for shard, _ in parts for name in shard.scores})
    missing = np.full((1, 2), np.nan)
    values = {
        name: np.concatenate([s.scores.get(name, missing.repeat(len(s), 0)).astype(np.float64) for s, _ in parts])
        for name in names
    }
    index = np.concatenate([shard.index for shard, _ in parts])
    order = np.argsort(index, kind="stable")
    if len(np.unique(index)) < len(index):
        raise UserError(f"{folder}: two shards hold the same pair; delete the one that does not belong there")
    prompts = [prompt for shard, _ in parts for prompt in shard.prompts]
    return Scores(
        folder=folder,
        protocol=protocol,
        shards=tuple(paths),
        index=index[order],
        shard=np.repeat(np.arange(len(parts)), [len(s) for s, _ in parts])[order],
        row=np.concatenate([np.arange(len(s)) for s, _ in parts])[order],
        prompts=tuple(prompts[i] for i in order),
        finite=np.concatenate([finite for _, finite in parts])[order],
        values={name: pairs[order] for name, pairs in values.items()},
        scorers={n: frozenset(s.metric_digests[n] for s, _ in parts if n in s.scores) for n in names},
        shards_with={n: sum(n in s.scores for s, _ in parts) for n in names},
        calls=_calls([shard for shard, _ in parts]),
    )


def _calls(shards: Sequence[dataset.Shard]) -> float | None:
    costs = [shard.calls for shard in shards if shard.calls is not None]
    if len(costs) < len(shards):
        return None
    return float(np.average(costs, weights=[len(shard) for shard in shards]))


def _without_noise(shard: dataset.Shard) -> dataset.Shard:
    nothing = np.zeros((0,), np.float16)
    return replace(shard, source=nothing, target=nothing, scores=dict(shard.scores))
