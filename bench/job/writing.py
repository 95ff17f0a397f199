"""results.json and the report of a run, from its ledger alone, and read again where they are what was written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench import records
from bench.analysis import results
from bench.analysis.browsable import BROWSABLE_PAIRS
from bench.runner.plan import content_hash
from bench.store import Ledger, seals

RESULTS = "results.json"


def write_report(
    *ledgers: Ledger,
    folder: Path | None = None,
    formats: Sequence[str] | None = None,
    most: int = BROWSABLE_PAIRS,
) -> records.Results:
    """results.json and the report of a run folder, or of several runs into `folder`, from their ledgers alone.

    Results and report.html carry at most `most` pairs; of more, data files beside the page have every one.
    """
    from bench import report

    place = folder or ledgers[0].folder
    seals.unseal(place, RESULTS)
    found, every = results.written(*ledgers, folder=folder, most=most)
    seals.seal(place, RESULTS)
    report.write(found, place, formats=formats, every=every)
    return found


def derived(ledger: Ledger) -> records.Results:
    """A run's results: its results.json where that is what was written, else computed from its ledger again."""
    whole = seals.state(ledger.folder, RESULTS)
    if whole:
        return records.read(ledger.folder / RESULTS)
    if whole is False:
        print(f"note: {ledger.folder / RESULTS} is not what was written; made again from the ledger", file=sys.stderr)
    return results.compute(ledger) if ledger.read_only else write_report(ledger)


def merged_folder(ledgers: Sequence[Ledger]) -> Path:
    """Where the report of several runs goes by default: beside the first one, named after all of them."""
    ids = content_hash(sorted(str(ledger.folder.resolve()) for ledger in ledgers))
    return ledgers[0].folder.resolve().parent / f"merged-{ids[:10]}"
