"""Where a scorer's files come from: a folder with the published names, or pinned commits of the hub. Imports no torch.

Nothing in a file is executed: tensors come from safetensors or from `torch.load(weights_only=True)`, and no code that
a hub repository carries is ever asked for.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.digests import COMMIT, file_digest
from bench.errors import UserError, first_line
from bench.needs.base import Made, Need, Source, placeholder, tilde
from bench.needs.hub import HubFile, HubFolder, OnHub
from bench.needs.web import WebFile

if TYPE_CHECKING:
    import torch

_DECIDE = (".json", ".safetensors", ".bin", ".txt", ".model", ".pt", ".pth", ".gz")
"""Endings of the files of a folder that decide what it computes."""
ARCHITECTURE = "open_clip_config.json"
"""What a folder may hold beside weights of open_clip: their architecture."""
_CLIP_FILES = ("*.json", "merges.txt", "vocab.txt")


def kept() -> Path:
    """Where files of scorers lie that are not the hub's: `BENCH_SCORERS`, else `~/.cache/bench/scorers`."""
    return Path(os.environ.get("BENCH_SCORERS") or Path.home() / ".cache" / "bench" / "scorers")


@dataclass(frozen=True)
class Part:
    """One file or folder of a scorer's checkpoint, and where it is published."""

    name: str
    """Its name in a checkpoint folder."""
    source: str = ""
    """The hub id; empty where the hub has none, so that it must be given."""
    revision: str = ""
    """The hub's commit, or a branch where none is known: then its content is a part of the identity."""
    sha256: str | None = None
    """Of a file: the digest that it was published with."""
    weights: tuple[str, ...] = ()
    """Of a folder on the hub: its files of weights, the first one that is there."""
    where: str = ""
    """Where it is to be had, if not on the hub."""
    url: str = ""
    """Its address, of a file that lies outside the hub; `sha256` must be given with it."""
    about_bytes: int | None = None
    """About its size: of weights known by architecture, the parameters in the precision that they are published in."""

    @property
    def whole(self) -> bool:
        """Whether it is a folder."""
        return not Path(self.name).suffix

    def comes_from(self) -> Source:
        """Where it is looked for on this machine, and what brings it there."""
        if self.source and self.whole:
            return HubFolder(self.source, self.revision, _CLIP_FILES, self.weights, name=self.name)
        if self.source:
            return HubFile(self.source, self.revision, self.name, self.sha256)
        if self.url:
            return WebFile(self.url, kept() / self.name, self.sha256 or "")
        place = kept() / self.name
        return Made(place, "; ".join(filter(None, (self.where, f"put it to {tilde(place)}"))))

    def place(self) -> Path | None:
        """Where it lies on this machine; None where it does not."""
        source = self.comes_from()
        if isinstance(source, OnHub):
            found = source.folder()
            return found if found is None or self.whole else found / self.name
        return kept() / self.name if source.here() else None

    @property
    def identity(self) -> str:
        """What it is: as published, by digest or commit; else, of what somebody put there, by content."""
        if self.sha256:
            return self.sha256
        source = self.comes_from()
        if isinstance(source, OnHub):
            if COMMIT.fullmatch(self.revision):
                return f"{self.source}@{self.revision}" + ("" if self.whole else f":{self.name}")
            files = source.files()
            return f"{self.source}@{source.commit()} {_digest_of(files)}" if files else placeholder(self.name)
        place = kept() / self.name
        return content_digest(place) if place.exists() else placeholder(self.name)

    def resolved(self) -> str:
        """`owner/name@12345678`, the commit that a branch was when it was fetched; empty where it is pinned or away."""
        source = self.comes_from()
        if not isinstance(source, OnHub) or COMMIT.fullmatch(self.revision) or source.commit() is None:
            return ""
        return f"{self.source}@{str(source.commit())[:8]}"


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a metric's checkpoint, and the user's folder that holds them, if there is one."""

    metric: str
    parts: tuple[Part, ...]
    folder: Path | None = None
    instead: tuple[tuple[Part, ...], ...] = ()
    """Other layouts that a folder may have."""

    def at(self, folder: str) -> Checkpoint:
        """This checkpoint in a folder of the user's; UserError where one of its parts is not there."""
        place = Path(folder).expanduser()
        if not place.is_dir():
            raise UserError(f"metric {self.metric!r}: checkpoint {folder!r}: no such folder; expected {self.expected}")
        lacking = []
        for parts in (self.parts, *self.instead):
            absent = [p.name for p in parts if not (place / p.name).exists()]
            if not absent:
                return replace(self, parts=parts, folder=place.resolve())
            lacking.append(absent)
        raise UserError(
            f"metric {self.metric!r}: checkpoint {folder!r} lacks {', '.join(lacking[0])}; expected {self.expected}"
        )

    @property
    def expected(self) -> str:
        """What a folder should hold, for messages."""
        layouts = (" and ".join(p.name for p in parts) for parts in (self.parts, *self.instead))
        return f"a folder that holds {', or '.join(layouts)}"

    def identity(self) -> str:
        """16 hex digits of what the parts are: of a user's folder by content, of the hub's by commit or digest.

        Behind them stand the commits that branches were when their files were fetched, so that they can be read.
        """
        h = hashlib.sha256()
        for part in self.parts:
            h.update(part.name.encode() + b"\0" + self._content(part).encode() + b"\0")
        if self.architecture is not None:
            h.update(ARCHITECTURE.encode() + b"\0" + file_digest(self.architecture).encode() + b"\0")
        moving = [] if self.folder is not None else list(filter(None, (part.resolved() for part in self.parts)))
        return "+".join([h.hexdigest()[:16], *moving])

    def _content(self, part: Part) -> str:
        return part.identity if self.folder is None else content_digest(self.folder / part.name)

    def network(self, name: str, dtype: str) -> str:
        """What a network is, by the part that holds it and its precision: another metric's with the same is the same.

        A user's folder may name another architecture for the weights, which is a part of it.
        """
        part = next(p for p in self.parts if p.name == name)
        beside = "" if self.architecture is None else f":{file_digest(self.architecture)}"
        return f"{name}:{self._content(part)}{beside}:{dtype}"

    def networks(self, names: Collection[str], dtype: str) -> tuple[str, ...]:
        """The networks of those of its parts that are named."""
        return tuple(self.network(part.name, dtype) for part in self.parts if part.name in names)

    @property
    def architecture(self) -> Path | None:
        """The file by which a user's folder names another architecture for its weights; None where it has none."""
        named = None if self.folder is None else self.folder / ARCHITECTURE
        return named if named is not None and named.is_file() else None

    def path(self, name: str) -> Path:
        """Where a part lies on this machine, fetched if need be; UserError where it cannot be had."""
        if self.folder is not None:
            return self.folder / name
        return _fetched(self.metric, next(p for p in self.parts if p.name == name), self.expected)

    def needs(self) -> tuple[Need, ...]:
        """The parts as published, with where they come from; none where the user's folder has them."""
        if self.folder is not None:
            return ()
        return tuple(Need(f"metric {self.metric}", p.name, p.comes_from(), p.about_bytes) for p in self.parts)

    def fetch(self) -> None:
        """Have all parts on this machine; UserError where one cannot be had."""
        for part in self.parts:
            self.path(part.name)


def _fetched(metric: str, part: Part, expected: str) -> Path:
    advice = f"give {expected}: {{use: {metric}, checkpoint: FOLDER}} in the suite, or --metric {metric}=FOLDER"
    found = part.place()
    if found is None:
        source = part.comes_from()
        if source.command:
            raise UserError(f"metric {metric!r} needs {part.name} ({source.command}); {advice}")
        try:
            source.get()
        except UserError as error:
            raise UserError(
                f"metric {metric!r}: {source.where} {part.name} is not on this machine and cannot be fetched "
                f"({error}); {advice}"
            ) from error
        found = part.place()
        assert found is not None
    if part.sha256 and file_digest(found) != part.sha256:
        # The hub's cache has a link there; without it, but with the file behind it, nothing would be fetched.
        raise UserError(
            f"metric {metric!r}: {found.resolve()} is not the published {part.name} (sha256 {file_digest(found)[:12]}, "
            f"expected {part.sha256[:12]}); delete it and fetch it again"
        )
    return found


# Content ------------------------------------------------------------------------------------------------------------


def _digest_of(files: list[Path]) -> str:
    """sha256 over names and contents of the files of a folder on the hub that are needed."""
    h = hashlib.sha256()
    for path in sorted(files):
        h.update(path.name.encode() + b"\0" + bytes.fromhex(file_digest(path)))
    return h.hexdigest()


def content_digest(place: Path) -> str:
    """sha256 of a file, or over names and contents of the files of a folder that decide what it computes."""
    if place.is_file():
        return file_digest(place)
    h = hashlib.sha256()
    for path in sorted(p for p in place.rglob("*") if p.is_file() and p.suffix in _DECIDE and p.name != "card.json"):
        h.update(path.relative_to(place).as_posix().encode() + b"\0" + bytes.fromhex(file_digest(path)))
    return h.hexdigest()


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.safetensors` file, of a PyTorch file that holds a state dict, or of TorchScript, on the CPU.

    A state dict under the key `state_dict` is found too. UserError for any other file; nothing in it is executed.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        from bench.metrics.networks.archive import archived, is_archive

        if is_archive(path):
            return archived(path)
        with warnings.catch_warnings(action="ignore"):
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: holds more than tensors, or is no PyTorch file; nothing in it was executed; expected a state dict"
        ) from error
    except Exception as error:
        said = first_line(error)[:160]
        raise UserError(f"{path}: truncated, or not a file of weights ({said}); expected a state dict") from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not found or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise UserError(f"{path}: holds no state dict; expected tensors by name")
    return dict(found)


def fill(
    module: torch.nn.Module,
    state: dict[str, torch.Tensor],
    *,
    of: Path,
    ignored: tuple[str, ...] = (),
    assign: bool = False,
) -> None:
    """Put a state dict into a module, in the module's own precision; UserError unless names and shapes are its own.

    `ignored` are names that older versions of a library wrote, and which decide nothing. `assign` makes the tensors
    themselves the module's parameters, in their own precision: of a module that has no memory yet.
    """
    state = {name: value for name, value in state.items() if name not in ignored}
    own = {name: value.shape for name, value in module.state_dict().items()}
    wrong = sorted(name for name in own.keys() | state.keys() if name not in own or name not in state)
    if wrong:
        which = "lacks" if wrong[0] in own else "has an unknown"
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"{of}: another version or architecture: it {which} {wrong[0]}{more}")
    shaped = next((name for name in own if own[name] != state[name].shape), None)
    if shaped:
        raise UserError(
            f"{of}: another version or architecture: {shaped} is {tuple(state[shaped].shape)}, expected "
            f"{tuple(own[shaped])}"
        )
    module.load_state_dict(state, assign=assign)
