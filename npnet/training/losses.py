"""What a training leaves for a reader: losses.csv, losses.png, and one line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npnet.pairs.folders import write_file
from npnet.training.data import Pairs

COLUMNS = (
    "epoch",
    "steps",
    "seconds",
    "learning_rate",
    "train_mse",
    "validation_mse",
    "explained",
    "identity_mse",
    "scaled_mse",
)
BEST, LAST, CSV, FIGURE = "best.safetensors", "last.safetensors", "losses.csv", "losses.png"
_SCALE_PAIRS = 4096
"""Training pairs that the constant scale is fitted on; each brings hundreds of numbers for one."""
_AT_ONCE = 64


def baselines(pairs: Pairs, training: np.ndarray, validation: np.ndarray) -> tuple[float, float]:
    """Validation MSE of the source noise unchanged, and of c times it, c = <x, x'> / <x, x> on training pairs.

    A network is worth something only below both; re-denoise sampling shrinks noise, so c alone explains a part.
    """
    xx, xy, _ = _moments(pairs, training[:: -(-len(training) // _SCALE_PAIRS)])
    c = xy / xx if xx else 1.0
    xx, xy, yy = _moments(pairs, validation)
    numbers = len(validation) * math.prod(pairs.source.shape[1:])
    return (xx - 2 * xy + yy) / numbers, (c * c * xx - 2 * c * xy + yy) / numbers


def _moments(pairs: Pairs, ids: np.ndarray) -> tuple[float, float, float]:
    """Sums of x x, x x' and x' x' over pairs, in float64."""
    total = np.zeros(3)
    for at in range(0, len(ids), _AT_ONCE):
        x = pairs.source[ids[at : at + _AT_ONCE]].astype(np.float64)
        y = pairs.target[ids[at : at + _AT_ONCE]].astype(np.float64)
        total += ((x * x).sum(), (x * y).sum(), (y * y).sum())
    return float(total[0]), float(total[1]), float(total[2])


def explained(mse: float, identity: float) -> float:
    """R² of the move from source to target against no move, 1 - mse / mse of no move; NaN where none moves."""
    return 1 - mse / identity if identity > 0 else math.nan


def write(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write losses.csv, a row an epoch; UserError where that cannot be done."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows([{name: _shown(row[name]) for name in COLUMNS} for row in rows])
    write_file(out / CSV, text.getvalue().encode())


def draw(rows: Sequence[Mapping[str, Any]], out: Path) -> bool:
    """Write losses.png; returns False where matplotlib is not installed, UserError where it cannot be written."""
    try:
        picture = _figure(rows)
    except ImportError:
        return False
    write_file(out / FIGURE, picture)
    return True


def _shown(value: Any) -> Any:
    return f"{value:.8g}" if isinstance(value, float) else value


def _figure(rows: Sequence[Mapping[str, Any]]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) < 20 else None
    axes.plot(epochs, [row["train_mse"] for row in rows], label="training", marker=marker)
    axes.plot(epochs, [row["validation_mse"] for row in rows], label="validation", marker=marker)
    axes.axhline(rows[-1]["identity_mse"], color="0.4", linestyle="--", label="source noise unchanged")
    axes.axhline(rows[-1]["scaled_mse"], color="0.4", linestyle=":", label="source noise times a constant")
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean squared error to the target noise")
    axes.legend()
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=150)
    return made.getvalue()


def summary(rows: Sequence[Mapping[str, Any]], *, pairs: int) -> dict[str, Any]:
    """The best epoch, and what it is to be compared with."""
    best = min(rows, key=lambda row: row["validation_mse"])
    return {
        "pairs": pairs,
        "epochs": rows[-1]["epoch"],
        "best_epoch": best["epoch"],
        "validation_mse": best["validation_mse"],
        "train_mse": best["train_mse"],
        "explained": best["explained"],
        "identity_mse": best["identity_mse"],
        "scaled_mse": best["scaled_mse"],
        "seconds": rows[-1]["seconds"],
    }


def summary_line(
    rows: Sequence[Mapping[str, Any]], out: Path, *, pairs: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Say what came of a training in one line; returns the same as numbers."""
    found = summary(rows, pairs=pairs)
    gone = "" if (out / BEST).is_file() else f" (no longer there; {LAST} is of epoch {found['epochs']})"
    say(
        f"{out / BEST}{gone}: epoch {found['best_epoch']} of {found['epochs']}, "
        f"validation mse {found['validation_mse']:.6g} (source unchanged {found['identity_mse']:.6g}, "
        f"scaled {found['scaled_mse']:.6g}): R² of the move {found['explained']:.3f}; "
        f"{found['seconds']:.0f} s"
    )
    return found
