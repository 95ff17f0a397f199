"""Scores of further metrics for a collection that kept its images, without generating anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import registry
from bench.errors import UserError
from bench.prompts.base import Prompt
from bench.store.images import read_png
from npnet.pairs import dataset, prompting
from npnet.pairs.collection import check_metadata, prompts_digest
from npnet.pairs.folders import locked

if TYPE_CHECKING:
    import numpy as np

    from bench.metrics.base import MetricEntry, Scorer

BATCH = 64


def score(folder: Path, *, metrics: Sequence[str], device: str | None = None) -> int:
    """Add scores of further metrics to a collection that kept its images; returns how many images were judged.

    Every shard is written again in one rename; a shard that has the scores already is left alone. One process at a
    time: of two that read a shard before either has written it, the later one would take away the other's scores.
    """
    protocol = dataset.read_manifest(folder)
    with locked(folder, busy="another npnet score runs there; wait for it"):
        return _score(folder, protocol, metrics, device)


def _score(folder: Path, protocol: dataset.Protocol, metrics: Sequence[str], device: str | None) -> int:
    from bench.progress import Progress
    from bench.runner.generate import choose_device

    entries: dict[str, MetricEntry] = {name: registry.get("metrics", name) for name in metrics}
    prompts = _prompts_again(protocol)
    check_metadata(metrics, prompts or [Prompt(0, "")])
    paths = dataset.shards(folder)
    device = choose_device(device)
    digests = {name: entry.digest() for name, entry in entries.items()}
    scorers = {name: entry.scorer(device) for name, entry in entries.items()}
    judged = 0
    with Progress("score", len(paths), "shards") as progress:
        for path in paths:
            shard = dataset.read_shard(path, protocol)
            missing = [m for m in metrics if shard.metric_digests.get(m) != digests[m]]
            if missing:
                found = _scored(folder, shard, {m: scorers[m] for m in missing}, prompts)
                judged += 2 * len(shard) * len(missing)
                by = {**shard.metric_digests, **{m: digests[m] for m in missing}}
                chunk = int(shard.index[0]) // protocol.chunk
                changed = {**vars(shard), "scores": {**shard.scores, **found}, "metric_digests": by}
                dataset.write_shard(folder, protocol, chunk, dataset.Shard(**changed))
            progress.advance(1)
    return judged


def _prompts_again(protocol: dataset.Protocol) -> list[Prompt] | None:
    """The prompts with their metadata, where the collection's set is a registered one; None for a file's lines."""
    if protocol.prompts not in registry.names("prompts"):
        return None
    prompts = prompting.read(protocol.prompts)
    if prompts_digest(prompts) != protocol.prompts_digest:
        raise UserError(f"prompt set {protocol.prompts!r} is not the one collected with; use the version that was")
    return prompts


def _scored(
    folder: Path, shard: dataset.Shard, scorers: Mapping[str, Scorer], prompts: Sequence[Prompt] | None
) -> dict[str, np.ndarray]:
    """(n, 2) scores of a shard's kept images by metric."""
    import numpy as np

    numbers = shard.index.tolist()
    judged = [
        prompts[k % len(prompts)] if prompts else Prompt(k, text)
        for k, text in zip(numbers, shard.prompts, strict=True)
    ]
    columns: dict[str, list[list[float]]] = {name: [] for name in scorers}
    for side in dataset.SIDES:
        for name in scorers:
            columns[name].append([])
        for start in range(0, len(numbers), BATCH):
            images = [_image(dataset.image_path(folder, k, side)) for k in numbers[start : start + BATCH]]
            for name, scorer in scorers.items():
                columns[name][-1] += [v.value for v in scorer.score(images, judged[start : start + BATCH])]
    return {name: np.array(found, np.float32).T for name, found in columns.items()}


def _image(path: Path) -> np.ndarray:
    return read_png(
        path,
        advice="delete it and its shard, and run the same npnet collect again",
        missing="only a collection with keep_images: true can be scored again",
    )
