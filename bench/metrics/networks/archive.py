"""The tensors of a TorchScript archive, such as OpenAI's `ViT-B-32.pt`, read without running anything in it.

`torch.jit.load` would compile the code that the archive carries. Here its pickle is read by a reader that knows
storages and plain containers alone; modules are objects with attributes, and tensors are named by the way to them.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from bench.errors import UserError

DTYPES = {
    "HalfStorage": torch.float16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


def is_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive, by what the zip holds."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())


def archived(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name; UserError where the pickle holds anything else than modules, tensors and plain values."""
    with zipfile.ZipFile(path) as archive:
        inside = next(name for name in archive.namelist() if name.partition("/")[2] == "data.pkl")
        found: dict[str, torch.Tensor] = {}
        try:
            _collect(Reader(archive, inside).load(), (), found)
        except (pickle.UnpicklingError, KeyError, IndexError, EOFError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: not an archive of tensors ({error}); nothing in it was executed") from error
    return found


class Thing:
    """In the place of a class of the archive; its attributes are set when it is built."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise ValueError("a module whose state is no mapping of names")
        self.__dict__.update(state)


class Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, inside: str):
        super().__init__(io.BytesIO(archive.read(inside)))
        self.archive, self.folder = archive, inside.removesuffix("data.pkl") + "data/"

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return Thing
        if module == "torch" and name in DTYPES:
            return name
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return strided
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        kind, storage, key = pid[:3]
        if kind != "storage" or not str(key).isdigit():
            raise pickle.UnpicklingError("it names something outside of itself")
        data = bytearray(self.archive.read(f"{self.folder}{key}"))
        return torch.frombuffer(data, dtype=DTYPES[storage]) if data else torch.empty(0, dtype=DTYPES[storage])


def strided(storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    # Beyond its storage torch refuses, so that no file reads another's memory.
    return storage.as_strided(size, stride, offset).clone()


def _collect(value: Any, way: tuple[str, ...], into: dict[str, torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        into[".".join(way)] = value
    elif isinstance(value, Thing):
        for name, inner in vars(value).items():
            _collect(inner, (*way, name), into)
