"""What a run came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bench import records
from bench.analysis.failed import unvalued
from bench.job.resuming import Reuse
from bench.store import Ledger


@dataclass(frozen=True)
class Outcome:
    """Where a run lies and what it found."""

    folder: Path
    worked: bool
    """False where everything was there already."""
    found: records.Results | None = None
    """None where only images were asked for."""
    failed: dict[str, list[str]] = field(default_factory=dict)
    """By method label, why images of it could not be made, a line each."""
    unscored: dict[str, list[str]] = field(default_factory=dict)
    """By metric, why scores of it failed, a line each."""
    unmeasured: dict[str, str] = field(default_factory=dict)
    """By method label, why its memory could not be measured apart."""
    reuse: Reuse | None = None
    """How many images and scores are new, and where the others are from."""
    apart: tuple[str, ...] = ()
    """Methods that have no prompt and seed in common with the baseline."""

    @property
    def unvalued(self) -> dict[str, list[str]]:
        """By set metric, why rows of the table have no value of it through a fault of its code, a line each."""
        return unvalued(self.found) if self.found else {}

    @property
    def results(self) -> records.Results:
        """What it found; only of a job that was scored."""
        assert self.found is not None, "only images were asked for"
        return self.found


def failed_images(ledger: Ledger) -> dict[str, list[str]]:
    """Places and reasons of images that are not there, by the label of the method whose cell lacks them."""
    found: dict[str, list[str]] = {}
    for one in ledger.failed():
        found.setdefault(one.method, []).append(one.line)
    return found
