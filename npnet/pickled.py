"""PyTorch's pickled files, read so that nothing in them is executed, and one line for what is wrong with them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

from bench.errors import UserError


def safe_load(path: Path, *, expected: str) -> Any:
    """A file's content on the CPU; only tensors and plain containers are ever made of its pickle.

    `expected` ends the UserError for any other file: what it should be, and what to do.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: {_blocked(error)}; expected {expected}") from error
    except Exception as error:  # zip, EOF, index, key and type errors all mean the same: these are not its bytes
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        raise UserError(
            f"{path}: truncated, or not a PyTorch file ({first_line(error)}); expected {expected}"
        ) from error


def _blocked(error: pickle.UnpicklingError) -> str:
    """Of torch's long message only a part says what was found; a blocked module it tells without these words."""
    said = str(error).partition("WeightsUnpickler error:")[2]
    blocked = re.search(r"whose module \S+ is blocked", str(error))
    if blocked or re.search(r"global|class|torch\.load|getattr", said, re.IGNORECASE):
        return "holds objects other than tensors, which would execute code when loaded; nothing was executed"
    return "its pickle is broken"


def first_line(error: Exception) -> str:
    """An error's first line, or its kind where it says nothing."""
    return (str(error).splitlines() or [""])[0][:160] or type(error).__name__
