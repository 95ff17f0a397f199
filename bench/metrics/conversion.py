"""MPS's published checkpoint, a whole pickled module, as the state dict that the scorer reads.

The file is read once, in a process of its own and without executing anything in it (`networks/module.py`).
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from bench.errors import UserError, first_line
from bench.metrics.checkpoint import kept

STATE = "MPS_overall_state.pth"
_NEEDED = ("model.text_projection.weight", "model.logit_scale", "cross_model.layers.0.0.fn.to_q.weight")
"""Names by which a network is known as MPS."""


def convert_mps(source: Path, target: Path | None = None) -> Path:
    """Write the state dict of `MPS_overall_checkpoint.pth`; returns its path. UserError where the file is not one.

    `target` is a folder or a file; None: where scorers look for it when a suite names no checkpoint.
    """
    if not source.is_file():
        raise UserError(
            f"{source}: no such file; expected MPS_overall_checkpoint.pth, of the repository Kwai-Kolors/MPS"
        )
    place = kept() if target is None else target
    if not place.suffix or place.is_dir():
        place = place / STATE
    done = subprocess.run(
        [sys.executable, "-m", "bench.metrics.conversion", str(source), str(place)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"the converter ended with {done.returncode}"]
        raise UserError(said[-1])
    return place


def _convert(source: Path, target: Path) -> None:
    """The work of the converter's process."""
    import torch

    from bench.metrics.networks.module import module_state

    try:
        state = module_state(source)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{source}: cannot be read ({first_line(error)}); download it again") from error
    lacking = [name for name in _NEEDED if name not in state]
    if lacking:
        raise UserError(f"{source}: a module, but not MPS: it has no {lacking[0]}")
    temporary = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, temporary)
        temporary.replace(target)
    except (OSError, RuntimeError) as error:  # torch has its own words for a full disk
        temporary.unlink(missing_ok=True)
        raise UserError(f"{target}: cannot be written ({first_line(error)})") from error


if __name__ == "__main__":
    try:
        _convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except (UserError, RecursionError, MemoryError) as error:
        print(first_line(error), file=sys.stderr)
        raise SystemExit(2) from None
