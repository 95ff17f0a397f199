"""What a command is given in the place of an address: the folder on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.errors import UserError
from bench.remote.address import Folder, Url, Use, is_url, url_of
from bench.remote.fetching import MANIFEST, fetch
from bench.remote.work import folder_of


def local(given: str | Path, use: Use) -> Path:
    """The folder of a path or an address, as `local_place` gives it."""
    return local_place(url_of(given, use)) if isinstance(given, str) and is_url(given) else Path(given)


def local_place(url: Url) -> Path:
    """The work folder of an address, with what a command that uses it so will read; UserError where it is not there."""
    if url.use in ("run", "images"):
        return fetch(url, images=url.use == "images")
    folder = folder_of(url)
    if url.use == "all":
        return _fetch_all(url, folder)
    remote = Folder(url)  # before hours of work: a scheme without its package, an address without a place
    print(f"work folder: {folder} (of {remote.url})", file=sys.stderr)
    return folder


def _fetch_all(url: Url, folder: Path) -> Path:
    """Every run below an address; for the address of one run, that run."""
    remote = Folder(url)
    if url.name and remote.read(MANIFEST) is not None:
        return fetch(url, images=True)
    names = remote.folders_with(MANIFEST)
    if not names:
        raise UserError(f"{url}: no run there or below; expected what `bench run --runs {url}` made")
    for name in names:
        fetch(url.child(name), images=True)
    return folder
