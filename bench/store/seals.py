"""SHA256SUMS of a run folder: what its ledger and its results contained when they were written whole.

`sha256sum -c SHA256SUMS` checks it too. A line is removed before its file changes and is written when the change is
complete, so a file without a line was being written, and one whose digest differs was changed by something else: a
failing disk, an edit by hand.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from bench.digests import file_digest
from bench.store.files import writable, write_atomically

SUMS = "SHA256SUMS"


def _lines(folder: Path) -> dict[str, str]:
    """Digest by file name; what is no such line is left out."""
    try:
        text = (folder / SUMS).read_text("ascii", "replace")
    except OSError:
        return {}
    rows = (line.split("  ", 1) for line in text.splitlines())
    return {row[1]: row[0] for row in rows if len(row) == 2}


def _write(folder: Path, lines: dict[str, str]) -> None:
    write_atomically(folder / SUMS, "".join(f"{lines[name]}  {name}\n" for name in sorted(lines)).encode())


def state(folder: Path, name: str) -> bool | None:
    """Whether a file is what was sealed; None where it was not."""
    expected = _lines(folder).get(name)
    if expected is None:
        return None
    try:
        return file_digest(folder / name) == expected
    except OSError:
        return False


def seal(folder: Path, name: str) -> None:
    """Keep the digest of a file that is whole; nothing where the folder cannot be written to."""
    if writable(folder):
        _write(folder, {**_lines(folder), name: file_digest(folder / name)})


def unseal(folder: Path, name: str) -> None:
    """Remove a file's digest, before the file changes."""
    lines = _lines(folder)
    if lines.pop(name, None) is None:
        return
    _write(folder, lines)
    # The line must be gone on the disk before the change is there: a power cut between would look like damage.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
