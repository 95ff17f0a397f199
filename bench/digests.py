"""What pins a thing: a file's digest, a commit of the hub."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

COMMIT = re.compile(r"[0-9a-f]{40}")
"""What pins a place on the hub: a branch or a tag may move."""


def file_digest(path: Path) -> str:
    """sha256 of a file, 64 hex digits; it is read again only when its time or size has changed."""
    stat = path.stat()
    return _digest(path, stat.st_mtime_ns, stat.st_size)


@cache
def _digest(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
