"""How similar the singular vectors of source and target noise are: the paper's Fig. 5 (first version). No torch.

NPNet keeps the source's singular vectors and predicts the target's singular values alone, which is sound as far as
these agree. As in the figure: of every channel of every pair the absolute cosines between the i-th vectors of both,
sorted from high to low, and then their mean over pairs. Beside them the same with another pair's target, which is what
vectors that have nothing to do with each other give, sorted the same way: in few dimensions that is well above zero.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench.errors import UserError
from npnet.pairs import dataset

SIDES = ("left", "right")


def cosines(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2, ..., k) absolute cosines of left and right singular vectors of (..., h, w), k = min(h, w), each sorted."""
    one, other = (np.linalg.svd(x.astype(np.float64), full_matrices=False) for x in (source, target))
    left = np.abs((one.U * other.U).sum(axis=-2))
    right = np.abs((one.Vh * other.Vh).sum(axis=-1))
    return -np.sort(-np.stack([left, right]), axis=-1)


def measured(folder: Path, *, most: int | None = None) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean sorted cosines (2, k) of a collection's pairs, those with other pairs' targets, and the number of pairs.

    UserError for a collection of fewer than two pairs; `most` takes the first ones alone.
    """
    own, others, n = [], [], 0
    for source, target in _pairs(folder, most):
        own.append(cosines(source, target).mean(axis=2).sum(axis=1))
        others.append(cosines(source, np.roll(target, 1, axis=0)).mean(axis=2).sum(axis=1))
        n += len(source)
    if n < 2:
        raise UserError(f"{folder}: holds {n} pairs; singular vectors are compared over at least 2")
    return sum(own) / n, sum(others) / n, n


def _pairs(folder: Path, most: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Source and target (n, C, h, w) of some pairs at a time, never of one alone."""
    left = most
    for shard in dataset.read(folder)[1]:
        some = len(shard) if left is None else min(left, len(shard))
        left = None if left is None else left - some
        if some > 1:  # one alone has no other pair's target beside it
            yield shard.source[:some], shard.target[:some]


def run(folder: Path, *, most: int | None = None, out: Path | None = None, say: Callable[[str], None] = print) -> None:
    """`npnet singular-vectors`: print a table of a few places, and write all of them as CSV or draw them as SVG."""
    own, others, n = measured(folder, most=most)
    k = own.shape[1]
    say(f"{n:,} pairs; mean |cos| of the i-th singular vectors, sorted: source and target, source and another's target")
    say("")
    say("| place | left | another's | right | another's |")
    say("|---|---|---|---|---|")
    for i in sorted({0, k // 4, k // 2, 3 * k // 4, k - 1}):
        say(f"| {i + 1} of {k} | {own[0, i]:.3f} | {others[0, i]:.3f} | {own[1, i]:.3f} | {others[1, i]:.3f} |")
    say(f"| mean | {own[0].mean():.3f} | {others[0].mean():.3f} | {own[1].mean():.3f} | {others[1].mean():.3f} |")
    if out is not None:
        (_draw if out.suffix.lower() in (".svg", ".png", ".pdf") else _write)(out, own, others)
        say(f"\n{out}")


def _write(out: Path, own: np.ndarray, others: np.ndarray) -> None:
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["place", "left", "left_of_another", "right", "right_of_another"])
        for i in range(own.shape[1]):
            writer.writerow([i + 1, *(f"{v:.6f}" for v in (own[0, i], others[0, i], own[1, i], others[1, i]))])


def _draw(out: Path, own: np.ndarray, others: np.ndarray) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"{out}: a figure needs matplotlib: pip install matplotlib; or give a .csv") from error
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for side, (at, name) in enumerate(zip(axes, SIDES, strict=True)):
        at.plot(np.arange(1, own.shape[1] + 1), own[side], label="source and target")
        at.plot(np.arange(1, own.shape[1] + 1), others[side], "--", label="source and another's target")
        at.set(title=f"{name} singular vectors", xlabel="place", ylim=(0, 1))
    axes[0].set_ylabel("|cos|")
    axes[1].legend()
    figure.savefig(out)
