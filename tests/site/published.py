"""Runs with results, small enough to know every number of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handmade import PROVENANCE, SUITE, Spot, make

from bench.analysis import results
from bench.store import Ledger

METRIC = "shapes-preference"
MANY = SUITE.replace("[standard, inversion]", "[standard, inversion, reseed]")


def published(
    folder: Path,
    *,
    gain: float = 0.5,
    base: float = 0.0,
    suite: str = MANY,
    weights: str = "m0",
    scorer: str = "s0",
    optimises: dict[str, Any] | None = None,
    **given: Any,
) -> Path:
    """A finished run with results.json: `inversion` is better by `gain` on most prompts, `reseed` is standard."""

    def score(spot: Spot) -> float:
        return base + spot.index % 5 + (gain * (spot.index % 4 > 0) if spot.method == "inversion" else 0.0)

    made_by = PROVENANCE | {"weights": PROVENANCE["weights"] | {"shapes-sdxl": weights}}
    make(folder, score, suite=suite, provenance=made_by, scorers={METRIC: scorer}, **({"n": 24} | given))
    ledger = Ledger(folder)
    ledger.set("scorers", {METRIC: scorer})
    ledger.set("optimises", optimises or {})
    results.write(ledger)
    ledger.close()
    return folder
