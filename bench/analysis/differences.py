"""What two runs were made with, and where that differs: suite, code, packages, hardware, weights, scorers, arms."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from bench.analysis.pairing import Source
from bench.runner.plan import Arm
from bench.suite import Suite
from bench.suite import seeds as suite_seeds

Difference = dict[str, Any]
_PROTOCOL = ("model", "sampler", "steps", "guidance")
_CODE = ("version", "commit", "dirty", "command")
_MACHINE = ("hardware", "cpu", "device", "python", "platform")
_SUITE = ("name", "models", "prompts", "samplers", "steps", "guidance", "images_per_prompt", "baseline",
          "negative_prompt", "metrics", "limit", "twin")  # fmt: skip


def differences(a: Source, b: Source) -> list[Difference]:
    """Rows of `{group, what, a, b}`, only where the two differ; provenance is each run's last session's."""
    facts_a, facts_b = dict(_facts(a)), dict(_facts(b))
    return [
        {"group": group, "what": what, "a": facts_a.get((group, what)), "b": facts_b.get((group, what))}
        for group, what in dict.fromkeys((*facts_a, *facts_b))
        if facts_a.get((group, what)) != facts_b.get((group, what))
    ]


def _facts(run: Source) -> Iterator[tuple[tuple[str, str], Any]]:
    """((group, what), value) of all that may differ."""
    yield from _suite(run.suite)
    made = run.provenance
    for group, names in (("code", _CODE), ("machine", _MACHINE)):
        for name in names:
            yield (group, name), made.get(name)
    for name, version in (made.get("packages") or {}).items():
        yield ("packages", name), version
    for name, digest in (made.get("weights") or {}).items():
        if name not in run.suite.metrics:
            yield ("weights", name), digest
    for name in run.suite.metrics:
        yield ("scorers", name), run.scorer(name)


def _suite(suite: Suite) -> Iterator[tuple[tuple[str, str], Any]]:
    yield ("suite", "id"), suite.id
    written = suite.model_dump(mode="json")
    for name in _SUITE:
        yield ("suite", name), written[name]
    yield ("suite", "seeds"), suite_seeds.shown(suite.seeds)
    for spec in suite.methods:
        chain = [{"use": link.use, **link.params} for link in spec.chain]
        yield ("suite", f"method {spec.label}"), chain
    yield ("suite", "text (sha256)"), hashlib.sha256(suite.source_text.encode("utf-8", "replace")).hexdigest()[:16]


def labels(arm: Arm) -> dict[str, Any]:
    """Where an arm stands, by name."""
    return {name: getattr(arm, name) for name in ("model", "prompts", "sampler", "steps", "guidance", "method")}


def near(only_a: list[Arm], only_b: list[Arm]) -> Iterator[dict[str, Any]]:
    """Arms of A and of B that are the same but for one value of their protocol."""
    for field in _PROTOCOL:
        rest = {name: None for name in _PROTOCOL if name == field}
        others: dict[tuple[Any, ...], list[Arm]] = {}
        for arm in only_b:
            others.setdefault(tuple((labels(arm) | rest).values()), []).append(arm)
        for arm in only_a:
            for other in others.get(tuple((labels(arm) | rest).values()), ()):
                yield {"differs": field, "a": labels(arm), "b": labels(other)}
