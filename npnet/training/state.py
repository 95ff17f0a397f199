"""What a killed training resumes from: one file, read and checked, written whole."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.errors import UserError
from npnet.network.pickled import first_line, safe_load
from npnet.pairs.folders import write_file

if TYPE_CHECKING:
    from torch import nn

FILE = "state.pt"
_EXPECTED = "a training's state: delete it to start again, or give another --out"
_KINDS = {
    "identity": Mapping,
    "network": Mapping,
    "optimizer": Mapping,
    "epoch": int,
    "step": int,
    "total": float,
    "rows": list,
    "seconds": float,
}


def read(out: Path, *, identity: Mapping[str, Any], epochs: int) -> dict[str, Any] | None:
    """The state in `out`; None where there is none, UserError where it is another training's or broken.

    `identity` is what two trainings must have in common for one to resume from the other, `epochs` how many are wanted.
    """
    path = out / FILE
    if not path.exists():
        return None
    found = safe_load(path, expected=_EXPECTED)
    if not isinstance(found, dict) or not all(isinstance(found.get(k), kind) for k, kind in _KINDS.items()):
        raise UserError(f"{path}: holds something else; expected {_EXPECTED}")
    there = found["identity"]
    if found["epoch"] >= epochs:
        # Finished, it is left as it is, however its prompts were split.
        there = {**there, "split": identity["split"]}
    differing = [k for k in {**there, **identity} if there.get(k) != identity.get(k)]
    if differing:
        changed = ", ".join(f"{k} {there.get(k)!r} there, {identity.get(k)!r} here" for k in sorted(differing))
        raise UserError(f"{out}: holds a training with other settings ({changed}); give another --out")
    return found


def restore(
    found: Mapping[str, Any], out: Path, *, network: nn.Module, average: nn.Module | None, optimizer: Any
) -> None:
    """Put weights, average and optimizer back as they were; UserError where they are not this network's."""
    try:
        network.load_state_dict(found["network"])
        if average is not None:
            average.load_state_dict(found["average"])
        optimizer.load_state_dict(found["optimizer"])
    except Exception as error:  # torch says no more than that something in there is not as expected
        said = f"{out / FILE}: not of this network ({first_line(error)})"
        raise UserError(f"{said}; expected {_EXPECTED}") from error


def write(out: Path, content: Mapping[str, Any]) -> None:
    """Write a state, whole or not at all; UserError where that cannot be done."""
    made = io.BytesIO()
    torch.save(dict(content), made)
    write_file(out / FILE, made.getvalue())
