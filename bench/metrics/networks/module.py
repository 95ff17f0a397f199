"""The tensors of a whole `nn.Module` that `torch.save` pickled, read without importing or running anything it names.

Loading such a file as PyTorch does would run whatever its classes run. Here every class and function of the packages
that a network is made of is replaced by an inert stand-in, which takes any arguments and does nothing with them;
a name of any other package is refused. Modules are then known by their `_modules`, `_parameters` and `_buffers`.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from bench.errors import UserError
from bench.metrics.networks.archive import DTYPES, Reader, strided

_PACKAGES = ("torch", "transformers", "trainer", "einops")
"""What a network's pickle may name; nothing of them is imported or called."""
_CONTAINERS = {"OrderedDict": dict, "dict": dict, "set": set, "frozenset": frozenset, "list": list, "defaultdict": dict}
_BROKEN = (pickle.UnpicklingError, KeyError, IndexError, EOFError, TypeError, ValueError, AttributeError, RuntimeError)


class StandIn:
    """In the place of anything that is no tensor and no container."""

    def __new__(cls, *_: Any, **__: Any) -> StandIn:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict):
            state = state[0]
        if isinstance(state, dict) and all(isinstance(name, str) for name in state):
            self.__dict__.update(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass


def module_state(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of the module in a file; UserError where it is none, or names what no network is made of."""
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: not a file of torch.save (torch 1.6 or later); nothing in it was executed")
    with zipfile.ZipFile(path) as archive:
        inside = next((name for name in archive.namelist() if name.partition("/")[2] == "data.pkl"), None)
        if inside is None:
            raise UserError(f"{path}: no pickle in it; expected a module that torch.save wrote")
        try:
            module = _Reader(archive, inside).load()
            found: dict[str, torch.Tensor] = {}
            _collect(module, "", found)
        except _BROKEN as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path}: not a module of tensors ({said}); nothing in it was executed") from error
    if not found:
        raise UserError(f"{path}: holds no module; expected one that torch.save wrote whole")
    return found


class _Reader(Reader):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in DTYPES:
            return name
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return strided
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return _parameter
        if module in ("collections", "builtins", "__builtin__") and name in _CONTAINERS:
            return _CONTAINERS[name] if name != "defaultdict" else _empty
        if module.partition(".")[0] in _PACKAGES:
            return StandIn
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _empty(*_: Any) -> dict[Any, Any]:
    return {}


def _collect(module: Any, way: str, into: dict[str, torch.Tensor]) -> None:
    """Parameters and the buffers that a state dict keeps, by name; children after their parent."""
    own = vars(module) if isinstance(module, StandIn) else {}
    passing = own.get("_non_persistent_buffers_set") or ()
    for group in ("_parameters", "_buffers"):
        for name, value in (own.get(group) or {}).items():
            if isinstance(value, torch.Tensor) and not (group == "_buffers" and name in passing):
                into[f"{way}{name}"] = value
    for name, child in (own.get("_modules") or {}).items():
        _collect(child, f"{way}{name}.", into)
