"""Whether a run may be paired with a frozen baseline, and what is new about how its images were made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bench.arms import POOLED
from bench.errors import NotComparable
from bench.gate.frozen import Frozen, FrozenArm, jobs_digest, pairs_of
from bench.gate.samples import Samples
from bench.gate.verdicts import SETTING, Results


def check_same(results: Results, frozen: Frozen, samples: Samples) -> None:
    """NotComparable for another suite, protocol, baseline method or other prompts."""
    suite = results["suite"]
    for name, ours, theirs in (
        ("suite", suite["name"], frozen.suite.name),
        ("baseline method", suite["baseline"], frozen.suite.baseline),
        ("protocol", suite["id"], frozen.suite.id),
    ):
        if ours != theirs:
            differ = _differing(samples, frozen) if name == "protocol" else ""
            raise NotComparable(f"the run has {name} {ours!r}, the frozen baseline {theirs!r}{differ}; freeze it again")
    now = pairs_of(samples)
    for prompts in sorted(now.keys() | frozen.pairs.keys()):
        held = frozen.pairs.get(prompts)
        if held is None or now.get(prompts) != held.model_dump():
            raise NotComparable(f"the prompts or seeds of {prompts!r} have changed since the baseline was frozen; "
                                "freeze it again")  # fmt: skip


def _differing(samples: Samples, frozen: Frozen) -> str:
    now = json.loads(samples.suite.canonical())
    keys = sorted(key for key in now.keys() | frozen.protocol.keys() if now.get(key) != frozen.protocol.get(key))
    return f" (they differ in {', '.join(keys)})" if keys else ""


def changed(results: Results, frozen: Frozen, samples: Samples) -> Iterator[str]:
    """What is new about how the images were made: it does not hinder a comparison, it is what is compared."""
    then, now = frozen.provenance, results["run"]["provenance"]
    weights = [now.get("weights") or {}, then.get("weights") or {}]
    models = set()
    for name in sorted((weights[0].keys() | weights[1].keys()) - frozen.metrics.keys()):
        ours, theirs = (some.get(name) for some in weights)
        if ours != theirs:
            models.add(name)
            yield f"weights of {name} have changed: {theirs} when frozen, {ours} now"
    other = [
        arm.method for arm in frozen.arms if arm.model not in models and arm.jobs != jobs_digest(samples, row_of(arm))
    ]
    if other:
        yield (
            f"images made anew since the baseline was frozen (another version, parameter or checkpoint): "
            f"{', '.join(dict.fromkeys(other))}"
        )
    versions = [(some.get("packages") or {}) | {"noisebench": some.get("version")} for some in (then, now)]
    moved = [
        f"{name} {was} -> {versions[1].get(name)}" for name, was in versions[0].items() if was != versions[1].get(name)
    ]
    if moved:
        yield f"versions have changed: {', '.join(moved)}"
    if then.get("hardware") != now.get("hardware"):
        yield f"frozen on {then.get('hardware')}, this run on {now.get('hardware')}"


def row_of(arm: FrozenArm) -> dict[str, Any]:
    """A frozen arm's labels, over all prompt sets, as a row of results has them."""
    return {**{name: getattr(arm, name) for name in (*SETTING, "method")}, "prompts": POOLED}
