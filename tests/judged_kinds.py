"""Metrics of pairs and of sets, and results that they judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledgers import write_ledger

from bench import registry
from bench.metrics.base import MetricEntry, Value
from bench.prompts.base import Prompt
from bench.runner.score import prompt_key
from bench.store import Ledger

LIKED, LEVEL = "test-liked", "test-level"


class Second:
    """Prefers whichever image it is shown second, with 0.9."""

    asked = 0

    def score_pairs(self, baseline: Sequence[Any], method: Sequence[Any], prompts: Sequence[Prompt]) -> list[Value]:
        type(self).asked += len(prompts)
        return [Value(0.9)] * len(prompts)


def level(features: np.ndarray, weights: np.ndarray) -> float:
    """The mean of the first feature."""
    return float(weights @ features[:, 0] / weights.sum())


def entry(name: str, **more: Any) -> MetricEntry:
    given = {"title": name, "unit": "", "load": lambda device: Second(), "identify": lambda: f"{name}-1", **more}
    return MetricEntry(name, **given)


@pytest.fixture(scope="module", autouse=True)
def known() -> None:
    if LIKED not in registry.names("metrics"):
        registry.add_plugin("metrics", LIKED, entry(LIKED, kind="pair"), "test")
        registry.add_plugin("metrics", LEVEL, entry(LEVEL, kind="set", value=level, fewest=8), "test")


Place = tuple[str, int, int]
"""Method, prompt index, seed."""


def judged(
    folder: Path,
    liked: Callable[[Place], float | None] = lambda place: 0.5,
    at: Callable[[Place], float | None] = lambda place: 0.0,
    **more: Any,
) -> Ledger:
    """A run whose images are liked over the baseline's, and lie at a level, as the test says."""
    ledger = write_ledger(folder, lambda *_: None, metrics=(LIKED, LEVEL), **{"methods": ("standard", "a"), **more})
    rows = ledger.db.execute("SELECT method, prompt_index, seed, prompt, digest FROM cells JOIN images USING (job_id)")
    cells = {(m, i, s): (prompt_key(Prompt(i, text)), digest) for m, i, s, text, digest in rows}
    for (method, index, seed), (key, digest) in cells.items():
        place, base = (method, index, seed), cells["standard", index, seed][1]
        if method != "standard" and (share := liked(place)) is not None:
            ledger.put_pair_scores([(digest, base, key, LIKED, f"{LIKED}-1", share, "{}", 2.0)])
        if (found := at(place)) is not None:
            ledger.put_features([(digest, key, LEVEL, f"{LEVEL}-1", np.array([found, 7], "<f4").tobytes(), 4.0)])
    return ledger


def comparison(found: dict[str, Any], metric: str, method: str = "a") -> dict[str, Any]:
    (row,) = [r for r in found["comparisons"] if (r["metric"], r["method"], r["prompts"]) == (metric, method, "*")]
    return dict(row)
