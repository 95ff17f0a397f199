"""Tensors of safetensors files, read from disk row by row, however many files there are. No torch.

A memory map keeps a descriptor open on its file, and a process may have 256 (macOS) or 1024 (Linux) of them: so a map
is made when it is first read, and the one that was not read for longest is closed again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import UserError

_DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "I64": np.int64}


def _at_once() -> int:
    """Files that are mapped at a time: 256, or a quarter of what this process may open."""
    try:
        import resource
    except ImportError:
        return 64
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 256 if allowed == resource.RLIM_INFINITY else max(1, min(256, allowed // 4))


@dataclass(frozen=True)
class Mapped:
    """One tensor of a file; `tensor[at]` is read where numpy would index it, and is a view only if numpy's is."""

    path: Path
    written: tuple[int, int]
    """The file's inode and time of change when its header was read: another file there is an error."""
    start: int
    stop: int
    """Its bytes, from the file's begin."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: Any) -> np.ndarray:
        data = _map(self.path, self.written)
        return data[self.start : self.stop].view(self.dtype).reshape(self.shape)[at]


class Rows:
    """Rows of several equally shaped tensors as one tensor; `rows[ids]` copies those of `ids` (n, ...)."""

    def __init__(self, parts: Sequence[Mapped], part: np.ndarray, row: np.ndarray) -> None:
        self.parts, self.part, self.row = parts, part, row
        self.shape = (len(part), *parts[0].shape[1:])

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        part, row = self.part[ids], self.row[ids]
        made = np.empty((len(part), *self.shape[1:]), self.parts[0].dtype)
        # Copied part by part, so that no more files than one are kept open by what was read of them.
        for p in np.unique(part).tolist():
            made[part == p] = self.parts[p][row[part == p]]
        return made

    def groups(self) -> Iterator[tuple[int, np.ndarray]]:
        """(part, its rows that are used, rising) of every part that is used at all."""
        for part in np.unique(self.part).tolist():
            yield part, np.unique(self.row[self.part == part])


def memory_mapped(path: Path) -> dict[str, Mapped]:
    """Tensors of a safetensors file, read from disk when indexed; ValueError where the file is not whole.

    The format is public: eight bytes of header length, a JSON header, then the tensors (safetensors README).
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        stat = os.fstat(file.fileno())
    header.pop("__metadata__", None)
    begin = 8 + length
    end = begin + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if stat.st_size != end:
        raise ValueError(f"{path} has {stat.st_size} bytes, not {end}")
    found = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
        found[name] = Mapped(path, _written(stat), begin + start, begin + stop, dtype, shape)
    return found


def _written(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_ino, stat.st_mtime_ns


@lru_cache(maxsize=_at_once())
def _map(path: Path, written: tuple[int, int]) -> np.ndarray:
    try:
        with open(path, "rb") as file:
            if _written(os.fstat(file.fileno())) != written:
                raise UserError(f"{path}: was replaced while it was being read; run the same command again")
            return np.memmap(file, np.uint8, mode="r").view(np.ndarray)
    except OSError as error:
        raise UserError(f"{path}: cannot be read any more ({error.strerror or error})") from error
