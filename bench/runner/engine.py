"""The model in work, with its meter, embeddings and scorers: what whoever makes images loads once for all batches."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from bench import registry
from bench.backoff import Backoff
from bench.models.base import Embeddings, Family, ModelEntry
from bench.sampling.meter import Meter

if TYPE_CHECKING:
    from bench.runner.plan import Job


class _Asked(NamedTuple):
    """The part of a job that `Engine._embed` reads."""

    prompt: str
    negative_prompt: str


class Engine:
    """One model at a time on a device; the scorers stay when the model is let go."""

    def __init__(self, device: str):
        self.device = device
        self.family: Family | None = None
        self.meter: Meter | None = None
        self.embeddings: dict[tuple[str, str], tuple[Embeddings, float]] = {}
        """By sign and text, of the model in work."""
        self.scorers: dict[str, Any] = {}
        self.load_seconds = 0.0
        self.inside: dict[str, float] = {}
        """Seconds within each role's network, of the models that were let go."""
        self.backoff = Backoff()
        self.expected: dict[str, tuple[list[str], list[str]]] = {}
        """By model: prompts of jobs to come, and their negative prompts."""

    def expect(self, jobs: Iterable[Job]) -> None:
        """Jobs to come: where a model's text encoders leave the GPU, their prompts are encoded when it is loaded."""
        found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
        for job in jobs:
            prompts, negatives = found.setdefault(job.model, ({}, {}))
            prompts[job.prompt] = negatives[job.negative_prompt] = None
        self.expected = {model: (list(prompts), list(negatives)) for model, (prompts, negatives) in found.items()}

    def load(
        self, entry: ModelEntry, dtype: str | None = None, *, warm_up: Callable[[Family, Meter], None] | None = None
    ) -> tuple[Family, Meter]:
        """Put a model to work in place of the one before; where its `warm_up` fails there is none.

        `dtype` is as in `ModelEntry.load`.
        """
        self.release()
        started = time.perf_counter()
        family = entry.load(self.device, dtype)
        self.load_seconds += time.perf_counter() - started
        meter = Meter(family.modules(), self.device)
        if warm_up is not None:
            try:
                warm_up(family, meter)
            except BaseException:
                # A batch that does not fit is tried smaller, with another warm-up.
                meter.close()
                raise
            meter.inside.clear()
        self.family, self.meter = family, meter
        self._ahead(family)
        return family, meter

    def release(self) -> None:
        """Let the model in work go, with its memory."""
        if self.meter is not None:
            for role, seconds in self.meter.inside.items():
                self.inside[role] = self.inside.get(role, 0.0) + seconds
            self.meter.close()
        was_loaded, self.family, self.meter = self.family is not None, None, None
        self.embeddings.clear()
        if was_loaded or self.device != "cpu":
            gc.collect()  # a tenth of a second, for nothing before the first model of a run
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()

    def scorer(self, metric: str) -> Any:
        """A metric's scorer for methods that ask for it, loaded once."""
        if metric not in self.scorers:
            self.scorers[metric] = registry.get("metrics", metric).scorer(self.device)
        return self.scorers[metric]

    def embed(self, prompts: Sequence[str], negative: str = "") -> tuple[Embeddings, Embeddings]:
        """Embeddings of a batch by the model in work, (B, ...), of the prompts and of the negative prompt.

        Only the negative one is kept for later batches: for those who have more prompts than the memory holds.
        """
        assert self.family is not None
        asked = [_Asked(prompt, negative) for prompt in prompts]
        cond, uncond, _ = self._embed(self.family, cast("Sequence[Job]", asked))
        for prompt in prompts:
            self.embeddings.pop(("+", prompt), None)
        return cond, uncond

    def _ahead(self, family: Family) -> None:
        """Encode what is expected of a model whose text encoders leave, one prompt after the other.

        Alone, a prompt's embeddings do not depend on which others a run still lacks.
        """
        if family.parking is None:
            return
        import torch

        prompts, negatives = self.expected.get(family.entry.name, ([], []))
        with torch.no_grad():
            for prompt in prompts:
                self._encode(family, "+", [prompt])
            for negative in negatives:
                self._encode(family, "-", [negative])
        family.parking.leave()

    def _embed(self, family: Family, jobs: Sequence[Job]) -> tuple[Embeddings, Embeddings, list[float]]:
        """Embeddings of a batch, each prompt encoded once a model, and the ms that encoding each took."""
        import torch

        missing = list(dict.fromkeys(j.prompt for j in jobs if ("+", j.prompt) not in self.embeddings))
        if missing:
            self._encode(family, "+", missing)
        negative = jobs[0].negative_prompt
        if ("-", negative) not in self.embeddings:
            self._encode(family, "-", [negative])
        found = [self.embeddings["+", j.prompt] for j in jobs]
        cond = {k: torch.stack([e[k] for e, _ in found]).to(self.device) for k in found[0][0]}
        against = self.embeddings["-", negative][0]
        uncond = {k: against[k].to(self.device).expand_as(v) for k, v in cond.items()}
        return cond, uncond, [ms for _, ms in found]

    def _encode(self, family: Family, sign: str, prompts: list[str]) -> None:
        """Have the embeddings of prompts, the text encoders being on the device."""
        if family.parking is not None:
            family.parking.bring()
        negative = sign == "-"
        self._remember(sign, prompts, lambda: family.encode_negative(*prompts) if negative else family.encode(prompts))

    def _remember(self, sign: str, prompts: list[str], encode: Callable[[], Embeddings]) -> None:
        started = time.perf_counter()
        # On the CPU: thousands of prompts of a large model would fill a GPU.
        embeddings = {k: v.cpu() for k, v in encode().items()}
        ms = 1000 * (time.perf_counter() - started) / len(prompts)
        for i, prompt in enumerate(prompts):
            self.embeddings[sign, prompt] = ({k: v[i] for k, v in embeddings.items()}, ms)
