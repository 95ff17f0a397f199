"""Several runs as one: what must be the same in all of them, and the suite that stands for them together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bench.arms import MeasuredArm
from bench.errors import NotComparable
from bench.suite import Suite


def joined(suites: Sequence[Suite]) -> Suite:
    """The first suite with the methods, prompt sets, controls and names of all; what must agree is held to agree."""
    first = suites[0]
    for other in suites[1:]:
        for word, ours, theirs in (
            ("baseline", first.baseline, other.baseline),
            ("world", "embedded twin" if first.twin else "real", "embedded twin" if other.twin else "real"),
        ):
            if ours != theirs:
                raise NotComparable(
                    f"the runs have another {word}: {first.name} ({first.id}) has {ours!r}, {other.name} ({other.id}) "
                    f"has {theirs!r}; report them apart"
                )
    if len(suites) == 1:
        return first
    reproduces = list(dict.fromkeys(s.reproduces for s in suites))
    return first.model_copy(
        update={
            "name": " + ".join(dict.fromkeys(s.name for s in suites)),
            "title": "; ".join(dict.fromkeys(s.title or s.name for s in suites)),
            "reproduces": reproduces[0] if len(reproduces) == 1 else "",
            "limit": first.limit if len({s.limit for s in suites}) == 1 else None,
            "notes": tuple(dict.fromkeys(n for s in suites for n in s.notes)),
            "controls": {label: control for s in reversed(suites) for label, control in s.controls.items()},
        }
    )


def joint_id(suites: Sequence[Suite]) -> str:
    """What stands for a suite's id where several were joined: the same whatever their order."""
    return hashlib.sha256(" ".join(sorted(s.id for s in suites)).encode()).hexdigest()[:10]


def check_baselines(arms: Sequence[MeasuredArm], suite: Suite) -> None:
    """An arm without the baseline of its setting has nothing to be paired with."""
    bases = {(a.setting, a.prompts) for a in arms if a.method == suite.baseline}
    for arm in arms:
        if (arm.setting, arm.prompts) not in bases:
            model, sampler, steps, guidance = arm.setting
            raise NotComparable(
                f"{arm.method} on {model} ({sampler}, {steps} steps, g {guidance}, {arm.prompts}) has no "
                f"{suite.baseline} beside it in these runs; add a run that has"
            )
