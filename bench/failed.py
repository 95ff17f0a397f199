"""Images that a run could not make and scores that it could not give, with their reasons, from its ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.records import FailedImage, FailedRow
from bench.store import Ledger

NAMED = 20
"""Images that a row of results names; it counts them all."""
_COLUMNS = "model, sampler, steps, guidance, method, reason, prompts, prompt_index, seed, prompt"


class Failed(NamedTuple):
    """One image of the suite that is not there."""

    model: str
    sampler: str
    steps: int
    guidance: float
    method: str
    reason: str
    prompts: str
    prompt_index: int
    seed: int
    prompt: str

    @property
    def line(self) -> str:
        """Its place and its reason, as a line."""
        return f"{self.prompts} {self.prompt_index}, seed {self.seed}: {self.reason}"


def failed(ledger: Ledger) -> Iterator[Failed]:
    """Every cell whose image could not be made, in the suite's order; a chosen one counts by its candidates."""
    query = f"SELECT {_COLUMNS} FROM cells JOIN failures USING (job_id) ORDER BY cells.rowid"
    return (Failed(*row) for row in ledger.db.execute(query))


def rows(ledgers: Sequence[Ledger]) -> list[FailedRow]:
    """One row for each setting, method and reason: how many images (`n`), and which, the first `NAMED` of them."""
    found: dict[tuple[str, str, int, float, str, str], list[FailedImage]] = {}
    for run, ledger in enumerate(ledgers):
        for one in failed(ledger):
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
    query = """
        SELECT f.metric, f.scorer, c.prompts, c.prompt_index, c.seed, c.method, f.reason
        FROM score_failures f JOIN images i USING (digest) JOIN cells c USING (job_id) ORDER BY c.rowid"""
    found: dict[str, list[str]] = {}
    for metric, scorer, prompts, index, seed, method, reason in ledger.db.execute(query):
        if scorers.get(metric) == scorer:
            found.setdefault(metric, []).append(f"{prompts} {index}, seed {seed}, {method}: {reason}")
    return found
