"""What a run was asked for, as its ledger has it: its suite, its metrics, and whose scores count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from bench.errors import UserError
from bench.metrics.base import MetricEntry
from bench.store import Ledger
from bench.suite import Suite


def load_suite(ledger: Ledger) -> Suite:
    """The suite that the run was made for, as it was after its overrides."""
    written = ledger.get("suite")
    if written is None:
        raise UserError(f"{ledger.folder}: its run was stopped before it began; run the suite again")
    try:
        return Suite.model_validate(written)
    except ValidationError as error:
        raise UserError(
            f"{ledger.folder}: its suite is not one that this version reads ({place_of(error)}); "
            "upgrade, or run the suite again"
        ) from error


def place_of(error: ValidationError) -> str:
    """What is not as it should be, and where: of the first of its errors."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg'].lower()}"


def metrics_of(ledger: Ledger, suite: Suite) -> list[str]:
    """The suite's metrics, and those that `bench score` added to the run since."""
    return list(dict.fromkeys([*suite.metrics, *(ledger.get("added_metrics") or [])]))


def scorer_digests(ledgers: Sequence[Ledger], entries: Mapping[str, MetricEntry]) -> dict[str, str]:
    """The scorer whose scores count, by metric: as a run recorded it, else today's.

    Of ledgers from before the code was in a scorer's digest: the one without it, where there are such scores.
    """
    recorded: dict[str, str] = {}
    for ledger in reversed(ledgers):
        recorded |= ledger.get("scorers") or {}
    return {name: recorded.get(name) or _scorer(ledgers, entry) for name, entry in entries.items()}


def _scorer(ledgers: Sequence[Ledger], entry: MetricEntry) -> str:
    def judged(scorer: str) -> bool:
        return any(ledger.judged_by(entry.name, scorer) for ledger in ledgers)

    digest, old = entry.digest(), entry.identify()
    return old if not judged(digest) and judged(old) else digest
