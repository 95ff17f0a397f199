"""Files of a run folder: written whole or not at all, locked by one process, and a full disk said in one line."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bench.errors import UserError, first_line


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a run folder; a second process gets one clear line. The kernel lets go when a process dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle: IO[str] = open(folder / "lock", "a+")
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        way = "copy it to a place that can be" if folder.is_dir() else "give another folder (--runs or --out)"
        raise UserError(f"{folder}: cannot be written to ({error.strerror}); {way}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise UserError(f"{folder}: in use by {holder}; wait for it, or give another --runs folder") from error
        handle.truncate(0)
        handle.write(f"process {os.getpid()}")
        handle.flush()
        yield
    finally:
        handle.close()


def is_locked(folder: Path) -> bool:
    """Whether a process works in a run folder now; nothing is written for the answer."""
    try:
        with open(folder / "lock", "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def writable(path: Path) -> bool:
    """Whether a file or folder that is there can be written to: not on a read-only medium, nor in another's folder."""
    return os.access(path, os.W_OK)


def stamp(path: Path) -> tuple[int, int] | None:
    """(nanoseconds of its last change, bytes) of a file; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


@contextmanager
def full_disk_is_said(folder: Path, *, or_else: str = "") -> Iterator[None]:
    """A full disk is for the user to free: one line, and everything finished so far stays.

    `folder` is what lies on that disk; `or_else` another way on, such as an option.
    """
    other = f", or {or_else}" if or_else else ""
    said = f"{folder}: the disk is full or failing; free some space and run again{other}; what is finished is kept"
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(said) from error
    except sqlite3.OperationalError as error:
        if not is_the_disk(error):
            raise
        raise UserError(said) from error


def is_the_disk(error: sqlite3.Error) -> bool:
    """SQLite calls a full disk so, or, where its write-ahead log finds no room, an I/O error."""
    name = getattr(error, "sqlite_errorname", "")
    return name == "SQLITE_FULL" or name.startswith("SQLITE_IOERR")


_FICLONE = 0x40049409
"""The request by which Linux lets a file share another's blocks until one of the two is written to."""


def clone_or_copy(source: Path, target: Path) -> None:
    """Make `target` a file of its own with the content of `source`, atomically.

    Its blocks are shared where the file system can share them (Btrfs, XFS), and copied elsewhere. Never a hard link:
    what damages one of the two files would damage the other.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if not _cloned(source, temporary):
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _cloned(source: Path, target: Path) -> bool:
    """Whether `target` shares the blocks of `source` now."""
    with source.open("rb") as given, target.open("wb") as made:
        try:
            fcntl.ioctl(made, _FICLONE, given.fileno())
        except OSError:
            return False
    return True


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the target and rename, so that a reader sees the old file or the new one, never half of one.

    What was written of a file that failed is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def inside(folder: Path, file: str) -> Path:
    """A file of a run folder, such as its ledger names; UserError where that leads out of the folder.

    A ledger is a file that others may have written, and an unpacked folder may hold links.
    """
    try:
        found = (folder / file).resolve()
        if found.is_relative_to(folder.resolve()):
            return found
        why = "leads out of the run's folder"
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        why = f"cannot be found ({first_line(error)})"
    raise UserError(f"{folder}: the file {file!r} of this run {why}; it is not read")


MOST_JSON = 64 * 2**20
"""Bytes of a JSON file of a stranger's: the numbers of 100,000 images, and what fits into memory once it is parsed."""


def read_json(path: Path) -> Any:
    """What a JSON file of a stranger's holds; OSError, or ValueError for no JSON, deep nesting and absurd sizes."""
    with path.open("rb") as file:
        content = file.read(MOST_JSON + 1)
    if len(content) > MOST_JSON:
        raise ValueError(f"larger than {MOST_JSON >> 20} MiB")
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def missing_from(folder: Path, files: list[str]) -> int:
    """How many of these files, given relative to a folder, are not there."""
    # A hundred thousand files are found sooner in one listing of their folder than one by one.
    there: set[str] = set()
    listed: set[str] = set()
    missing = 0
    for file in files:
        if file in there:
            continue
        inner = file.rpartition("/")[0]
        if inner not in listed:
            listed.add(inner)
            there.update(_names(folder, inner))
        missing += file not in there
    return missing


def _names(folder: Path, inner: str) -> list[str]:
    """The names in a folder of a folder, as paths in the outer one."""
    try:
        with os.scandir(folder / inner) as found:  # a `Path` for each name takes five times as long
            return [f"{inner}/{one.name}" if inner else one.name for one in found]
    except OSError:
        return []
