"""Batches of jobs -> PNG files and ledger rows: one model at a time, every arm through one session's loop."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import registry
from bench.fitting import grown
from bench.models.base import Family, ModelEntry, to_uint8
from bench.provenance import hardware, origin
from bench.runner.engine import Engine
from bench.runner.faults import UNDECODED, checked, described, fail_not_finite, fault_of
from bench.runner.plan import Job
from bench.sampling import noise
from bench.sampling.measure import peak
from bench.sampling.meter import Cost, Meter
from bench.sampling.session import Session
from bench.store import Image, Ledger
from bench.store.cache import ImageCache
from bench.store.images import pixel_digest

if TYPE_CHECKING:
    import numpy as np
    import torch

WARM_UP_STEPS = 2


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


class Maker(Engine):
    """An engine that makes the images of a run, for as long as one generate stage."""

    def __init__(self, ledger: Ledger, cache: ImageCache | None, *, device: str):
        super().__init__(device)
        self.ledger, self.cache = ledger, cache
        self.hardware = hardware(device)
        self.begun = time.perf_counter()
        self.warmup_seconds = 0.0
        self.stages: dict[str, float] = {}
        self.writer = ThreadPoolExecutor(2)

    def totals(self) -> dict[str, Any]:
        """Seconds: the whole stage, its parts, and the share spent inside the models' networks."""
        self.writer.shutdown()
        prepared = self.stages.pop("prepare", 0.0)
        wall = time.perf_counter() - self.begun - self.load_seconds - self.warmup_seconds - prepared
        self.release()
        found: dict[str, Any] = {
            "seconds": wall,
            "load_seconds": self.load_seconds + prepared,
            "warmup_seconds": self.warmup_seconds,
            "stages": self.stages,
            "device": self.device,
        }
        if self.device == "cpu":
            found |= {"inside": self.inside, "efficiency": sum(self.inside.values()) / wall}
        return found

    def model(self, job: Job, size: int) -> tuple[Family, Meter]:
        """The job's model; loading it also runs one throwaway batch, so that no timed batch is the first."""
        if self.family is None or (self.family.entry.name, self.family.dtype) != (job.model, job.dtype):
            entry: ModelEntry = registry.get("models", job.model)
            return self.load(entry, job.dtype, warm_up=lambda family, meter: self._warm_up(family, meter, job, size))
        assert self.meter is not None
        return self.family, self.meter

    def _warm_up(self, family: Family, meter: Meter, job: Job, size: int) -> None:
        import torch

        begun = time.perf_counter()
        steps = max(WARM_UP_STEPS, registry.get("samplers", job.sampler).fewest_steps)
        plain = replace(job.sampling, steps=steps, timesteps=None, settings=())
        meter.begin(size)
        kept, self.embeddings = self.embeddings, {}
        with torch.no_grad():
            cond, uncond, _ = self._embed(family, [job] * size)
            if family.parking is not None:
                family.parking.leave()
            session = Session(family, [job.item] * size, plain, cond=cond, uncond=uncond, meter=meter)
            session.decode(session.sample(session.draw()))
        self.embeddings = kept
        self.warmup_seconds += time.perf_counter() - begun

    def largest(self, job: Job) -> int:
        """The largest batch of the job's model that fits and pays, found on throwaway batches of plain sampling.

        One size for all arms: an image of a larger batch takes less time, and that is no method's merit.
        """
        import torch

        try:
            family, meter = self.model(job, 1)
        except torch.OutOfMemoryError:
            return 1  # the first batch says so

        def seconds(size: int) -> float:
            before = self.warmup_seconds
            self._warm_up(family, meter, job, size)
            return self.warmup_seconds - before

        size = grown(seconds)
        print(f"batch size: {size} images of {job.model}, the most that fit and pay", file=sys.stderr)
        return size

    def make(self, jobs: Sequence[Job]) -> None:
        """One batch, from prompts to ledger rows; in smaller ones where a GPU's memory does not suffice."""
        self.fitting.each(jobs, self._make, model=jobs[0].model, one="image")

    def _make(self, jobs: Sequence[Job]) -> None:
        family, meter = self.model(jobs[0], len(jobs))
        cost = meter.begin(len(jobs))
        batch = self._sample(family, meter, jobs)
        made = [i for i in range(len(jobs)) if i not in batch.failed]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.ledger.put_failures((jobs[i].id, reason, now) for i, reason in batch.failed.items())
        pixels = () if batch.pixels is None else batch.pixels
        rows = [
            replace(
                self._row(cost, i, len(jobs)),
                job_id=jobs[i].id,
                digest=pixel_digest(one),
                file=f"images/{jobs[i].id}.png",
                encode_ms=batch.encode_ms[i],
                latent_digest=batch.digests[i],
                created=now,
                facts=json.dumps(batch.facts[i], sort_keys=True),
            )
            for i, one in zip(made, pixels, strict=True)
        ]
        begun = time.perf_counter()
        self._write(rows, pixels)
        cost.seconds["write"] = time.perf_counter() - begun
        for stage, seconds in cost.seconds.items():
            self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    def _row(self, cost: Cost, i: int, batch: int) -> Image:
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
            peak_kind=peak(self.device)[1],
            batch=batch,
            hardware=self.hardware,
            latent_digest="",
            created="",
            cost=json.dumps(cost.record(i), sort_keys=True),
        )

    def _write(self, rows: list[Image], pixels: Iterable[np.ndarray]) -> None:
        folder = self.ledger.folder
        list(self.writer.map(lambda p: _save_png(p[1], folder / p[0].file), zip(rows, pixels, strict=True)))
        self.ledger.put_images(rows)
        if self.cache is not None:
            for row in rows:
                self.cache.put(row, folder / row.file)

    def _sample(self, family: Family, meter: Meter, jobs: Sequence[Job]) -> Made:
        """A batch as far as its pixels; what may go wrong, and for whom, is in `bench.runner.faults`."""
        import torch

        job, chain = jobs[0], jobs[0].chain
        session: Session | None = None
        # Not inference mode: methods may differentiate.
        with torch.no_grad():
            with meter.stage("encode"):
                cond, uncond, encode_ms = self._embed(family, jobs)
            if family.parking is not None:
                family.parking.leave()
            items = [j.item for j in jobs]
            try:
                session = Session(
                    family,
                    items,
                    job.sampling,
                    cond=cond,
                    uncond=uncond,
                    meter=meter,
                    method=chain,
                    scorers=self.scorer,
                )
                x = session.draw()
                digests = [noise.digest(one) for one in x]
                with meter.stage("prepare"):
                    family.wear(chain.adapters())
                    session.meter.rebind(family.modules())
                    chain.prepare(session)
                with meter.stage("noise"):
                    if chain.links:
                        with meter.foreign():
                            given = chain.noise(session, x)
                        if given is not x:
                            x = checked(given, x, session)
                            digests = [noise.digest(one) for one in x]
                with meter.stage("sampling"):
                    final = session.sample(x)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                said = fault_of(chain, error)
                if said is None:
                    raise
                known = session.failed if session else {}
                return Made({i: known.get(i, said) for i in range(len(jobs))})
            fail_not_finite(session, range(len(jobs)), final, "final latents are")
            pixels = _decoded(family, session, final)
        return Made(session.failed, pixels, session.facts, digests, encode_ms)


def _decoded(family: Family, session: Session, final: torch.Tensor) -> np.ndarray | None:
    """Pixels of the images that have not failed; an image whose pixels cannot be made fails."""
    import torch

    kept = [i for i in range(len(final)) if i not in session.failed]
    if not kept:
        return None
    try:
        with session.meter.stage("decode"), session.meter.only(kept):
            images = family.pixels(final if len(kept) == len(final) else final[kept])
            pixels = to_uint8(images)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        for i in kept:
            session.fail(i, UNDECODED.format(error=described(error)))
        return None
    fine = fail_not_finite(session, kept, images, "pixels are")
    return pixels if all(fine) else pixels[[k for k, good in enumerate(fine) if good]]


def _save_png(pixels: np.ndarray, path: Path) -> None:
    """Write beside the target and rename, so that a PNG of that name is whole."""
    from PIL import Image as Pillow

    temporary = path.with_name(f".{path.name}.tmp")
    try:
        Pillow.fromarray(pixels).save(temporary, format="PNG")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
