"""Addresses of folders elsewhere, and reading and writing files there, with errors in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from bench.errors import UserError, first_line, masked

T = TypeVar("T")
Use = Literal["runs", "run", "images", "all", "cache"]
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""The extra of this package that brings a scheme's file system."""
_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "r2"})
"""Schemes of object stores, which have no folders to make. On S3, making one could create a bucket."""
_SETTINGS: dict[str, dict[str, Any]] = {
    # An outage is found in seconds; how long to try again is decided here and not by the client.
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 1}}},
}


class RemoteFault(UserError):
    """An address that could not be read or written."""

    def __init__(
        self, url: object, error: BaseException, advice: str = "check the address, the network and the access"
    ):
        what = first_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
        super().__init__(f"{masked(str(url))}: {what}; {advice}")
        self.hopeless = (
            isinstance(error, FileNotFoundError | PermissionError | UserError) or "Credentials" in type(error).__name__
        )
        """Whether trying again is of little use: no such bucket, no access, another run."""


@dataclass(frozen=True)
class Url:
    """An address as an option was given it."""

    text: str
    use: Use = "run"
    """What the option is for, which decides what a command fetches."""

    def __str__(self) -> str:
        return self.text

    @property
    def scheme(self) -> str:
        return self.text.partition("://")[0]

    @property
    def name(self) -> str:
        """Its last part; empty for an address without a folder, such as s3://bucket."""
        return self.text.partition("://")[2].rpartition("/")[2] if "/" in self.text.partition("://")[2] else ""

    @property
    def parent(self) -> Url:
        return Url(self.text.rpartition("/")[0], self.use)

    def child(self, name: str) -> Url:
        return Url(f"{self.text}/{name}", self.use)


def is_url(text: str) -> bool:
    """Whether a text is an address rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def place(use: Use) -> Callable[[str], Path | Url]:
    """The type of a command's option that takes a folder here or an address."""

    def folder(text: str) -> Path | Url:
        return url_of(text, use) if is_url(text) else Path(text)

    return folder


def url_of(text: str, use: Use = "run") -> Url:
    """An address in one spelling: the scheme in small letters, no slash at the end."""
    scheme, _, rest = text.partition("://")
    return Url(f"{scheme.lower()}://{rest.rstrip('/')}", use)


class Folder:
    """The files below an address, by names relative to it. All methods raise RemoteFault."""

    def __init__(self, url: Url):
        self.url = url
        self.fs, self.root = _filesystem(url)
        self.makes_folders = url.scheme not in _STORES

    def put(self, source: Path, name: str) -> None:
        """Upload a file; a reader sees the old one or the new one."""

        def upload() -> None:
            target = self._target(name)
            if self.url.scheme in ("file", "local"):
                # A copy is not atomic there.
                beside = f"{target.rpartition('/')[0]}/.{target.rpartition('/')[2]}.tmp"
                self.fs.put_file(str(source), beside)
                self.fs.mv(beside, target)
            else:
                self.fs.put_file(str(source), target)

        self._said(name, upload)

    def write(self, name: str, data: bytes) -> None:
        self._said(name, lambda: self.fs.pipe_file(self._target(name), data))

    def read(self, name: str) -> bytes | None:
        """A small file's content; None where there is none."""

        def content() -> bytes | None:
            try:
                return self.fs.cat_file(f"{self.root}/{name}")
            except FileNotFoundError:
                return None

        return self._said(name, content)

    def get(self, name: str, target: Path) -> bool:
        """Download a file, whole or not at all; returns False where there is none."""
        temporary = target.with_name(f".{target.name}.part")

        def download() -> bool:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.fs.get_file(f"{self.root}/{name}", str(temporary))
            except FileNotFoundError:
                return False
            temporary.replace(target)
            return True

        try:
            return self._said(name, download)
        finally:
            temporary.unlink(missing_ok=True)

    def sizes(self, under: str = "") -> dict[str, int]:
        """Bytes of every file below the address, or below a folder there, by name; empty where there is none."""

        def listed() -> dict[str, int]:
            self.fs.invalidate_cache()
            try:
                found = self.fs.find(f"{self.root}/{under}" if under else self.root, detail=True)
            except FileNotFoundError:
                return {}
            start = len(self.root) + 1
            return {name[start:]: int(info.get("size") or 0) for name, info in found.items()}

        return self._said(under, listed)

    def folders_with(self, name: str) -> list[str]:
        """Names of the folders one below the address that have a file of this name."""

        def found() -> list[str]:
            self.fs.invalidate_cache()
            return sorted(path.split("/")[-2] for path in self.fs.glob(f"{self.root}/*/{name}"))

        return self._said("", found)

    def remove_all(self, under: str) -> None:
        """Remove a folder and all that is in it, if it is there."""

        def remove() -> None:
            self.fs.invalidate_cache()
            if self.fs.exists(f"{self.root}/{under}"):
                self.fs.rm(f"{self.root}/{under}", recursive=True)

        self._said(under, remove)

    def _target(self, name: str) -> str:
        target = f"{self.root}/{name}"
        if self.makes_folders:
            self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        return target

    def _said(self, name: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except Exception as error:  # every file system has errors of its own
            raise RemoteFault(self.url.child(name) if name else self.url, error) from error


def _filesystem(url: Url) -> tuple[Any, str]:
    """The file system of an address, and the folder in it; UserError for a scheme that cannot be used here."""
    import fsspec

    extra = _EXTRAS.get(url.scheme)
    advice = f"pip install 'noisebench[{extra}]'" if extra else "install it"
    try:
        fs, root = fsspec.core.url_to_fs(url.text, **_SETTINGS.get(url.scheme, {}))
    except ImportError as error:
        raise UserError(
            f"{url}: {url.scheme}:// needs a package that is not installed ({first_line(error)}); {advice}"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{url}: {first_line(error)}; expected an address such as s3://bucket/runs, or a folder"
        ) from error
    except Exception as error:  # credentials may be looked for here
        raise RemoteFault(url, error) from error
    if not root.strip("/"):
        raise UserError(f"{url}: names no place; expected an address such as s3://bucket/runs")
    return fs, root.rstrip("/")
