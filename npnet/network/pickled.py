"""PyTorch's pickled files, read so that nothing in them is executed, and one line for what is wrong with them."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

from bench.errors import UserError

_PICKLED = (b"\x80", b"PK")
"""How a pickle begins, and the zip file that PyTorch puts one into."""


def safe_load(path: Path, *, expected: str) -> Any:
    """A file's content on the CPU; only tensors and plain containers are ever made of its pickle.

    `expected` ends the UserError for any other file: what it should be, and what to do.
    """
    import torch

    try:
        # By what is in it, not by its name; and a warning about old pickles would be a second line.
        with open(path, "rb") as file, warnings.catch_warnings(action="ignore"):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with open(path, "rb") as file:
            begin = file.read(len(_PICKLED[-1]))
        raise UserError(f"{path}: {_blocked(error, begin)}; expected {expected}") from error
    except Exception as error:  # zip, EOF, index, key and type errors all mean the same: these are not its bytes
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        raise UserError(
            f"{path}: truncated, or not a PyTorch file ({first_line(error)}); expected {expected}"
        ) from error


def _blocked(error: pickle.UnpicklingError, begin: bytes) -> str:
    """Of torch's long message only a part says what was found; a blocked module it tells without these words.

    `begin` are the file's first bytes: a web page or a Git LFS pointer is no pickle, whatever its letters would mean.
    """
    # What follows the first line is the same for every error, and speaks of types and torch.load itself.
    said = str(error).partition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
    if said.startswith("Unsupported operand") and not begin.startswith(_PICKLED):
        return "not a PyTorch file"
    blocked = re.search(r"whose module \S+ is blocked", str(error))
    if blocked or re.search(r"global|class|getattr|operand|can only|reduce|build", said, re.IGNORECASE):
        return "holds objects other than tensors, which would execute code when loaded; nothing was executed"
    return "its pickle is broken"


def first_line(error: Exception) -> str:
    """An error's first line, or its kind where it says nothing."""
    return (str(error).splitlines() or [""])[0][:160] or type(error).__name__
