"""What a baseline file holds, and how two of them differ, in lines for people: no verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.gate.frozen import same_pairs
from bench.gate.verdicts import signed
from bench.records.baseline import Frozen, FrozenArm


def show(frozen: Frozen) -> Iterator[str]:
    """Which run was frozen, when and of which commit, and every method's means."""
    suite, made = frozen.suite, frozen.provenance
    world = ", embedded twin" if suite.twin else ""
    yield f"suite {suite.name} ({suite.id}{world}), frozen of a run of {frozen.created}"
    yield f"commit {made.commit or 'unknown'}, version {made.version}, on {made.hardware}"
    yield "pairs: " + ", ".join(f"{name} {one.n}" for name, one in frozen.pairs.items())
    digests = all(arm.images is not None for arm in frozen.arms)
    yield f"images: {'digests of every one' if digests else 'no digests (frozen before they were kept)'}"
    listed = ", ".join(f"{name or 'all others'} {value}" for name, value in frozen.tolerance.items())
    yield f"tolerances: {listed or 'none'}"
    for name, metric in frozen.metrics.items():
        better = "higher" if metric.higher_is_better else "lower"
        yield f"metric {name}: {metric.unit}, {better} is better, {metric.digest}"
    for arm in frozen.arms:
        means = ", ".join(f"{name} {one.mean:.4g}" for name, one in arm.metrics.items() if one.mean is not None)
        yield f"{_name(arm)}: {means}"


def compare(one: Frozen, other: Frozen) -> Iterator[str]:
    """Where the second differs from the first: what each lacks, images, and means of the scores that both have."""
    for what, ours, theirs in (("suite", one.suite.name, other.suite.name), ("protocol", one.suite.id, other.suite.id)):
        if ours != theirs:
            yield f"{what}: {ours} -> {theirs}"
    for name in sorted({*one.metrics} & {*other.metrics}):
        if one.metrics[name].digest != other.metrics[name].digest:
            yield f"scorer of {name}: {one.metrics[name].digest} -> {other.metrics[name].digest}"
    arms = [{_name(arm): arm for arm in some.arms} for some in (one, other)]
    for names, whose in ((arms[0].keys() - arms[1].keys(), "first"), (arms[1].keys() - arms[0].keys(), "second")):
        if names:
            yield f"only the {whose} has: {', '.join(sorted(names))}"
    places = _places(one, other)
    yield f"pairs in common: {len(places)}"
    for name in (name for name in arms[0] if name in arms[1]):
        yield f"{name}: {'; '.join(_arm(arms[0][name], arms[1][name], places))}"


def _name(arm: FrozenArm) -> str:
    model, sampler, steps, guidance = arm.setting
    return f"{arm.method}, {model} ({sampler}, {steps} steps, g {guidance})"


def _places(one: Frozen, other: Frozen) -> list[tuple[int, int]]:
    """Numbers of the pairs that both have."""
    found: list[tuple[int, int]] = []
    starts = {name: sum(p.n for p in list(other.pairs.values())[:k]) for k, name in enumerate(other.pairs)}
    start = 0
    for name, own in one.pairs.items():
        theirs = other.pairs.get(name)
        if theirs is not None:
            found += same_pairs(own, start, theirs, starts[name])
        start += own.n
    return found


def _arm(one: FrozenArm, other: FrozenArm, places: list[tuple[int, int]]) -> Iterator[str]:
    if one.images is not None and other.images is not None:
        changes = sum(one.images[i] != other.images[j] for i, j in places)
        yield f"{changes} of {len(places)} images changed"
    for name in (name for name in one.scores if name in other.scores):
        pairs: Any = [(one.scores[name][i], other.scores[name][j]) for i, j in places]
        there = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
        if len(there):
            means = there.mean(0)
            change = signed(float(means[1] - means[0]), float(np.abs(means).max()))
            differ = int((there[:, 0] != there[:, 1]).sum())
            yield f"{name} {means[0]:.4g} -> {means[1]:.4g} ({change}, {differ} scores differ)"
