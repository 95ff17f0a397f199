"""Results sent elsewhere: `export --to NAME[:PLACE]`. One file a receiver; another package brings its own.

An exporter is a function `send(given, place, dry_run)` that returns lines of what it sent, or would send. Those of
this project are in OWN; a package names its own under the entry point `bench.exporters`, and this project's names
cannot be taken.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.errors import NotComparable, UserError, first_line, nearest
from bench.records import ArmRow, Results, read
from bench.records.submission import submission

GROUP = "bench.exporters"
OWN = {
    "hub": "bench.exporters.hub:send",
    "mlflow": "bench.exporters.mlflow:send",
    "wandb": "bench.exporters.wandb:send",
}
"""Exporters of this project, as `module:function`."""


@dataclass(frozen=True)
class Given:
    """What an exporter is given of a run."""

    run: Path
    """The folder of the run or report."""
    results: Results
    digest: str
    """SHA-256 of its results, as its record has it."""

    @property
    def name(self) -> str:
        """What tells the run apart from others, for people."""
        return f"{self.results.suite.name}-{self.digest[:12]}"


Send = Callable[[Given, str, bool], list[str]]


def send(run: Path, to: str, *, dry_run: bool = False) -> list[str]:
    """Send a run's results to `NAME` or `NAME:PLACE`; returns a line for each thing sent.

    UserError for an unknown name, a package that is not installed, or a receiver that refuses; NotComparable for a run
    that is not finished.
    """
    name, _, place = to.partition(":")
    sender = exporter(name)
    results = read(run)
    if not results.run.finished:
        raise NotComparable(f"{run}: not finished, so its numbers may change; finish it first")
    return sender(Given(run if run.is_dir() else run.parent, results, submission(results).digest), place, dry_run)


def exporter(name: str) -> Send:
    """The function of that name; UserError where there is none or its package is broken."""
    if name in OWN:
        module, function = OWN[name].split(":")
        found: Send = getattr(importlib.import_module(module), function)
        return found
    others = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if name not in others:
        known = sorted({*OWN, *others})
        raise UserError(f"--to {name}: no such exporter{nearest(name, known)}")
    try:
        loaded: Send = others[name].load()
    except Exception as error:
        raise UserError(f"--to {name}: its package does not load: {first_line(error)}") from error
    return loaded


def installed(module: str, extra: str) -> Any:
    """A package that an exporter needs; UserError that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"--to {extra} needs {module}: pip install 'noisebench[{extra}]' ({first_line(error)})"
        ) from error


# What the trackers have in common ------------------------------------------------------------------------------------


def arms(results: Results) -> list[ArmRow]:
    """The arms as a tracker lists them: of several prompt sets their pool."""
    settings: dict[tuple[object, ...], set[str]] = {}
    for arm in results.arms:
        settings.setdefault(arm.setting, set()).add(arm.prompts)
    return [arm for arm in results.arms if len(settings[arm.setting]) == 1 or arm.prompts == "*"]


def parameters(given: Given, arm: ArmRow) -> dict[str, Any]:
    """What an arm was made with."""
    suite, made = given.results.suite, given.results.run.provenance
    named = {name: getattr(arm, name) for name in ("method", "model", "sampler", "steps", "guidance", "prompts")}
    return {
        **named,
        "baseline": suite.baseline,
        "suite": suite.name,
        "suite_id": suite.id,
        "twin": suite.twin,
        "commit": made.commit or made.version or "",
        "record": given.digest,
        **{f"scorer/{name}": row.digest for name, row in given.results.metrics.items()},
    }


def numbers(given: Given, arm: ArmRow) -> dict[str, float]:
    """An arm's numbers: means, deltas with their bounds, and costs; what was not measured is left out."""
    found: dict[str, float | None] = {f"{name}/mean": mean.mean for name, mean in arm.metrics.items()}
    for row in given.results.comparisons:
        if (row.setting, row.prompts, row.method) == (arm.setting, arm.prompts, arm.method):
            of = {"delta": row.delta, "low": row.low, "high": row.high, "p_holm": row.p_holm, "win_rate": row.win_rate}
            found |= {f"{row.metric}/{name}": value for name, value in of.items()}
    cost = arm.cost
    found |= {"cost/calls": cost.calls_total, "cost/ms": cost.total_ms, "images": float(arm.n)}
    for name, ratio in (("calls", cost.ratios.calls_total), ("ms", cost.ratios.total_ms)):
        found[f"cost/{name}_ratio"] = ratio.ratio if ratio else None
    return {name: float(value) for name, value in found.items() if value is not None}
