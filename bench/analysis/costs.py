"""What images cost: milliseconds, denoiser calls, memory. Means, and multiples of what other images cost.

The one place where costs are divided: of the arms of a table (`ratios`), and of two runs (`costs`).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench import stats
from bench.analysis.arms import Floats, Images, Ints, MeasuredArm
from bench.analysis.paired import SHORTEST_MS, bounds
from bench.sampling.measure import PROCESS
from bench.stats.resampling import numbered
from bench.store import CALLS, TIMES, Memory
from bench.store.rows import EVALUATIONS

if TYPE_CHECKING:
    from bench.analysis.pairing import Rows

Row = dict[str, Any]
Columns = Mapping[str, Floats]
"""What images cost, by name, (n,) each."""


# Ratios --------------------------------------------------------------------------------------------------------------


def of_means(ours: float | None, theirs: float | None) -> float | None:
    """A mean as a multiple of another; None where one of them is nothing."""
    return ours / theirs if ours and theirs else None


def _batches(*sides: Columns) -> list[Ints]:
    """The number of each image's batch, by side: images of one batch have one time, shared out, as good as a name."""
    return [numbered(side["sampling_ms"]) for side in sides]


def _time_ratio(
    name: str, ours: Columns, theirs: Columns, batches: Sequence[Ints], *, same_samples: bool
) -> Row | None:
    """A stage's time, or `total_ms`, as a multiple of the others'; None where it takes less than SHORTEST_MS."""
    stages = TIMES if name == "total_ms" else (name,)
    values = [np.sum([side[stage] for stage in stages], axis=0) for side in (ours, theirs)]
    if any(not v.min() > 0 or v.mean() < SHORTEST_MS for v in values):
        return None
    ratio = stats.time_ratio(values[0], batches[0], values[1], batches[1], same_samples=same_samples)
    return {"ratio": ratio.estimate, "low": ratio.low or None, "high": bounds(ratio)["high"]}


def _peak_ratio(ours: float, theirs: float, kinds: Container[str]) -> float | None:
    """The largest peak as a multiple; None where one is a process's, of all that it has done in its own order."""
    return ours / theirs if theirs > 0 and PROCESS not in kinds else None


# Arms of a table -----------------------------------------------------------------------------------------------------


def cost_of(arm: MeasuredArm, images: Images) -> dict[str, Any]:
    """Means an image. Times are of the images that `ratios` compares, made in these runs where there are any."""
    cost: dict[str, Any] = dict.fromkeys((*TIMES, "total_ms", *CALLS, "calls_total", "peak_bytes", "peak_kind"))
    cost |= {"hardware": None, "from_cache": 0, "n_timed": 0}
    made, fresh = arm.made(), _fresh(arm, images)
    timed = arm.image[fresh if fresh.any() else _timed(arm, images)]
    if not len(made) or not images.words["hardware"][made[0]]:  # made elsewhere: its cost was not measured
        return cost
    cost |= {name: float(np.mean(images.numbers[name][timed])) for name in TIMES}
    cost["total_ms"] = sum(cost[name] for name in TIMES)
    cost |= {name: float(np.mean(images.numbers[name][made])) for name in CALLS}
    cost["calls_total"] = cost["calls_noise"] + cost["calls_sampling"]
    cost |= {name: float(np.mean(images.numbers[name][made])) for name in EVALUATIONS}
    peaks = images.numbers["peak_bytes"][timed]
    cost["peak_bytes"] = int(np.nanmax(peaks)) or None if np.isfinite(peaks).any() else None
    cost["peak_kind"] = images.words["peak_kind"][timed[0]]
    cost["from_cache"] = int(images.numbers["from_cache"][made].sum())
    cost["n_timed"], cost["hardware"] = len(timed), images.words["hardware"][timed[0]]
    return cost | _memory_of(arm, images)


LEAST_BYTES = 2**20
"""A ratio of memory is given of a MiB or more on both sides: less is a few pages that a library touched."""


def _memory_of(arm: MeasuredArm, images: Images) -> Row:
    """The arm's memory as it was measured apart; nothing where it was not."""
    found = images.memory.get((arm.setting, arm.method))
    if found is None:
        return {}
    if found.reason is not None:
        return {"memory_failed": found.reason}
    row: Row = {"memory_bytes": found.peak_bytes, "memory_batch": len(found.ids)}
    stages = {"memory_noise_bytes": found.noise_bytes, "memory_sampling_bytes": found.sampling_bytes}
    return row | {name: value for name, value in stages.items() if value is not None}


def _memory_ratio(arm: MeasuredArm, base: MeasuredArm, images: Images) -> Row:
    """The memory measured apart as a multiple of the baseline's, where both are of batches of one kind."""
    ours, theirs = (images.memory.get((one.setting, one.method)) for one in (arm, base))
    if arm is base or ours is None or theirs is None or _measured_as(ours) != _measured_as(theirs):
        return {}
    sides = [one.peak_bytes or 0 for one in (ours, theirs)]
    if min(sides) < LEAST_BYTES:
        return {}
    return {"memory_bytes": {"ratio": sides[0] / sides[1], "low": None, "high": None}}


def _measured_as(one: Memory) -> tuple[Any, ...]:
    return one.hardware, one.kind, one.dtype, len(one.ids)


def _timed(arm: MeasuredArm, images: Images) -> NDArray[np.bool_]:
    """Which of the arm's images (n,) were made on the hardware that made most of them; of two, that of the first."""
    there = arm.image >= 0
    hardware = images.kinds["hardware"][arm.made()]
    if len(hardware):
        of = np.bincount(hardware)[hardware]
        there[there] = hardware == hardware[np.argmax(of)]
    return there


def ratios(arm: MeasuredArm, base: MeasuredArm, images: Images) -> Row:
    """Each cost as a multiple of the baseline's, times with intervals; null where the machines were two.

    So it is where a stage takes less than SHORTEST_MS, and where a peak is the whole process's. Memory measured apart
    has a ratio of its own.
    """
    fresh = [_fresh(a, images) for a in (arm, base)]
    ours, theirs = (a.image[some] for a, some in zip((arm, base), fresh, strict=True))
    hardware = [images.words["hardware"][rows[0]] if len(rows) else None for rows in (ours, theirs)]
    judged = hardware[0] is not None and hardware[0] == hardware[1] and arm is not base
    same = np.array_equal(arm.pair[fresh[0]], base.pair[fresh[1]])
    sides = [{name: images.numbers[name][rows] for name in (*TIMES, "peak_bytes")} for rows in (ours, theirs)]
    batches = _batches(*sides)
    found: Row = {}
    for name in (*TIMES, "total_ms"):
        found[name] = _time_ratio(name, sides[0], sides[1], batches, same_samples=same) if judged else None
    for name, columns in (("calls_noise", CALLS[:1]), ("calls_sampling", CALLS[1:]), ("calls_total", CALLS)):
        value = of_means(*(_calls_of(a, images, columns) for a in (arm, base))) if arm is not base else None
        found[name] = value and {"ratio": value, "low": value, "high": value}
    peaks = [float(np.nanmax(np.nan_to_num(side["peak_bytes"]))) if len(side["peak_bytes"]) else 0.0 for side in sides]
    kinds = {kind for rows in (ours, theirs) for kind in images.different("peak_kind", rows)}
    peak = _peak_ratio(peaks[0], peaks[1], kinds) if judged and all(peaks) else None
    found["peak_bytes"] = peak and {"ratio": peak, "low": None, "high": None}
    return found | _memory_ratio(arm, base, images)


def calls_of(arm: MeasuredArm, images: Images) -> float:
    """Mean denoiser calls of an image, in all stages; 0 where there is none."""
    return _calls_of(arm, images, CALLS)


def _calls_of(arm: MeasuredArm, images: Images, columns: tuple[str, ...]) -> float:
    made = arm.made()
    return float(sum(images.numbers[name][made].mean() for name in columns)) if len(made) else 0.0


def _fresh(arm: MeasuredArm, images: Images) -> NDArray[np.bool_]:
    """Which (n,) are `_timed` in these runs: a cached image was timed on another day."""
    timed = _timed(arm, images)
    timed[timed] = images.numbers["from_cache"][arm.image[timed]] == 0
    return timed


# Two runs ------------------------------------------------------------------------------------------------------------


def costs(a: Rows, b: Rows) -> Row:
    """Means an image over paired rows of two runs, and ratios b / a; all images must be there.

    Times count the pairs that were made on the same hardware and are two measurements: an image that one run took
    from the cache may be the other's own, with the very same times, which say nothing of a change in speed.
    """
    same: NDArray[np.bool_] = np.asarray(a.words["hardware"] == b.words["hardware"], dtype=bool)
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
    batches = _batches(b.numbers, a.numbers)
    for name in (*TIMES, "total_ms"):
        before, after = (rows.total_ms if name == "total_ms" else rows.numbers[name] for rows in (a, b))
        ratio = _time_ratio(name, b.numbers, a.numbers, batches, same_samples=True)
        found[name] = {"a": float(before.mean()), "b": float(after.mean()), "ratio": None, "low": None, "high": None}
        found[name] |= ratio or {}
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
    own = bool(same.all()) and kinds[0] == kinds[1]
    ratio = _peak_ratio(peaks[1], peaks[0], kinds[0]) if own else None
    return {"a": peaks[0], "b": peaks[1], "kind_a": ", ".join(kinds[0]), "kind_b": ", ".join(kinds[1]), "ratio": ratio}
