"""Images to make, and where they stand in a suite: jobs, choices, arms and cells. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any

from bench import identity, registry
from bench.methods.base import Chain
from bench.prompts.base import Prompt
from bench.prompts.control import ControlImage
from bench.sampling.records import Item, Sampling


def content_hash(record: Any) -> str:
    """32 hex digits over a record's canonical JSON."""
    return _hash(canonical(record))


def canonical(record: Any) -> str:
    """A record as the JSON that is the same for the same record."""
    return _encoded(record)


_encoded = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
"""`json.dumps` makes an encoder a call where it has options, which takes longer than a short record."""


_written = lru_cache(maxsize=2**10)(canonical)
"""Of a text that many records have, such as the digest of a metric."""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def with_code(decides: Mapping[str, Any], thing: Any) -> dict[str, Any]:
    """What enters the job id of a plugin, with the digest of its code where it has any."""
    code = identity.of(thing)
    return {**decides, **({"code": code.digest} if code else {})}


@dataclass(frozen=True)
class Job:
    """One image to make. `id` hashes every input that decides its pixels, and nothing else.

    `links` is the method chain as ((name, identity as JSON), ...); `seed` is the seed the latent is drawn from,
    after the chain has had its say. Steps, guidance and all else of the sampling are the method's own where it has
    its own.
    """

    model: str
    model_digest: str
    sampler: str
    sampler_identity: str
    steps: int
    guidance: float
    """The guidance that is applied; at 1 or below there is none, and that is written 1."""
    size: tuple[int, int]
    links: tuple[tuple[str, str], ...]
    prompt: str
    negative_prompt: str
    seed: int
    dtype: str = "fp32"
    timesteps: tuple[int, ...] | None = None
    settings: str = "{}"
    """Scheduler settings of the method, as JSON."""
    adapter: str = ""
    """The class that loads the model, and the digest of its code, as JSON."""
    code: str = ""
    """Digest of the code that every image goes through (`bench.identity.loop`)."""
    carried: str = ""
    """All else that the prompt carries, such as GenEval metadata, as JSON."""
    control: tuple[tuple[str, ControlImage], ...] = ()
    """Control images that the methods read, by kind; what is in them decides, and not where they lie."""
    chain: Chain = field(default=Chain(links=()), compare=False, repr=False)
    """The methods that make the image, ready for its model."""

    @cached_property
    def id(self) -> str:
        # A name is not what decides pixels: the digest and the identity are.
        decides = {f: getattr(self, f) for f in _DECIDES}
        if self.control:
            # Only then, for jobs had no control images at first, and the same job keeps its id.
            decides["control"] = _pinned(self.control)
        return content_hash(decides)

    @property
    def group(self) -> tuple[Any, ...]:
        """Jobs of one group can share a batch."""
        of = (self.model, self.sampler, self.steps, self.guidance, self.links, self.negative_prompt)
        return (*of, self.dtype, self.timesteps, self.settings)

    @property
    def sampling(self) -> Sampling:
        settings = tuple(sorted(json.loads(self.settings).items()))
        return Sampling(self.sampler, self.steps, self.guidance, self.size, self.dtype, self.timesteps, settings)

    @property
    def item(self) -> Item:
        """The prompt with all that it carries, and the seed."""
        metadata = json.loads(self.carried) if self.carried else None
        return Item(Prompt(0, self.prompt, "", metadata, dict(self.control) or None), self.seed)

    def sampled(self, p: Sampling) -> Job:
        """The same job sampled as `p`; UserError where the sampler cannot do that."""
        sampler = registry.get("samplers", p.sampler)
        sampler.check(p)
        return replace(
            self,
            sampler=p.sampler,
            sampler_identity=json.dumps(with_code(sampler.identity(), sampler), sort_keys=True),
            steps=p.steps,
            guidance=p.scale,
            size=p.size,
            dtype=p.dtype,
            timesteps=p.timesteps,
            settings=json.dumps(dict(p.settings), sort_keys=True),
        )


_DECIDES = tuple(f.name for f in fields(Job) if f.name not in ("model", "sampler", "control", "chain"))


@dataclass(frozen=True)
class Choice:
    """One image to be chosen among the images of other jobs by a metric."""

    candidates: tuple[str, ...]
    metric: str
    metric_digest: str
    prompt: str

    @cached_property
    def id(self) -> str:
        return choice_id(self.candidates, self.metric_digest)


def choice_id(candidates: Sequence[str], metric: str) -> str:
    """The id of a choice among candidates by the metric of a digest."""
    # The canonical JSON, written out: there may be as many choices as images, and ids need no escapes.
    return _hash('{"candidates":["' + '","'.join(candidates) + f'"],"metric":{_written(metric)}}}')


@dataclass(frozen=True)
class Arm:
    """A row of the report: one method under one protocol."""

    method: str
    model: str
    prompts: str
    sampler: str
    steps: int
    guidance: float


@dataclass(frozen=True, slots=True)
class Cell:
    """Where an image stands in the suite: its arm, prompt and seed. Two cells may share one image."""

    arm: Arm
    prompt: Prompt
    seed: int
    job_id: str


# Many jobs of one kind -----------------------------------------------------------------------------------------------


def _pinned(control: tuple[tuple[str, ControlImage], ...]) -> list[list[str]]:
    return [[kind, image.digest] for kind, image in control]


@dataclass(frozen=True)
class Look:
    """All of a prompt that decides pixels for a chain, and the parts of a job's canonical JSON that it makes."""

    number: int
    """Equal for equal ones of a plan."""
    text: str
    carried: str
    control: tuple[tuple[str, ControlImage], ...]
    written: tuple[bytes, bytes, bytes]

    @classmethod
    def of(cls, prompt: Prompt, kinds: tuple[str, ...], known: dict[Any, int]) -> Look:
        """The look of a prompt for a chain that reads these kinds of control images; `known` numbers them."""
        carried = json.dumps(dict(prompt.metadata), sort_keys=True) if prompt.metadata is not None else ""
        control = tuple((kind, prompt.control_image(kind).pinned()) for kind in kinds)
        pinned = f'"control":{canonical(_pinned(control))},' if control else ""
        texts = (f'"carried":{canonical(carried)},', pinned, f'"prompt":{canonical(prompt.text)},')
        written = (texts[0].encode(), texts[1].encode(), texts[2].encode())
        return cls(known.setdefault(written, len(known)), prompt.text, carried, control, written)


class Template:
    """Jobs that differ in prompt and seed alone, as those of an arm do.

    Canonical JSON is written once for all that they share: a plan of 80,000 jobs spent most of its time on that.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.group = job.group
        self._shared = {f.name: getattr(job, f.name) for f in fields(Job) if f.name not in _VARIED}
        self._parts = _parts({name: value for name, value in self._shared.items() if name in _DECIDES})
        self.key = "".join(self._parts)
        """Equal where equal prompts and seeds make equal images."""
        a, b, c, d, e = (part.encode() for part in self._parts)
        self._around = (a, b, c, d + b'"seed":')
        self._end = b"," + e
        self._plain = hashlib.sha256(b"".join((a, _NOTHING_CARRIED, b, c)))

    def id(self, look: Look, seed: int) -> str:
        """`Job.id` of the job for a prompt and a seed."""
        prefix, end = self.prefix(look)
        return finished(prefix, seed, end)

    def prefix(self, look: Look) -> tuple[Any, bytes]:
        """The hash of a prompt's jobs as far as the seed, and what comes after that; see `finished`."""
        a, b, c, d = self._around
        carried, control, prompt = look.written
        if carried == _NOTHING_CARRIED and not control:
            prefix = self._plain.copy()
            prefix.update(prompt + d)
            return prefix, self._end
        return hashlib.sha256(b"".join((a, carried, b, control, c, prompt, d))), self._end

    def made(self, look: Look, seed: int, job_id: str) -> Job:
        """The job for a prompt and a seed, whose id is known."""
        found = object.__new__(Job)  # its own way takes five times as long: a frozen field is set by a call each
        varied = {"prompt": look.text, "carried": look.carried, "control": look.control, "seed": seed, "id": job_id}
        found.__dict__.update(self._shared, **varied)
        return found


def finished(prefix: Any, seed: int, end: bytes) -> str:
    """A job's id from the hash of all before its seed, and what comes after it."""
    whole = prefix.copy()
    whole.update(b"%d%b" % (seed, end))
    return str(whole.hexdigest()[:32])


_VARIED = ("carried", "control", "prompt", "seed")
_NOTHING_CARRIED = b'"carried":"",'


def _parts(shared: Mapping[str, Any]) -> list[str]:
    """The canonical JSON of a job around the places of what varies, which stand there in the order of their names."""
    found, text = [], "{"
    for name in sorted((*shared, *_VARIED)):
        if name in _VARIED:
            found.append(text)
            text = ""
        else:
            text += f"{canonical(name)}:{canonical(shared[name])},"
    return [*found, f"{text[:-1]}}}"]
