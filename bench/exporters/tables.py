"""The comparisons and costs of a run as Parquet and CSV, beside the tables of its ledger."""

from __future__ import annotations

from pathlib import Path

from bench.api import frames
from bench.records import Results
from bench.store.exports import cell


def write(results: Results, run: str, out: Path) -> list[Path]:
    """`comparisons` and `costs` as both kinds of file, one row a comparison and one an arm; returns the files.

    Parquet holds every text as it is; CSV has a `'` before a text that a spreadsheet would take for a formula.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, frame in (("comparisons", frames.comparisons(results, run)), ("costs", frames.costs(results, run))):
        plain = frame.reset_index(drop=True)
        plain.attrs = {}  # units and meanings; not all of them are what Parquet's writer takes
        texts = {column: values.map(cell) for column, values in plain.items() if values.dtype.kind not in "biuf"}
        plain.assign(**texts).to_csv(out / f"{name}.csv", index=False, lineterminator="\r\n")
        plain.to_parquet(out / f"{name}.parquet", index=False)
        written += [out / f"{name}.csv", out / f"{name}.parquet"]
    return written
