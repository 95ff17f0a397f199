"""Images that a run could not make and scores that it could not give, with their reasons, from its ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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


def rows(ledgers: Sequence[Ledger]) -> list[dict[str, Any]]:
    """One row for each setting, method and reason: how many images (`n`), and which, the first `NAMED` of them."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for run, ledger in enumerate(ledgers):
        for one in failed(ledger):
            told = dict(zip(("model", "sampler", "steps", "guidance", "method", "reason"), one[:6], strict=True))
            row = found.setdefault(one[:6], {**told, "n": 0, "images": []})
            row["n"] += 1
            if len(row["images"]) < NAMED:
                image = {"prompts": one.prompts, "index": one.prompt_index, "seed": one.seed, "prompt": one.prompt}
                row["images"].append({**image, "run": run})
    return list(found.values())


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
