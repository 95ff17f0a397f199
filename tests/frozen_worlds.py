"""Runs of drawn scores against a baseline frozen from others: what tests of verdicts share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from perf.simulated_runs import CASES, Case, World, register, write_run

from bench import gate
from bench.analysis.results import compute
from bench.gate import Frozen, Samples
from bench.records import Results

CASE = CASES[0]
Scores = dict[str, np.ndarray]


def drawn(seed: int, *, method: float = 0.0, both: float = 0.0, case: Case = CASE) -> Scores:
    """Scores by arm: the prompt's own, noise by seed, and what is added to the method or to both arms."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(99).normal(size=int(case.counts.sum()))
    return {
        "standard": shared + both + 0.3 * rng.normal(size=len(shared)),
        "method": shared + both + method + 0.3 * rng.normal(size=len(shared)),
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(CASE, tmp_path_factory.mktemp("world"))


def frozen_of(world: World, scores: Scores) -> Frozen:
    return gate.freeze(*world.run(scores))


def outcomes(judged: gate.Judgement) -> dict[tuple[str, str], str]:
    return {(v.method, str(v.quantity)): v.outcome for v in judged.verdicts}


def against(world: World, old: Scores, new: Scores, **terms: Any) -> gate.Judgement:
    results, samples = world.run(new)
    return gate.against_baseline(results, frozen_of(world, old), samples, **terms)


def twice(
    folder: Path, old: Scores, new: Scores, harm: Callable[[Any], object] = lambda ledger: None
) -> tuple[Frozen, Results, Samples]:
    """A frozen run, and another one whose ledger was changed."""
    register()
    first, second = (write_run(folder / name, CASE, scores) for name, scores in (("old", old), ("new", new)))
    frozen = gate.freeze(compute(first), Samples.read(first))
    with second.transaction():
        harm(second)
    return frozen, compute(second), Samples.read(second)
