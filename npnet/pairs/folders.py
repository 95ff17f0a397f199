"""Folders that npnet writes into: one process at a time, whole files, and what is said where that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.errors import UserError
from bench.store import exclusive, full_disk_is_said, write_atomically


@contextmanager
def locked(folder: Path, *, busy: str, advice: str = "") -> Iterator[None]:
    """Hold a folder's lock within; UserError says `busy` where another process has it, `advice` where it fails."""
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(folder))
        except UserError as error:
            raise UserError(f"{folder}: {busy}") from error
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{folder}: cannot be written ({reason}){advice and f'; {advice}'}") from error
        yield


def write_file(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, with its folder; UserError where that cannot be done."""
    with failure_is_said(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)


@contextmanager
def failure_is_said(path: Path) -> Iterator[None]:
    """What keeps a file in a command's --out from being written, as a UserError."""
    try:
        with full_disk_is_said(path.parent):
            yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be written ({reason}); give another --out") from error
