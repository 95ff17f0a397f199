"""Runs with results, small enough to know every number of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handmade import PROVENANCE, Spot, make
from suite_texts import TWO_ARMS, suite_text

from bench.analysis import results
from bench.store import Ledger

METRIC = "shapes-preference"
MANY = {**TWO_ARMS, "methods": ["standard", "inversion", "reseed"]}
"""Their suite: `suite_text(MANY, steps=8)`, or `published(folder, changes={"steps": 8})`."""


def published(
    folder: Path,
    *,
    gain: float = 0.5,
    base: float = 0.0,
    changes: Mapping[str, Any] | None = None,
    weights: str = "m0",
    scorer: str = "s0",
    optimises: dict[str, Any] | None = None,
    **given: Any,
) -> Path:
    """A finished run with results.json: `inversion` is better by `gain` on most prompts, `reseed` is standard.

    `changes` are those of its suite.
    """

    def score(spot: Spot) -> float:
        return base + spot.index % 5 + (gain * (spot.index % 4 > 0) if spot.method == "inversion" else 0.0)

    made_by = PROVENANCE | {"weights": PROVENANCE["weights"] | {"shapes-sdxl": weights}}
    suite = suite_text(MANY, **(changes or {}))
    make(folder, score, suite=suite, provenance=made_by, scorers={METRIC: scorer}, **({"n": 24} | given))
    ledger = Ledger(folder)
    ledger.set("scorers", {METRIC: scorer})
    ledger.set("optimises", optimises or {})
    results.write(ledger)
    ledger.close()
    return folder
