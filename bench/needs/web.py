"""Files at an address outside the hub, each with its sha256; pooch downloads them whole and checks them."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bench.digests import file_digest
from bench.errors import UserError, first_line
from bench.needs.base import Source, Tell

LARGEST = 2**20
"""Bytes of a file that an archive may hold: those of prompts are a few hundred, and an archive of 1 MB may claim to
hold gigabytes."""
TRIES = 4
SECONDS = 30
"""Without a byte from the server, after which a try is given up."""


@dataclass(frozen=True)
class WebFile(Source):
    """A file of a known digest, kept at a place."""

    url: str
    path: Path
    sha256: str

    @property
    def where(self) -> str:
        return self.url

    def here(self) -> bool:
        return self.path.is_file() and file_digest(self.path) == self.sha256

    def get(self, *, tell: Tell | None = None, to: Path | None = None) -> None:
        path = to / self.path.name if to else self.path
        download(self.url, path, self.sha256)


def download(url: str, path: Path, sha256: str | None) -> None:
    """Have `url` at `path`, whole or not at all; UserError where it cannot be had or is another file."""
    import logging

    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    known = f"sha256:{sha256}" if sha256 else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pond = pooch.create(
            path.parent, "", registry={path.name: known}, urls={path.name: url}, retry_if_failed=TRIES - 1
        )
        pond.fetch(path.name, downloader=pooch.HTTPDownloader(timeout=SECONDS, progressbar=False))
    except Exception as error:  # requests' classes, pooch's ValueError for another digest, the disk's
        raise UserError(f"{url}: {_why(error, path, sha256)}") from error


def _why(error: Exception, path: Path, sha256: str | None) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 404:
        return "not there any more (404); download it elsewhere and check its sha256"
    if isinstance(error, ValueError) and "hash" in str(error):
        return f"another file than the published one (its sha256 is not {str(sha256)[:12]}); nothing was kept"
    if isinstance(error, PermissionError):
        return f"{path.parent}: no permission to write there"
    return f"cannot be fetched ({first_line(error)[:200]}); fetch again"


def unpack(url: str, inside: str, target: Path, check: Callable[[Path], object]) -> None:
    """Have the folder `inside` of a repository's .tar.gz at `target`, after `check(folder)` has found it sound.

    Only plain files of that folder are unpacked. UserError where the archive cannot be had or read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as work:
        archive, found = Path(work) / "archive.tar.gz", Path(work) / "found"
        download(url, archive, None)
        found.mkdir()
        try:
            with tarfile.open(archive) as tar:
                for one in tar:
                    # A repository's archive has all of it below one folder, which is named after the commit.
                    place = PurePosixPath(*PurePosixPath(one.name).parts[1:])
                    if one.isfile() and place.parent == PurePosixPath(inside):
                        if one.size > LARGEST:
                            raise tarfile.TarError(f"{one.name} has {one.size} bytes, more than {LARGEST}")
                        content = tar.extractfile(one)
                        assert content is not None
                        (found / place.name).write_bytes(content.read())
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(f"{url}: not a readable archive ({first_line(error)}); fetch again") from error
        check(found)
        if target.is_dir():
            shutil.rmtree(target)
        found.rename(target)
