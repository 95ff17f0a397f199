"""Every table of a ledger as Parquet and CSV."""

from __future__ import annotations

from pathlib import Path

from bench.store.ledger import Ledger
from bench.store.schema import TABLES


def export(ledger: Ledger, out: Path) -> list[Path]:
    """Write every table as Parquet and CSV; returns the files."""
    import numpy as np

    out.mkdir(parents=True, exist_ok=True)
    written = []
    for table in TABLES:
        frame = ledger.table(table)
        if table == "features":
            # Numbers, not bytes: a list in Parquet, and JSON in CSV.
            frame["features"] = [np.frombuffer(blob, "<f4").tolist() for blob in frame["features"]]
        frame.to_csv(out / f"{table}.csv", index=False)
        frame.to_parquet(out / f"{table}.parquet", index=False)
        written += [out / f"{table}.csv", out / f"{table}.parquet"]
    return written
