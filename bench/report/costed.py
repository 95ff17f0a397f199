"""Times of an image and their multiples, stage by stage."""

from __future__ import annotations

from bench.records import ArmRow, Cost, Ratio
from bench.sampling.measure import PROCESS

STAGES = ("encode", "noise", "sampling", "decode", "select")


def stage_times(cost: Cost) -> dict[str, float | None]:
    """Milliseconds by STAGES."""
    times = (cost.encode_ms, cost.noise_ms, cost.sampling_ms, cost.decode_ms, cost.select_ms)
    return dict(zip(STAGES, times, strict=True))


def stage_ratios(arm: ArmRow) -> dict[str, Ratio | None]:
    """Multiples of the baseline's, by STAGES."""
    ratios = arm.cost.ratios
    known = (ratios.encode_ms, ratios.noise_ms, ratios.sampling_ms, ratios.decode_ms, ratios.select_ms)
    return dict(zip(STAGES, known, strict=True))


def own_peak(cost: Cost) -> int | None:
    """An arm's peak memory in bytes; None where it is the whole process's, of all that ran before."""
    return None if cost.peak_kind == PROCESS else cost.peak_bytes
