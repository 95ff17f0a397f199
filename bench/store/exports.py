"""Every table of a ledger as Parquet and CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.store.ledger import Ledger
from bench.store.schema import TABLES

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cell(value: Any) -> Any:
    """A value of a CSV as a spreadsheet may open it: a text that would be a formula there has a `'` before it.

    Numbers stay as they are. Prompts, labels and file names are texts of others, and a formula can run a program.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def export(ledger: Ledger, out: Path) -> list[Path]:
    """Write every table as Parquet and CSV; returns the files.

    Parquet holds every text as it is, CSV as `cell` has it.
    """
    import numpy as np

    out.mkdir(parents=True, exist_ok=True)
    written = []
    for table in TABLES:
        frame = ledger.table(table)
        if table == "features":
            # Numbers, not bytes: a list in Parquet, and JSON in CSV.
            frame["features"] = [np.frombuffer(blob, "<f4").tolist() for blob in frame["features"]]
        texts = {name: column.map(cell) for name, column in frame.items() if column.dtype.kind == "O"}
        # With another line end, a lone carriage return in a text would end its row: only the line end's own are quoted.
        frame.assign(**texts).to_csv(out / f"{table}.csv", index=False, lineterminator="\r\n")
        frame.to_parquet(out / f"{table}.parquet", index=False)
        written += [out / f"{table}.csv", out / f"{table}.parquet"]
    return written
