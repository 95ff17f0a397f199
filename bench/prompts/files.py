"""Public files of prompts: where they come from, what they must contain, and where they lie.

They are no part of the project: they lie in the folder that `BENCH_DATA` names (default `~/.cache/bench/prompts`).
A file with another digest is refused, because a changed prompt set is another one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.errors import UserError


def folder() -> Path:
    """Where prompt files are looked for."""
    return Path(os.environ.get("BENCH_DATA") or Path.home() / ".cache" / "bench" / "prompts")


class Stored(Protocol):
    """A file or folder that a set is read from."""

    @property
    def file(self) -> str:
        """Its place below `folder()`."""
        ...

    @property
    def url(self) -> str:
        """Where it is fetched from."""
        ...

    @property
    def sha256(self) -> str:
        """64 hex digits of what it must contain."""
        ...

    def check(self) -> None:
        """UserError where it is missing or another one."""
        ...


@dataclass(frozen=True)
class PromptFile:
    """One file, as it is at its address."""

    file: str
    url: str
    sha256: str

    def text(self) -> str:
        """Its content without a byte order mark; UserError that says what to do where it is missing or another one."""
        path = folder() / self.file
        if not path.is_file():
            raise UserError(f"{path}: missing; download {self.url} to that place (or point BENCH_DATA at its folder)")
        data = path.read_bytes()
        _same(path, hashlib.sha256(data).hexdigest(), self.sha256, f"download {self.url} again")
        return data.decode("utf-8-sig")

    def check(self) -> None:
        """UserError where it is missing or another one."""
        self.text()


@dataclass(frozen=True)
class PromptFolder:
    """A folder of text files, one prompt each, out of a repository's archive."""

    file: str
    url: str
    """Of the archive."""
    inside: str
    """Where the folder is in the repository."""
    sha256: str
    """Over each file's name, length and content, in the order of the names; see `digest`."""

    def texts(self) -> dict[str, str]:
        """Content by name without `.txt`, sorted by name; UserError where files are missing or other ones."""
        path = folder() / self.file
        how = f"download {self.url} and put its folder {self.inside} to that place"
        if not path.is_dir():
            raise UserError(f"{path}: missing; {how} (or point BENCH_DATA at the folder that holds it)")
        found = {one.name: one.read_bytes() for one in sorted(path.glob("*.txt"))}
        _same(path, digest(found), self.sha256, how)
        return {name.removesuffix(".txt"): data.decode("utf-8-sig") for name, data in found.items()}

    def check(self) -> None:
        """UserError where it is missing or another one."""
        self.texts()


def digest(found: Mapping[str, bytes]) -> str:
    """64 hex digits over files by name: for each name, in order, the name, the length and the content."""
    h = hashlib.sha256()
    for name in sorted(found):
        h.update(f"{name}\0{len(found[name])}\0".encode() + found[name])
    return h.hexdigest()


def _same(path: Path, found: str, expected: str, how: str) -> None:
    if found != expected:
        raise UserError(
            f"{path}: sha256 is {found[:16]}, expected {expected[:16]}: another file or another version; {how}"
        )
