"""What a need is: files or a package, where they come from, whether they are here, and what gets them. No torch.

Models, prompt sets, scorers, methods and their weights all say what they need in these terms; `plan` lists what is not
here, `fetch` gets it, and `run` refuses to start without it.
"""

from __future__ import annotations

import hashlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError

Tell = Callable[[str], object]
"""Takes a line about how far something is."""


class Source(ABC):
    """Where something comes from; two needs with equal sources are one download."""

    @property
    @abstractmethod
    def where(self) -> str:
        """Its address, for people."""

    @property
    def command(self) -> str:
        """What brings it here, where `python -m bench fetch` does not; empty where that does."""
        return ""

    @abstractmethod
    def here(self) -> bool:
        """Whether it is on this machine, whole; the network is not asked."""

    def laid(self, folder: Path, name: str) -> bool:
        """Whether `get` has brought it, whole, into a folder, where it is called `name`."""
        return (folder / name).exists()

    def size(self) -> int | None:
        """Bytes that are still to come, asked for at its address; None where it does not say. UserError as `get`."""
        return None

    def get(self, *, tell: Tell | None = None, to: Path | None = None) -> None:
        """Bring it here, resuming where it was cut off, and check its digest.

        Into the folder `to` under its published name, or to where it is looked for. UserError where it cannot be had.
        """
        raise UserError(f"{self.where}: {self.command}")


@dataclass(frozen=True)
class Need:
    """One thing that a suite cannot do without."""

    of: str
    """Whose it is, such as `metric hpsv2`."""
    what: str
    """Its name there, such as a file's."""
    source: Source
    about_bytes: int | None = None
    """About its size as published; None where that is not known."""


class Lacking(UserError):
    """A file of the user's or of a method's is not here; `instead` is what a plan uses in its place."""

    def __init__(self, said: str, need: Need, instead: Any):
        super().__init__(said)
        self.need, self.instead = need, instead


class Unreachable(UserError):
    """The host of a source cannot be reached: what else is there cannot be asked for either."""


_UNKNOWN = "0" * 16


def placeholder(name: str) -> str:
    """64 hex digits in the place of the digest of a file that is not here: such a job is priced and never run.

    Two files have two placeholders, for they would make two images.
    """
    return _UNKNOWN + hashlib.sha256(name.encode()).hexdigest()[:48]


def is_placeholder(digest: str) -> bool:
    """Whether no file has this digest."""
    return digest.startswith(_UNKNOWN)


@dataclass(frozen=True)
class Made(Source):
    """A file or folder that no address has: somebody makes it, by a command or by hand."""

    path: Path
    how: str
    """The command, or what to do in words."""

    @property
    def where(self) -> str:
        return tilde(self.path)

    @property
    def command(self) -> str:
        return self.how

    def here(self) -> bool:
        return self.path.exists()


@dataclass(frozen=True)
class Package(Source):
    """A Python package."""

    module: str
    """As it is imported."""
    install: str
    """As `pip install` takes it."""

    @property
    def where(self) -> str:
        return f"package {self.module}"

    @property
    def command(self) -> str:
        return f"pip install {self.install}"

    def here(self) -> bool:
        try:
            return importlib.util.find_spec(self.module) is not None
        except ModuleNotFoundError:  # the package that it lies in
            return False


@dataclass(frozen=True)
class Nothing(Source):
    """What cannot be had, such as a scorer that is not built yet."""

    why: str

    @property
    def where(self) -> str:
        return "nowhere"

    @property
    def command(self) -> str:
        return self.why

    def here(self) -> bool:
        return False


def tilde(path: Path) -> str:
    """A path as people write it, the home folder as `~`."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def gigabytes(size: float) -> str:
    """A number of bytes in words: `13.9 GB`, `34 kB`."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            number = size / unit
            return f"{number:.1f} {name}" if number < 100 and unit > 1e3 else f"{number:.0f} {name}"
    return f"{size:.0f} bytes"
