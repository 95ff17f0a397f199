"""Several runs as one: what must be the same in all of them, and the suite that stands for them together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from bench.analysis.arms import MeasuredArm
from bench.errors import NotComparable
from bench.suite import Link, Suite


def joined(suites: Sequence[Suite]) -> Suite:
    """The first suite with the methods, prompt sets, controls and names of all; what must agree is checked."""
    first = suites[0]
    for other in suites[1:]:
        for word, ours, theirs in (
            ("baseline", first.baseline, other.baseline),
            ("world", "embedded twin" if first.twin else "real", "embedded twin" if other.twin else "real"),
            # The images of one pair tell by themselves; runs of other prompts or seeds share none.
            ("negative prompt", first.negative_prompt, other.negative_prompt),
            *_methods_of_one_label(first, other),
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


def _methods_of_one_label(first: Suite, other: Suite) -> Iterator[tuple[str, str, str]]:
    """What two suites name the same, and what each means by it."""
    meant = {spec.label: spec.chain for spec in first.methods}
    for spec in other.methods:
        yield f"method {spec.label!r}", _said(meant.get(spec.label, spec.chain)), _said(spec.chain)


def _said(chain: Sequence[Link]) -> str:
    parts = ((link.use, ", ".join(f"{name} {value}" for name, value in sorted(link.params.items()))) for link in chain)
    return " + ".join(f"{use} ({params})" if params else use for use, params in parts)


def check_weights(suites: Sequence[Suite], weights: Sequence[Mapping[str, str]]) -> None:
    """A model of one name must be one model: `weights` are the digests by name that each run was made with."""
    seen: dict[str, str] = {}
    for suite, digests in zip(suites, weights, strict=True):
        for name in suite.models:
            if name in digests and seen.setdefault(name, digests[name]) != digests[name]:
                raise NotComparable(f"the runs were made with other weights of {name}; report them apart")


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
