"""What the same images cost in two runs: milliseconds where the hardware is the same, denoiser calls, memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import stats
from bench.measure import PROCESS
from bench.paired import SHORTEST_MS, bounds
from bench.pairing import Rows, alike
from bench.store import CALLS, TIMES

Row = dict[str, Any]


def costs(a: Rows, b: Rows) -> Row:
    """Means an image over paired rows of two runs, and ratios b / a; all images must be there.

    Times count the pairs that were made on the same hardware and are two measurements: an image that one run took
    from the cache may be the other's own, with the very same times, which say nothing of a change in speed.
    """
    same = alike(a.words["hardware"], b.words["hardware"])
    cached = (a.numbers["from_cache"] + b.numbers["from_cache"]) > 0
    # Judging among candidates is done again in every run.
    shared = cached & np.all([a.numbers[n] == b.numbers[n] for n in TIMES if n != "select_ms"], axis=0)
    timed = same & ~shared
    found: Row = {
        "n_timed": int(timed.sum()),
        "n_shared": int(shared.sum()),
        "hardware_a": sorted({*a.words["hardware"].tolist()}),
        "hardware_b": sorted({*b.words["hardware"].tolist()}),
        "times": None,
        "no_times": None,
    }
    if timed.any():
        found["times"] = _times(a.take(timed), b.take(timed))
    elif len(a):
        found["no_times"] = "the images are the same ones, timed once" if same.any() else "different hardware"
    for name, rows in (("a", a), ("b", b)):
        found[f"from_cache_{name}"] = int(rows.numbers["from_cache"].sum())
        found[f"batches_{name}"] = sorted({int(n) for n in rows.numbers["batch"][timed]})
    return found | {"calls": _calls(a, b), "peak": _peak(a, b, same)}


def _times(a: Rows, b: Rows) -> Row:
    found: Row = {}
    # Images of one batch have one time, shared out: a cluster is a batch, and its time as good as its name.
    batches = [rows.numbers["sampling_ms"] for rows in (b, a)]
    for name in (*TIMES, "total_ms"):
        before, after = (rows.total_ms if name == "total_ms" else rows.numbers[name] for rows in (a, b))
        found[name] = {"a": float(before.mean()), "b": float(after.mean()), "ratio": None, "low": None, "high": None}
        if before.min() > 0 and after.min() > 0 and min(before.mean(), after.mean()) >= SHORTEST_MS:
            ratio = stats.time_ratio(after, batches[0], before, batches[1], same_samples=True)
            found[name] |= {"ratio": ratio.estimate, "low": ratio.low or None, "high": bounds(ratio)["high"]}
    return found


def _calls(a: Rows, b: Rows) -> Row | None:
    """Denoiser calls an image, which no hardware changes."""
    if not len(a):
        return None
    found = {n: {"a": float(a.numbers[n].mean()), "b": float(b.numbers[n].mean())} for n in CALLS}
    return found | {"calls_total": {side: sum(found[n][side] for n in CALLS) for side in ("a", "b")}}


def _peak(a: Rows, b: Rows, same: NDArray[np.bool_]) -> Row | None:
    """The largest peak of each run in bytes; a ratio only where both measured their own on the same hardware.

    A process's peak is of all that it has done, in another order in each run.
    """
    known = [rows.numbers["peak_bytes"][~np.isnan(rows.numbers["peak_bytes"])] for rows in (a, b)]
    if not all(len(some) for some in known):
        return None
    peaks = [float(some.max()) for some in known]
    kinds = [sorted({kind for kind in rows.words["peak_kind"].tolist() if kind}) for rows in (a, b)]
    own = bool(same.all()) and kinds[0] == kinds[1] and PROCESS not in kinds[0] and peaks[0] > 0
    ratio = peaks[1] / peaks[0] if own else None
    return {"a": peaks[0], "b": peaks[1], "kind_a": ", ".join(kinds[0]), "kind_b": ", ".join(kinds[1]), "ratio": ratio}
