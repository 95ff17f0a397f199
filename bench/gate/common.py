"""Whether a run may be paired with a frozen baseline, and what is new about how its images were made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.analysis.arms import Ints
from bench.errors import NotComparable
from bench.gate.frozen import jobs_digest, pairs_of, same_pairs
from bench.gate.samples import Samples
from bench.records import Results
from bench.records.baseline import Frozen, FrozenArm
from bench.store.rows import Setting

MEANT = "if that was meant, freeze the baseline again"
GROWS = frozenset(
    {
        "controls",
        "guidance",
        "limit",
        "methods",
        "metrics",
        "models",
        "prompts",
        "samplers",
        "scorers",
        "seeds",
        "steps",
    }
)
"""Keys of a suite that say how much is run: what run and baseline have in common of it is compared."""


@dataclass(frozen=True)
class Common:
    """What a run and a baseline both have."""

    arms: Sequence[FrozenArm]
    then: Ints
    """Numbers of the pairs in the baseline."""
    now: Ints
    """Numbers of the same pairs in the run."""
    whole: bool
    """Whether that is every pair of both."""
    notes: list[str]
    """What is not compared, because one of them does not have it."""


def in_common(results: Results, frozen: Frozen, samples: Samples) -> Common:
    """NotComparable for another suite, baseline method or settings, and where there is nothing in common."""
    suite = results.suite
    for name, ours, theirs in (
        ("suite", suite.name, frozen.suite.name),
        ("baseline method", suite.baseline, frozen.suite.baseline),
    ):
        if ours != theirs:
            raise NotComparable(f"the run has {name} {ours!r}, the frozen baseline {theirs!r}; {MEANT}")
    differ = _differing(samples, frozen) if suite.id != frozen.suite.id else []
    if other := [key for key in differ if key not in GROWS]:
        raise NotComparable(
            f"the run has protocol {suite.id!r}, the frozen baseline {frozen.suite.id!r} (they differ in "
            f"{', '.join(other)}); {MEANT}"
        )
    then, now, notes = _pairs(frozen, samples)
    arms, more = _arms(frozen, samples, grown=bool(differ))
    if not arms:
        raise NotComparable(f"run and baseline have no method and setting in common ({'; '.join(more)}); {MEANT}")
    whole = len(then) == sum(one.n for one in frozen.pairs.values()) and len(now) == len(samples.measured.pairs)
    return Common(arms, np.array(then, dtype=np.intp), np.array(now, dtype=np.intp), whole, [*notes, *more])


def _pairs(frozen: Frozen, samples: Samples) -> tuple[list[int], list[int], list[str]]:
    """Numbers of the pairs that both have, in the baseline and in the run, and what one of them lacks."""
    ours = pairs_of(samples)
    starts = {name: sum(one.n for one in list(ours.values())[:k]) for k, name in enumerate(ours)}
    then: list[int] = []
    now: list[int] = []
    notes = []
    start = 0
    for name, frozen_pairs in frozen.pairs.items():
        mine = ours.get(name)
        if mine is None:
            notes.append(f"not compared, because only the baseline has it: {frozen_pairs.n} pairs of {name}")
        else:
            if mine.digest != frozen_pairs.digest and frozen_pairs.keys is None:
                raise NotComparable(f"the prompts or seeds of {name!r} have changed since the baseline was frozen, "
                                    f"which does not say which they were; {MEANT}")  # fmt: skip
            both = same_pairs(frozen_pairs, start, mine, starts[name])
            then += [one for one, _ in both]
            now += [other for _, other in both]
            for n, whose in ((frozen_pairs.n - len(both), "baseline"), (mine.n - len(both), "run")):
                if n:
                    notes.append(f"not compared, because only the {whose} has them: {n} pairs of {name}")
        start += frozen_pairs.n
    notes += [f"not compared, because only the run has it: {one.n} pairs of {name}"
              for name, one in ours.items() if name not in frozen.pairs]  # fmt: skip
    if not then:
        raise NotComparable(f"run and baseline have no prompt and seed in common ({'; '.join(notes)}); {MEANT}")
    return then, now, notes


def _arms(frozen: Frozen, samples: Samples, *, grown: bool) -> tuple[Sequence[FrozenArm], list[str]]:
    """Arms of the baseline that the run has too, and what one of them lacks; all where the suite is the same."""
    if not grown:
        return frozen.arms, []
    # The run's arms are those that it has images of.
    ours = {_place(arm.setting, arm.method) for arm in samples.measured.arms}
    theirs = {_place(arm.setting, arm.method): arm for arm in frozen.arms}
    then, now = _chains(frozen.protocol), _chains(json.loads(samples.suite.canonical()))
    other = sorted(label for label in then.keys() & now.keys() if then[label] != now[label])
    notes = [f"not compared, because the suite gives it other parameters: {label}" for label in other]
    for names, whose in ((theirs.keys() - ours, "baseline"), (ours - theirs.keys(), "run")):
        if listed := sorted({f"{method} ({model}, {sampler}, {steps} steps, g {guidance})"
                             for model, sampler, steps, guidance, method in names}):  # fmt: skip
            notes.append(f"not compared, because only the {whose} has it: {', '.join(listed)}")
    return [arm for place, arm in theirs.items() if place in ours and arm.method not in other], notes


def _place(setting: Setting, method: str) -> tuple[str, str, int, float, str]:
    return (*setting, method)


def _chains(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """What each label of a suite's methods means."""
    return {str(one.get("label")): one.get("chain") for one in protocol.get("methods") or [] if isinstance(one, dict)}


def _differing(samples: Samples, frozen: Frozen) -> list[str]:
    now = json.loads(samples.suite.canonical())
    return sorted(key for key in now.keys() | frozen.protocol.keys() if now.get(key) != frozen.protocol.get(key))


def changed(results: Results, frozen: Frozen, samples: Samples, common: Common) -> Iterator[str]:
    """What is new about how the images were made: it does not hinder a comparison, it is what is compared."""
    then, now = frozen.provenance, results.run.provenance
    models = set()
    for name in sorted((now.weights.keys() | then.weights.keys()) - frozen.metrics.keys()):
        ours, theirs = now.weights.get(name), then.weights.get(name)
        if ours != theirs:
            models.add(name)
            yield f"weights of {name} have changed: {theirs} when frozen, {ours} now"
    kept = [arm for arm in common.arms if common.whole and arm.model not in models]
    other = [arm.method for arm in kept if arm.jobs != jobs_digest(samples, arm.setting, arm.method)]
    if other:
        yield (
            f"images regenerated since the baseline was frozen (other code, parameter, checkpoint or version): "
            f"{', '.join(dict.fromkeys(other))}"
        )
    versions = [some.packages | {"noisebench": some.version} for some in (then, now)]
    moved = [
        f"{name} {was} -> {versions[1].get(name)}" for name, was in versions[0].items() if was != versions[1].get(name)
    ]
    if moved:
        yield f"versions have changed: {', '.join(moved)}"
    if then.hardware != now.hardware:
        yield f"frozen on {then.hardware}, this run on {now.hardware}"
    if then.batch_sizes and now.batch_sizes and then.batch_sizes != now.batch_sizes:
        sizes = (" and ".join(map(str, one.batch_sizes)) for one in (then, now))
        yield "frozen from batches of {}, this run's are of {}: low bits of pixels depend on the batch".format(*sizes)
