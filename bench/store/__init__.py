"""The run folder: one SQLite ledger (WAL), the images, and what is written from them.

    runs/<suite>-<id>/ledger.sqlite  suite.yaml  images/<job id>.png  results.json  report.md  report.html

A row is written in one transaction with whatever it stands for, and an image is renamed into place before its
row, so a run killed at any moment continues where it was. All SQL is in this package; what it gives are typed rows.
"""

from bench.store.exports import export
from bench.store.files import clone_or_copy, exclusive, full_disk_is_said, inside, read_json, write_atomically
from bench.store.keys import as_json, prompt_key
from bench.store.ledger import Ledger, lost_images
from bench.store.rows import CALLS, ELSEWHERE, TIMES, Cell, Image, Memory
from bench.store.schema import SCHEMA

__all__ = [
    "CALLS",
    "ELSEWHERE",
    "SCHEMA",
    "TIMES",
    "Cell",
    "Image",
    "Ledger",
    "Memory",
    "as_json",
    "clone_or_copy",
    "exclusive",
    "export",
    "full_disk_is_said",
    "inside",
    "lost_images",
    "prompt_key",
    "read_json",
    "write_atomically",
]
