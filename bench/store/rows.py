"""What a ledger holds, as typed rows. Times are milliseconds an image: of a batch, each image has an equal share.

A score belongs to what decides it: the digest of the image's pixels, the prompt's key and the scorer's digest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.moved import moved
from bench.store.keys import key_of

ELSEWHERE = "elsewhere"
"""The model and the sampler of images that the harness did not make, of which it knows neither."""
TIMES = ("encode_ms", "noise_ms", "sampling_ms", "decode_ms", "select_ms")
"""The stages of an image, in their order; together they are `total_ms`."""
CALLS = ("calls_noise", "calls_sampling")
"""Denoiser calls: of the noise stage, and of sampling."""
EVALUATIONS = ("backwards", "networks", "rewards")
"""What the calls do not say: gradients taken, calls of networks that are not the model's, images scored meanwhile."""

Setting = tuple[str, str, int, float]
"""Model, sampler, steps, guidance: what a comparison holds fixed."""
ArmKey = tuple[str, str, str, str, int, float]
"""Method, model, prompt set, sampler, steps, guidance: one method under one protocol on one prompt set."""


@dataclass(frozen=True)
class Image:
    """A finished image and what it cost; times are milliseconds an image, the batch's share."""

    job_id: str
    digest: str
    """sha256 of the PNG's pixels (shape and bytes), so a score does not depend on the PNG encoder."""
    file: str
    """Path relative to the run folder."""
    calls_noise: int
    calls_sampling: int
    encode_ms: float
    noise_ms: float
    sampling_ms: float
    decode_ms: float
    peak_bytes: int | None
    peak_kind: str
    batch: int
    hardware: str
    latent_digest: str
    created: str
    from_cache: int = 0
    select_ms: float = 0.0
    """Judging among candidates, for an image that was chosen."""
    cost: str = "{}"
    """What it cost by stage, as JSON (`bench.sampling.meter.Cost.record`)."""
    facts: str = "{}"
    """What its method noted, such as whether a search converged, as JSON."""
    chosen_from: str | None = None
    """JSON list of candidate job ids for an image that was chosen rather than made."""
    origin: str = ""
    """The commit, or the version, that made it (`bench.provenance.origin`); empty of images from before."""


class Cell(NamedTuple):
    """Where an image stands in the suite: an arm, a prompt of its set, and a seed."""

    method: str
    model: str
    prompts: str
    sampler: str
    steps: int
    guidance: float
    prompt_index: int
    seed: int
    prompt: str
    """The prompt's text."""
    category: str
    metadata: str | None
    """All else that the prompt carries, as JSON with sorted keys; None where it carries nothing."""
    job_id: str

    @property
    def setting(self) -> Setting:
        return self.model, self.sampler, self.steps, self.guidance

    @property
    def place(self) -> tuple[Any, ...]:
        """What the arms that are compared have in common: model, prompt set, sampler, steps, guidance, index, seed."""
        return self[1:8]

    @property
    def key(self) -> str:
        """The prompt's key, as scores have it."""
        return key_of(self.prompt, self.metadata)

    @property
    def carried(self) -> Any:
        """The prompt's metadata; None where it carries none."""
        return json.loads(self.metadata) if self.metadata else None


class ArmCells(NamedTuple):
    """An arm, and how many cells it has."""

    method: str
    model: str
    prompts: str
    sampler: str
    steps: int
    guidance: float
    cells: int


class CellImage(NamedTuple):
    """A cell of one arm, with what its image cost; None in every field after the metadata where it is not made yet."""

    prompt_index: int
    seed: int
    prompt: str
    metadata: str | None
    digest: str | None
    latent_digest: str | None
    """Of the noise that sampling began from."""
    hardware: str | None
    peak_kind: str | None
    encode_ms: float | None
    noise_ms: float | None
    sampling_ms: float | None
    decode_ms: float | None
    select_ms: float | None
    calls_noise: int | None
    calls_sampling: int | None
    peak_bytes: int | None
    batch: int | None
    from_cache: int | None


class Memory(NamedTuple):
    """Peak memory of one batch of an arm, measured in a process of its own; no prompt set has its own."""

    method: str
    model: str
    sampler: str
    steps: int
    guidance: float
    dtype: str
    """Precision of the networks."""
    jobs: str
    """The job ids of the batch, as a JSON list: what the numbers stand for."""
    noise_bytes: int | None
    """The noise stage's peak above `level_bytes`; None where it is not known."""
    sampling_bytes: int | None
    """The sampling stage's, as `noise_bytes`."""
    level_bytes: int | None
    """What the process used after the model was loaded and warmed up."""
    kind: str
    """What the bytes are of (`bench.sampling.measure.APART`)."""
    hardware: str
    reason: str | None
    """Why there are no numbers."""
    created: str

    @property
    def setting(self) -> Setting:
        return self.model, self.sampler, self.steps, self.guidance

    @property
    def ids(self) -> list[str]:
        found: list[str] = json.loads(self.jobs)
        return found

    @property
    def peak_bytes(self) -> int | None:
        """Of both stages; None where neither is known."""
        return max((one for one in (self.noise_bytes, self.sampling_bytes) if one is not None), default=None)


class Shown(NamedTuple):
    """A method's image at one place; `digest` and `file` are None where it is not made yet."""

    method: str
    job_id: str
    digest: str | None
    file: str | None


class Score(NamedTuple):
    """A scorer's value of an image with its prompt."""

    digest: str
    prompt: str
    metric: str
    scorer: str
    value: float


class PairScore(NamedTuple):
    """How far an image is preferred over the baseline's, 0 to 1."""

    digest: str
    baseline: str
    prompt: str
    metric: str
    scorer: str
    value: float


class Feature(NamedTuple):
    """A set metric's features of an image: little-endian float32."""

    digest: str
    prompt: str
    metric: str
    scorer: str
    features: bytes


class Scorer(NamedTuple):
    """A scorer of a metric in one table: its scores, and their milliseconds as far as they were measured."""

    metric: str
    scorer: str
    n: int
    ms: float | None
    """All together."""
    timed: int


class Session(NamedTuple):
    """One session of work on a run."""

    started: str
    provenance: dict[str, Any]
    stages: dict[str, Any] | None
    """What its stages took, in seconds; None where it did not come to its end."""


class Failed(NamedTuple):
    """A cell whose image could not be made."""

    model: str
    sampler: str
    steps: int
    guidance: float
    method: str
    reason: str
    prompts: str
    prompt_index: int
    seed: int
    prompt: str

    @property
    def line(self) -> str:
        """Its place and its reason, as a line."""
        return f"{self.prompts} {self.prompt_index}, seed {self.seed}: {self.reason}"


class Unscored(NamedTuple):
    """A cell whose image has no score by a scorer, and why."""

    metric: str
    scorer: str
    prompts: str
    prompt_index: int
    seed: int
    method: str
    reason: str


if not TYPE_CHECKING:
    __getattr__ = moved(
        "bench.store.rows", dict.fromkeys(("prompt_key", "carried_keys", "as_json"), "bench.store.keys")
    )
