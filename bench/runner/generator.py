"""Batches of jobs -> PNGs and the rows that go with them: one model at a time, every arm through one session's loop.

Nothing is written here: whoever asked for a batch, in this process or another, writes what comes of it.
"""

from __future__ import annotations

import io
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bench import registry
from bench.backoff import grown
from bench.models.base import Embeddings, Family, ModelEntry, to_uint8
from bench.models.loading import compile_seconds
from bench.provenance import hardware
from bench.runner.engine import Engine
from bench.runner.faults import FAR, UNDECODED, checked, described, fail_not_finite, fault_of
from bench.runner.limits import limited
from bench.runner.parcel import Largest, Made, Parcel, added, row_of
from bench.runner.plan import Job
from bench.sampling import noise
from bench.sampling.meter import Meter
from bench.sampling.session import Session
from bench.store.images import pixel_digest

if TYPE_CHECKING:
    import numpy as np
    import torch

WARM_UP_STEPS = 2


@dataclass(frozen=True)
class Making:
    """How a worker comes to make images: it opens a Generator, which loads models as batches ask for them."""

    device: str
    expected: tuple[Job, ...] = ()
    """Jobs to come, of models whose text encoders leave the GPU."""
    seconds: float | None = None
    """The most that an image may take, of what its method decides."""

    def open(self) -> Generator:
        generator = Generator(self.device, self.seconds)
        generator.expect(self.expected)
        return generator


EMBEDDED = 64
"""Batches whose prompts' embeddings are kept: those of all arms that take turns over the same prompts."""


class Generator(Engine):
    """An engine that makes batches of images."""

    def __init__(self, device: str, seconds: float | None = None):
        """`seconds` as in `Making`."""
        super().__init__(device)
        self.hardware, self.seconds = hardware(device), seconds
        self.spent: dict[str, float] = {}
        self._compiled = compile_seconds()
        self._by_batch: OrderedDict[tuple[str, ...], dict[tuple[str, str], tuple[Embeddings, float]]] = OrderedDict()

    def do(self, task: Sequence[Job] | Largest) -> Callable[[], Any]:
        """Make a batch; returns what encodes its PNGs, which may run while the next batch is made."""
        if isinstance(task, Largest):
            size = self.largest(task.job)
            return lambda: size
        return self._done(task)

    def _done(self, jobs: Sequence[Job]) -> Callable[[], Parcel]:
        parts: list[Callable[[], Parcel]] = []
        # In smaller batches where a GPU's memory does not suffice.
        self.backoff.each(jobs, lambda part: parts.append(self._make(part)), model=jobs[0].model, one="image")
        spent = self._take_spent()

        def finish() -> Parcel:
            whole = Parcel(spent=spent)
            for part in parts:
                one = part()
                whole.rows += one.rows
                whole.pngs += one.pngs
                whole.failures += one.failures
                added(whole.spent, one.spent)
            return whole

        return finish

    def make(self, jobs: Sequence[Job]) -> Parcel:
        """Make a batch, PNGs and all."""
        return self._done(jobs)()

    def close(self) -> None:
        """Let the model go."""
        self.release()

    def release(self) -> None:
        super().release()
        self._by_batch.clear()

    def _take_spent(self) -> dict[str, float]:
        """Seconds since this was last asked."""
        if self.meter is not None:
            added(self.inside, self.meter.inside)
            self.meter.inside.clear()
        found = {**self.spent, "load": self.load_seconds, **{f"inside {role}": s for role, s in self.inside.items()}}
        self.spent, self.load_seconds, self.inside = {}, 0.0, {}
        if (compiled := compile_seconds()) > self._compiled:
            found["compile"], self._compiled = compiled - self._compiled, compiled
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

        started = time.perf_counter()
        steps = max(WARM_UP_STEPS, registry.get("samplers", job.sampler).fewest_steps)
        plain = replace(job.sampling, steps=steps, timesteps=None, settings=())
        meter.begin(size)
        kept, self.embeddings = self.embeddings, {}
        try:
            with torch.no_grad():
                cond, uncond, _ = self._embed(family, [job] * size)
                if family.parking is not None:
                    family.parking.leave()
                session = Session(family, [job.item] * size, plain, cond=cond, uncond=uncond, meter=meter)
                session.decode(session.sample(session.draw()))
        finally:  # a size that does not fit memory is tried, too
            self.embeddings = kept
        added(self.spent, {"warmup": time.perf_counter() - started})

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
            before = self.spent.get("warmup", 0.0)
            self._warm_up(family, meter, job, size)
            return self.spent["warmup"] - before

        return grown(seconds)

    def _make(self, jobs: Sequence[Job]) -> Callable[[], Parcel]:
        family, meter = self.model(jobs[0], len(jobs))
        cost = meter.begin(len(jobs))
        if family.parking is None:
            self._embeddings_of(jobs)
        batch = self._sample(family, meter, jobs)
        made = [i for i in range(len(jobs)) if i not in batch.failed]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        failures = [(jobs[i].id, reason, now) for i, reason in batch.failed.items()]
        rows = [
            replace(
                row_of(cost, i, len(jobs), self.device, self.hardware),
                job_id=jobs[i].id,
                file=f"images/{jobs[i].id}.png",
                encode_ms=batch.encode_ms[i],
                latent_digest=batch.digests[i],
                created=now,
                facts=json.dumps(batch.facts[i], sort_keys=True),
            )
            for i in made
        ]
        added(self.spent, {f"stage {stage}": seconds for stage, seconds in cost.seconds.items()})

        def finish() -> Parcel:
            started = time.perf_counter()
            pixels = () if batch.pixels is None else batch.pixels
            named = [replace(row, digest=pixel_digest(one)) for row, one in zip(rows, pixels, strict=True)]
            pngs = [_png(one) for one in pixels]
            return Parcel(named, pngs, failures, {"stage write": time.perf_counter() - started})

        return finish

    def _embeddings_of(self, jobs: Sequence[Job]) -> None:
        """Take the embeddings that a batch of these prompts was given before, or none.

        A prompt's embeddings differ in their last bits with the prompts that it is encoded beside. So it is encoded
        with those of its batch and no others, whatever batches this process has made before.
        """
        prompts = tuple(dict.fromkeys(job.prompt for job in jobs))
        self.embeddings = self._by_batch.setdefault(prompts, {})
        self._by_batch.move_to_end(prompts)
        while len(self._by_batch) > EMBEDDED:
            self._by_batch.popitem(last=False)

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
            over = f"it took more than {self.seconds or 0:g} s an image, the limit of --job-seconds"
            limit = None if self.seconds is None else self.seconds * len(jobs)
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
                with limited(limit, over):
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
            except BaseException as error:  # a plugin may call sys.exit
                said = fault_of(chain, error)
                if said is None:
                    raise
                known = session.failed if session else {}
                return Made({i: known.get(i, said) for i in range(len(jobs))})
            fail_not_finite(session, range(len(jobs)), final, "final latents are", most=FAR)
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


def _png(pixels: np.ndarray) -> bytes:
    """The PNG of an image (H, W, 3) uint8."""
    from PIL import Image as Pillow

    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()
