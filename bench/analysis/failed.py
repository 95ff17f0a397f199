"""Images, scores and values of sets that a run could not give, with their reasons, from its ledger and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.moved import moved
from bench.records import FailedImage, FailedRow, Results
from bench.store import Ledger

NAMED = 20
"""Images that a row of results names; it counts them all."""


def rows(ledgers: Sequence[Ledger]) -> list[FailedRow]:
    """One row for each setting, method and reason: how many images (`n`), and which, the first `NAMED` of them."""
    found: dict[tuple[str, str, int, float, str, str], list[FailedImage]] = {}
    for run, ledger in enumerate(ledgers):
        for one in ledger.failed():
            image = FailedImage(prompts=one.prompts, index=one.prompt_index, seed=one.seed, prompt=one.prompt, run=run)
            found.setdefault((one.model, one.sampler, one.steps, one.guidance, one.method, one.reason), []).append(
                image
            )
    return [
        FailedRow(model=model, sampler=sampler, steps=steps, guidance=guidance, method=method, reason=reason,
                  n=len(images), images=tuple(images[:NAMED]))
        for (model, sampler, steps, guidance, method, reason), images in found.items()
    ]  # fmt: skip


def unscored(ledger: Ledger, scorers: Mapping[str, str]) -> dict[str, list[str]]:
    """Place, method and reason of every score that failed, by metric; `scorers` are the digests that count."""
    found: dict[str, list[str]] = {}
    for one in ledger.unscored():
        if scorers.get(one.metric) == one.scorer:
            place = f"{one.prompts} {one.prompt_index}, seed {one.seed}, {one.method}"
            found.setdefault(one.metric, []).append(f"{place}: {one.reason}")
    return found


_NO_VALUE = "has no value ("


def at_fault(reason: str) -> str:
    """What a row of results says of a set metric whose own code is why it has no value."""
    return f"{_NO_VALUE}{reason})"


def unvalued(found: Results) -> dict[str, list[str]]:
    """Rows of a table for which a set metric's code gave no value, with the reason, by metric."""
    lines: dict[str, list[str]] = {}
    for arm in found.arms:
        for name, value in arm.metrics.items():
            if value.refused and value.refused.startswith(_NO_VALUE):
                reason = value.refused.removeprefix(_NO_VALUE).removesuffix(")")
                lines.setdefault(name, []).append(f"{arm.method} on {arm.prompts}: {reason}")
    return lines


if not TYPE_CHECKING:
    __getattr__ = moved("bench.analysis.failed", {"Failed": "bench.store.rows"})
