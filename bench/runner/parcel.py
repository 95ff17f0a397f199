"""What comes of a batch of jobs, and what it cost: records that a worker sends to whoever writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.provenance import origin
from bench.runner.plan import Job
from bench.sampling.measure import peak
from bench.sampling.meter import Cost
from bench.store import Image

if TYPE_CHECKING:
    import numpy as np


class Made(NamedTuple):
    """What became of a batch."""

    failed: Mapping[int, str]
    """Reasons by place in the batch."""
    pixels: np.ndarray | None = None
    """Of those that did not fail, uint8 (n, H, W, 3)."""
    facts: Sequence[Mapping[str, Any]] = ()
    """What methods noted of each image of the batch."""
    digests: Sequence[str] = ()
    """Of each image's initial latents."""
    encode_ms: Sequence[float] = ()


@dataclass
class Parcel:
    """What comes of a batch: an image's row and PNG, or the reason why there is none."""

    rows: list[Image] = field(default_factory=list)
    pngs: list[bytes] = field(default_factory=list)
    """One for each row."""
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    """Job id, reason and time, as the ledger keeps them."""
    spent: dict[str, float] = field(default_factory=dict)
    """Seconds since the parcel before: `load`, `warmup`, `stage NAME` and `inside ROLE`."""


@dataclass(frozen=True)
class Largest:
    """Asks a Generator for the largest batch that fits and pays."""

    job: Job


def row_of(cost: Cost, i: int, batch: int, device: str, hardware: str) -> Image:
    """What image i of a batch cost, as a row that lacks the image itself."""
    return Image(
        job_id="",
        digest="",
        origin=origin(),
        file="",
        calls_noise=round(cost.nfe(i, "noise").calls),
        calls_sampling=round(cost.nfe(i, "sampling").calls),
        encode_ms=0.0,
        noise_ms=cost.ms("noise"),
        sampling_ms=cost.ms("sampling"),
        decode_ms=cost.ms("decode"),
        peak_bytes=max(cost.peak.values(), default=0) or None,
        peak_kind=peak(device)[1],
        batch=batch,
        hardware=hardware,
        latent_digest="",
        created="",
        cost=json.dumps(cost.record(i), sort_keys=True),
    )


def added(into: dict[str, float], more: Mapping[str, float]) -> None:
    """Add seconds by name to those there."""
    for name, seconds in more.items():
        into[name] = into.get(name, 0.0) + seconds
