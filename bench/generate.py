"""Jobs -> PNG files and ledger rows: batched, atomic, resumable."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

from bench import noise, registry
from bench.cache import ImageCache
from bench.errors import UserError
from bench.measure import ModelTime, Stopwatch, peak, reset_peak
from bench.methods.base import Batch
from bench.models.base import Embeddings, Model, ModelEntry
from bench.plan import Job, Plan, build_chain
from bench.progress import Progress
from bench.provenance import hardware
from bench.store import Image, Ledger

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
DEFAULT_BATCH = {"cpu": 50, "cuda": 4}
"""Images a batch. On a CPU larger ones bring nothing more; on a GPU 1024-pixel images fill the memory."""


def pixel_digest(pixels: np.ndarray) -> str:
    """sha256 over shape and bytes of an (H, W, 3) uint8 image, so that the PNG encoder does not matter."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def choose_device(asked: str | None) -> str:
    """`asked`, else a GPU where there is one, else the CPU."""
    import torch

    if asked and asked.split(":")[0] not in DEFAULT_BATCH:
        raise UserError(f"--device {asked}: expected cpu, cuda or cuda:N")
    if asked and asked.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {asked}: torch sees no CUDA device here; use --device cpu")
    if asked and asked.startswith("cuda:") and not asked[5:].isdecimal():
        raise UserError(f"--device {asked}: expected cpu, cuda or cuda:N")
    if asked and asked.startswith("cuda:") and int(asked[5:]) >= torch.cuda.device_count():
        raise UserError(f"--device {asked}: this machine has {torch.cuda.device_count()} CUDA devices, from cuda:0")
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


def generate(
    plan: Plan, ledger: Ledger, cache: ImageCache | None, *, device: str, batch_size: int | None = None
) -> dict[str, Any]:
    """Make every image of the plan that the run does not have yet; returns counts and seconds by stage."""
    images = ledger.folder / "images"
    images.mkdir(exist_ok=True)
    have = {i for i, image in ledger.images().items() if (ledger.folder / image.file).is_file()}
    todo = [j for j in plan.jobs.values() if j.id not in have]
    if cache is not None and todo:
        todo = _bring(todo, ledger, cache)
    totals: dict[str, Any] = {"made": len(todo), "found": len(plan.jobs) - len(todo)}
    if not todo:
        return totals
    batch_size = batch_size or plan.suite.batch_size or DEFAULT_BATCH[device.split(":")[0]]
    with Progress("generate", len(todo)) as progress:
        maker = Maker(ledger, cache, device=device)
        for group in batches(todo, batch_size, prompts=(j.prompt for j in plan.jobs.values())):
            maker.make(group)
            progress.advance(len(group))
    return {**totals, **maker.totals()}


def _bring(todo: list[Job], ledger: Ledger, cache: ImageCache) -> list[Job]:
    """Take from the cache what it has; returns the jobs that remain."""
    found, remain = [], []
    for job in todo:
        file = f"images/{job.id}.png"
        image = cache.get(job.id, ledger.folder / file, file) if cache.has(job.id) else None
        found.append(image) if image else remain.append(job)
    ledger.put_images(i for i in found if i)
    return remain


def batches(jobs: Sequence[Job], size: int, *, prompts: Iterable[str]) -> list[list[Job]]:
    """Jobs of one group each; a model's arms take turns, in the order of `prompts` as far as whole batches allow.

    A machine grows slower or faster while a run goes on; made one arm after the other, that would pass for a
    difference in cost between methods. It also leaves a run that was stopped with something of every arm. No batch
    holds the end of one arm and the beginning of another: an image of a larger batch takes less time, so what is left
    over has to be as few images for every method.
    """
    models = {name: i for i, name in enumerate(dict.fromkeys(j.model for j in jobs))}
    places = {text: i for i, text in enumerate(dict.fromkeys(prompts))}
    found: list[list[Job]] = []
    before: Job | None = None
    for job in jobs:
        # An arm goes through the prompts once, so a prompt from further up begins the next arm.
        goes_on = before is not None and job.group == before.group and places[job.prompt] >= places[before.prompt]
        if goes_on and len(found[-1]) < size:
            found[-1].append(job)
        else:
            found.append([job])
        before = job
    return sorted(found, key=lambda b: (models[b[0].model], fmean(places[j.prompt] for j in b)))


class Fitting:
    """Batches as large as a GPU's memory allows: one that does not fit is halved, and later ones stay as small."""

    def __init__(self) -> None:
        self.most: dict[str, int] = {}
        """By model, the largest batch that may still fit; only of models of which one did not."""

    def each(self, items: Sequence[T], make: Callable[[Sequence[T]], None], *, model: str, one: str) -> None:
        """`make` all items, in parts that fit; UserError where a single one (`one` says of what) does not."""
        import torch

        begun = 0
        while begun < len(items):
            part = items[begun : begun + self.most.get(model, len(items))]
            try:
                make(part)
                begun += len(part)
                continue
            except torch.OutOfMemoryError:
                pass
            # Only out here: while the exception is being handled, its traceback keeps the failed batch's tensors.
            if len(part) == 1:
                raise UserError(f"model {model!r}: one {one} does not fit this GPU's memory")
            torch.cuda.empty_cache()
            self.most[model] = len(part) // 2


class Maker:
    """Models, embeddings and hooks that live as long as one generate stage."""

    def __init__(self, ledger: Ledger, cache: ImageCache | None, *, device: str):
        self.ledger, self.cache, self.device = ledger, cache, device
        self.hardware = hardware(device)
        self.models: dict[str, Model] = {}
        # As loaded: a sampler replaces the pipeline's scheduler, and its settings (Karras sigmas) must not outlive it.
        self.scheduler_configs: dict[str, Any] = {}
        self.times: dict[str, ModelTime] = {}
        self.embeddings: dict[tuple[str, str, str], tuple[Embeddings, float]] = {}
        self.begun = time.perf_counter()
        self.load_seconds = self.warmup_seconds = 0.0
        self.stages: dict[str, float] = {}
        self.fitting = Fitting()
        self.writer = ThreadPoolExecutor(2)

    def totals(self) -> dict[str, Any]:
        """Seconds: the whole stage, its parts, and the share spent inside the models' networks."""
        self.writer.shutdown()
        wall = time.perf_counter() - self.begun - self.load_seconds - self.warmup_seconds
        inside: dict[str, float] = {}
        for timer in self.times.values():
            for role, seconds in timer.seconds.items():
                inside[role] = inside.get(role, 0.0) + seconds
            timer.close()
        found: dict[str, Any] = {
            "seconds": wall,
            "load_seconds": self.load_seconds,
            "warmup_seconds": self.warmup_seconds,
            "stages": self.stages,
            "device": self.device,
        }
        if self.device == "cpu":
            found |= {"inside": inside, "efficiency": sum(inside.values()) / wall}
        return found

    def model(self, job: Job, size: int) -> Model:
        """The job's model; loading it also runs one throwaway batch, so that no timed batch is the first."""
        if job.model not in self.models:
            begun = time.perf_counter()
            entry: ModelEntry = registry.get("models", job.model)
            model = self.models[job.model] = entry.load(self.device)
            self.scheduler_configs[model.entry.name] = model.pipeline.scheduler.config
            loaded = time.perf_counter()
            self._sample(model, [job] * size, Stopwatch(self.device), steps=2)
            self.times[job.model] = ModelTime(model.modules())
            self.load_seconds += loaded - begun
            self.warmup_seconds += time.perf_counter() - loaded
        return self.models[job.model]

    def make(self, jobs: Sequence[Job]) -> None:
        """One batch, from prompts to ledger rows; in smaller ones where a GPU's memory does not suffice."""
        self.fitting.each(jobs, self._make, model=jobs[0].model, one="image")

    def _make(self, jobs: Sequence[Job]) -> None:
        model = self.model(jobs[0], len(jobs))
        watch = Stopwatch(self.device)
        reset_peak(self.device)
        pixels, digests, encode_ms, calls = self._sample(model, jobs, watch)
        peak_bytes, peak_kind = peak(self.device)
        share = {k: 1000 * v / len(jobs) for k, v in watch.seconds.items()}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = [
            Image(
                job_id=job.id,
                digest=pixel_digest(image),
                file=f"images/{job.id}.png",
                calls_noise=calls[0],
                calls_sampling=calls[1],
                encode_ms=ms,
                noise_ms=share["noise"],
                sampling_ms=share["sampling"],
                decode_ms=share["decode"],
                peak_bytes=peak_bytes,
                peak_kind=peak_kind,
                batch=len(jobs),
                hardware=self.hardware,
                latent_digest=digest,
                created=now,
            )
            for job, image, digest, ms in zip(jobs, pixels, digests, encode_ms, strict=True)
        ]
        with watch.stage("write"):
            self._write(rows, pixels)
        for stage, seconds in watch.seconds.items():
            self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    def _write(self, rows: list[Image], pixels: np.ndarray) -> None:
        folder = self.ledger.folder
        list(self.writer.map(lambda p: _save_png(p[1], folder / p[0].file), zip(rows, pixels, strict=True)))
        self.ledger.put_images(rows)
        if self.cache is not None:
            for row in rows:
                self.cache.put(row, folder / row.file)

    def _sample(
        self, model: Model, jobs: Sequence[Job], watch: Stopwatch, *, steps: int | None = None
    ) -> tuple[np.ndarray, list[str], list[float], tuple[int, int]]:
        """Pixels, latent digests, encoding ms an image, and denoiser calls (noise stage, sampling) of a batch."""
        import torch

        job = jobs[0]
        sampler = registry.get("samplers", job.sampler)
        with torch.inference_mode():
            with watch.stage("encode"):
                cond, uncond, encode_ms = self._embed(model, jobs)
            with watch.stage("noise"):
                latents = noise.draw_batch([j.prompt for j in jobs], [j.seed for j in jobs], model.entry.latent)
                latents = latents.to(self.device)
                calls_noise = 0
                if job.links and steps is None:
                    scheduler = sampler.build(self.scheduler_configs[model.entry.name])
                    denoiser = model.denoiser(scheduler, job.steps, job.guidance, cond, uncond)
                    batch = Batch(latents, [j.prompt for j in jobs], [j.seed for j in jobs])
                    latents = build_chain(job.links).noise(batch, denoiser)
                    calls_noise = denoiser.calls
                digests = [noise.digest(x) for x in latents]
            with watch.stage("sampling"):
                scheduler = sampler.build(self.scheduler_configs[model.entry.name])
                latents = model.sample(
                    latents,
                    scheduler,
                    steps=steps or job.steps,
                    guidance=job.guidance,
                    cond=cond,
                    uncond=uncond,
                    generators=[noise.generator(j.prompt, j.seed, "sampler") for j in jobs],
                )
                calls = len(scheduler.timesteps)
            with watch.stage("decode"):
                pixels = model.decode(latents)
        return pixels, digests, encode_ms, (calls_noise, calls)

    def _embed(self, model: Model, jobs: Sequence[Job]) -> tuple[Embeddings, Embeddings, list[float]]:
        """Embeddings of a batch, each prompt encoded once a run, and the ms that encoding each took."""
        import torch

        name = model.entry.name
        missing = list(dict.fromkeys(j.prompt for j in jobs if (name, "+", j.prompt) not in self.embeddings))
        if missing:
            self._remember(name, "+", missing, lambda: model.encode(missing))
        negative = jobs[0].negative_prompt
        if (name, "-", negative) not in self.embeddings:
            self._remember(name, "-", [negative], lambda: model.encode_negative(negative))
        found = [self.embeddings[name, "+", j.prompt] for j in jobs]
        cond = {k: torch.stack([e[k] for e, _ in found]).to(self.device) for k in found[0][0]}
        against = self.embeddings[name, "-", negative][0]
        uncond = {k: against[k].to(self.device).expand_as(v) for k, v in cond.items()}
        return cond, uncond, [ms for _, ms in found]

    def _remember(self, name: str, sign: str, prompts: list[str], encode: Callable[[], Embeddings]) -> None:
        begun = time.perf_counter()
        # On the CPU: thousands of prompts of a large model would fill a GPU.
        embeddings = {k: v.cpu() for k, v in encode().items()}
        ms = 1000 * (time.perf_counter() - begun) / len(prompts)
        for i, prompt in enumerate(prompts):
            self.embeddings[name, sign, prompt] = ({k: v[i] for k, v in embeddings.items()}, ms)


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
