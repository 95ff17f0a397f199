"""Public files of prompts: where they come from, what they must contain, and where they lie.

They are no part of the project: `python -m bench fetch` puts them into the folder that `BENCH_DATA` names (default
`~/.cache/bench/prompts`). A file with another digest is refused, because a changed prompt set is another one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.needs.base import Source, Tell
from bench.needs.web import WebFile, unpack


def folder() -> Path:
    """Where prompt files are looked for."""
    return Path(os.environ.get("BENCH_DATA") or Path.home() / ".cache" / "bench" / "prompts")


@dataclass(frozen=True)
class PromptFile(Source):
    """One file, as it is at its address."""

    file: str
    """Its place below `folder()`."""
    url: str
    sha256: str
    about_bytes: int | None = None
    """Its size; None where it is unknown."""

    def text(self) -> str:
        """Its content without a byte order mark; UserError that says what to do where it is missing or another one."""
        path = folder() / self.file
        if not path.is_file():
            raise UserError(
                f"{path}: missing; download {self.url} to that place, which `python -m bench fetch` does (or point "
                "BENCH_DATA at its folder)"
            )
        data = path.read_bytes()
        _same(path, hashlib.sha256(data).hexdigest(), self.sha256, f"download {self.url} again")
        return data.decode("utf-8-sig")

    @property
    def where(self) -> str:
        return self.url

    def here(self) -> bool:
        return self._file.here()

    def get(self, *, tell: Tell | None = None, to: Path | None = None) -> None:
        self._file.get(tell=tell)

    @property
    def _file(self) -> WebFile:
        return WebFile(self.url, folder() / self.file, self.sha256)


@dataclass(frozen=True)
class PromptFolder(Source):
    """A folder of text files, one prompt each, out of a repository's archive."""

    file: str
    """Its place below `folder()`."""
    url: str
    """Of the archive."""
    inside: str
    """Where the folder is in the repository."""
    sha256: str
    """Over each file's name, length and content, in the order of the names; see `digest`."""
    about_bytes: int | None = None
    """About the archive's size."""

    def texts(self) -> dict[str, str]:
        """Content by name without `.txt`, sorted by name; UserError where files are missing or other ones."""
        path = folder() / self.file
        if not path.is_dir():
            raise UserError(
                f"{path}: missing; {self._how}, which `python -m bench fetch` does (or point BENCH_DATA at the folder "
                "that holds it)"
            )
        found = self._read(path)
        return {name.removesuffix(".txt"): data.decode("utf-8-sig") for name, data in found.items()}

    @property
    def where(self) -> str:
        return self.url

    def here(self) -> bool:
        try:
            return bool(self._read(folder() / self.file))
        except UserError:
            return False

    def get(self, *, tell: Tell | None = None, to: Path | None = None) -> None:
        unpack(self.url, self.inside, folder() / self.file, self._read)

    @property
    def _how(self) -> str:
        return f"download {self.url} and put its folder {self.inside} to that place"

    def _read(self, place: Path) -> dict[str, bytes]:
        """Content by name; UserError where the files are other ones."""
        found = {one.name: one.read_bytes() for one in sorted(place.glob("*.txt"))}
        _same(place, digest(found), self.sha256, self._how)
        return found


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
