"""Files of commits of the hub, in the hub's own cache. huggingface_hub finds and downloads them.

A commit is pinned, or it is the one that a branch was when its files were fetched: that one is asked for from then on.

What is wanted of a repository follows from the names of its files, so that a download and the question whether it is
here are one rule. The names are those of the commit's listing, which huggingface_hub keeps beside what it downloads.
"""

from __future__ import annotations

import errno
import glob
import json
import socket
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from bench.digests import COMMIT, file_digest
from bench.errors import UserError, first_line
from bench.needs.base import Source, Tell, Unreachable, gigabytes
from bench.needs.choosing import of_folder, of_pipeline

Read = Callable[[str], Any]
"""The content of a repository's JSON file by its name."""
SECONDS = 5.0
"""Between two lines of progress where there is no terminal."""
REACHED = 4.0
"""Seconds for the first answer of the hub's host, before it is taken for one that cannot be reached."""
_INDEX = "model_index.json"


@dataclass(frozen=True)
class OnHub(Source):
    """Some files of a repository at a commit."""

    repo: str
    revision: str
    """The commit, or a branch where none is known."""

    @abstractmethod
    def wanted(self, names: Sequence[str], read: Read) -> list[str]:
        """Which of the repository's files; none where it has not what is needed."""

    @property
    def where(self) -> str:
        return f"{self.repo}@{self.revision[:8]}"

    def here(self) -> bool:
        return self.folder() is not None

    def commit(self) -> str | None:
        """The commit that is pinned, or that the branch was when it was fetched; None where it was not."""
        if COMMIT.fullmatch(self.revision):
            return self.revision
        try:
            found = (_kept(self.repo) / "refs" / self.revision).read_text().strip()
        except OSError:
            return None
        return found if COMMIT.fullmatch(found) else None

    def folder(self) -> Path | None:
        """The snapshot in the hub's cache that holds the files; None where they are not all here."""
        return self._found()[0]

    def files(self) -> list[Path]:
        """The files in the snapshot that are wanted; none where they are not all here."""
        folder, names = self._found()
        return [folder / name for name in names] if folder else []

    def _found(self) -> tuple[Path | None, list[str]]:
        commit = self.commit()
        kept = _kept(self.repo) / "snapshots" / commit if commit else None
        if kept is None or not kept.is_dir():
            return None, []
        there = {p.relative_to(kept).as_posix() for p in kept.rglob("*") if p.is_file()}
        try:
            wanted = self.wanted(_listed(self.repo, str(commit)) or sorted(there), lambda name: _json(kept / name))
        except (OSError, ValueError):
            return None, []
        return (kept, wanted) if wanted and there.issuperset(wanted) else (None, [])

    def size(self) -> int | None:
        """Bytes of the files that are not here yet, by the hub's listing."""
        from huggingface_hub import try_to_load_from_cache

        check_reachable()
        with _faults(self):
            files, wanted = self._asked()
            here = {n: try_to_load_from_cache(self.repo, n, revision=self.revision) for n in wanted}
        return sum(files[n].size for n in wanted if not isinstance(here[n], str))

    def get(self, *, tell: Tell | None = None, to: Path | None = None) -> None:
        from huggingface_hub import snapshot_download

        with _faults(self):
            files, wanted = self._asked()
            exact = [glob.escape(name) for name in wanted]
            bar = _bar(tell)
            place = snapshot_download(
                self.repo, revision=self.revision, allow_patterns=exact, local_dir=self.landing(to), tqdm_class=bar
            )
        for name in wanted:
            self._check(Path(place) / name, files[name].lfs.sha256 if files[name].lfs else None)

    def landing(self, to: Path | None) -> Path | None:
        """The folder in which the repository's files land, where they go to `to`."""
        return to

    def published(self, name: str) -> str | None:
        """The digest that a file was published with."""
        return None

    def _asked(self) -> tuple[dict[str, Any], list[str]]:
        """The hub's listing by name, and the names that are wanted; UserError where they are not there."""
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.hf_api import RepoFile

        entries = HfApi().list_repo_tree(self.repo, recursive=True, revision=self.revision)
        files = {one.path: one for one in entries if isinstance(one, RepoFile)}

        def read(name: str) -> Any:
            return _json(Path(hf_hub_download(self.repo, name, revision=self.revision)))

        wanted = self.wanted(sorted(files), read)
        if not wanted:
            raise UserError(f"{self.where}: the files that are needed are not among its {len(files)}; {self.page}")
        return files, wanted

    @property
    def page(self) -> str:
        """The repository's page."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{self.repo}"

    def _check(self, path: Path, listed: str | None) -> None:
        """UserError, and the file is removed, where its content is not what the hub or its publisher says."""
        for expected in filter(None, (listed, self.published(path.name))):
            found = file_digest(path)
            if found != expected:
                path.resolve().unlink()
                path.unlink(missing_ok=True)
                raise UserError(
                    f"{self.where} {path.name}: sha256 is {found[:12]}, expected {expected[:12]}; removed; fetch "
                    "again, and if that gives the same, the hub has another file"
                )


@dataclass(frozen=True)
class HubFile(OnHub):
    """One file."""

    file: str
    sha256: str | None = None
    """What it was published with."""

    def wanted(self, names: Sequence[str], read: Read) -> list[str]:
        return [self.file] if self.file in names else []

    def published(self, name: str) -> str | None:
        return self.sha256 if name == Path(self.file).name else None


@dataclass(frozen=True)
class HubFolder(OnHub):
    """A model's folder as transformers or diffusers reads it: small files by pattern, and weights."""

    patterns: tuple[str, ...]
    weights: tuple[str, ...] = ()
    """Files of weights, of which the first that is there is taken, whole or in shards; empty: none are needed."""
    subfolder: str = ""
    name: str = ""
    """What it is called where it does not lie in the cache."""

    def wanted(self, names: Sequence[str], read: Read) -> list[str]:
        return of_folder(names, self.patterns, self.weights, self.subfolder)

    def landing(self, to: Path | None) -> Path | None:
        return to / self.name if to else None

    def laid(self, folder: Path, name: str) -> bool:
        # A folder is there from the first of its files on.
        place = folder / name
        there = {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()}
        wanted = self.wanted(_listed(self.repo, self.revision, place) or sorted(there), lambda _: None)
        return bool(wanted) and there.issuperset(wanted)


@dataclass(frozen=True)
class HubPipeline(OnHub):
    """A diffusers pipeline, as `from_pretrained` reads it."""

    variant: str | None = None
    """Such as `fp16`, of the networks that have it."""

    def wanted(self, names: Sequence[str], read: Read) -> list[str]:
        return of_pipeline(names, read(_INDEX), self.variant) if _INDEX in names else []


def _kept(repo: str) -> Path:
    """A repository's folder in the hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def _listed(repo: str, revision: str, folder: Path | None = None) -> list[str] | None:
    """Names of a commit's files as huggingface_hub keeps its listing, in its cache or beside what it brought to a
    folder; None where it keeps none."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return sorted(one.path for one in get_cached_repo_tree(repo, revision=revision, local_dir=folder))
    except (CachedRepoTreeNotFoundError, OSError, ValueError):
        return None


def _json(path: Path) -> Mapping[str, Any]:
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return found


# Whether it can be asked --------------------------------------------------------------------------------------------


def check_reachable() -> None:
    """Unreachable, within seconds, where the hub cannot be asked; its host, or the proxy before it, is tried once."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise Unreachable("HF_HUB_OFFLINE forbids to ask the hub; unset it")
    if why := _unreachable(constants.ENDPOINT):
        raise Unreachable(
            f"{constants.ENDPOINT} cannot be reached ({why}); check the network or the proxy, set HF_ENDPOINT to a "
            "mirror of the hub, or fetch on another machine and bring its HF_HOME here"
        )


@cache
def _unreachable(endpoint: str) -> str:
    """Why no connection to an address, or to its proxy, is had; empty where one is.

    In a thread, as looking up a name has no time limit of its own.
    """
    found: list[str] = []

    def connect() -> None:
        parts = urlsplit(endpoint)
        proxy = "" if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme, "")
        at = urlsplit(proxy if "//" in proxy else f"//{proxy}") if proxy else parts
        port = at.port or (443 if at.scheme == "https" else 80)
        try:
            socket.create_connection((at.hostname or "", port), timeout=REACHED).close()
            found.append("")
        except OSError as error:
            found.append(first_line(error))

    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACHED)
    return found[0] if found else f"no answer within {REACHED:.0f} s"


# What goes wrong ----------------------------------------------------------------------------------------------------


@contextmanager
def _faults(source: OnHub) -> Iterator[None]:
    """What the hub's library raises, as one line that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # it has a class for every way of being unreachable, and passes on those of its parts
        kind = Unreachable if _is_connection(error) else UserError
        raise kind(f"{source.where}: {_why(source, error)}") from error


def _is_connection(error: Exception) -> bool:
    """Whether no answer came, where another kind of error is an answer."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    # The library's HTTP client is another package in each of its versions; the class keeps its name.
    transport = any(one.__name__ == "TransportError" for one in type(error).__mro__)
    return transport or isinstance(error, ConnectionError | TimeoutError | LocalEntryNotFoundError)


def _why(source: OnHub, error: Exception) -> str:
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return f"gated: accept its terms at {source.page}, then log in with `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no such commit; {source.page}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"no such repository, or a private one: see {source.page}; log in with `hf auth login` if you may read it"
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"the commit has no such file ({first_line(error)})"
    if constants.HF_HUB_OFFLINE:
        return "not on this machine, and HF_HUB_OFFLINE forbids to fetch it; unset it"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full; free some room, or set HF_HOME to another disk, and fetch again"
    return f"cannot be fetched from {constants.ENDPOINT} ({first_line(error)}); fetch again to go on"


# How far it is ------------------------------------------------------------------------------------------------------


@cache
def _bar(tell: Tell | None) -> type[Any]:
    """The library's own bar on a terminal; elsewhere one that tells a line now and then."""
    from huggingface_hub.utils.tqdm import tqdm as bar  # a subclass of tqdm's

    if tell is None or sys.stderr.isatty():
        return bar

    class Lines(bar):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **settings: Any):
            counts = settings.get("unit") == "B" and "Reconstruct" in str(settings.get("desc"))
            super().__init__(*arguments, **{**settings, "disable": not counts, "mininterval": SECONDS})

        def display(self, *_: Any, **__: Any) -> None:
            if self.n and self.total and tell:
                rate = self.format_dict.get("rate") or self.n / max(self.format_dict["elapsed"], 1e-9)
                left = (self.total - self.n) / max(rate, 1)
                tell(f"{gigabytes(self.n)} of {gigabytes(self.total)}, {gigabytes(rate)}/s, {left:.0f} s left")

        def close(self) -> None:
            self.disable = True

    return Lines
