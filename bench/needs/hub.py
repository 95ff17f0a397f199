"""Files of commits of the hub, in the hub's own cache. huggingface_hub finds and downloads them.

A commit is pinned, or it is the one that a branch was when its files were fetched: that one is asked for from then on.

What is wanted of a repository follows from the names of its files, so that a download and the question whether it is
here are one rule. The names are those of the commit's listing, which huggingface_hub keeps beside what it downloads.
"""

from __future__ import annotations

import glob
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.digests import COMMIT, file_digest
from bench.errors import UserError
from bench.needs.asking import check_reachable, faults, progress_bar
from bench.needs.base import Source, Tell
from bench.needs.choosing import of_folder, of_pipeline

Read = Callable[[str], Any]
"""The content of a repository's JSON file by its name."""
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
        with faults(self.where, self.page):
            files, wanted = self._asked()
            here = {n: try_to_load_from_cache(self.repo, n, revision=self.revision) for n in wanted}
        return sum(files[n].size for n in wanted if not isinstance(here[n], str))

    def get(self, *, tell: Tell | None = None, to: Path | None = None) -> None:
        from huggingface_hub import snapshot_download

        with faults(self.where, self.page):
            files, wanted = self._asked()
            exact = [glob.escape(name) for name in wanted]
            bar = progress_bar(tell)
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
