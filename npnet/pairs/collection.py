"""What is collected: the configuration of `npnet collect`, its twin, and the plan that says which pair is which.

Pair k is prompt k mod P with the next of that prompt's shuffled seeds: a pure function of k and the configuration.
Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from bench import registry
from bench.errors import UserError, nearest
from bench.models.shapes_of import check_entry
from bench.moved import deprecated, key_sentence
from bench.prompts.base import Prompt
from bench.prompts.places import is_place
from bench.sampling import noise
from bench.store import prompt_key
from bench.suite import Count, Guidance, Link, Links, Seed, Steps
from bench.suite import document as suite_yaml
from bench.suite.gates import Text
from npnet.pairs import dataset, prompting
from npnet.teachers import base as teachers

if TYPE_CHECKING:
    from bench.models.base import ModelEntry

SMALLEST_CHUNK, LARGEST_CHUNK, CHUNK_VALUES = 32, 500, 2**21
"""A shard of SDXL's latents holds 32 pairs (8 MB, minutes of a GPU), one of 8 x 8 latents 500."""
TRAINING_PROMPTS = "shapes-train"
"""The prompt set that stands in for a file of prompts with --twin: the embedded world's training captions."""


def _registered(kind: str) -> AfterValidator:
    def check(name: str) -> str:
        try:
            registry.get(kind, name)
        except UserError as error:
            suite_yaml.fault(str(error))
        return name

    return AfterValidator(check)


def _two(value: Any) -> Any:
    if isinstance(value, list | tuple) and len(value) != 2:
        suite_yaml.fault(f"'seeds' should be [lowest, highest], got {suite_yaml.shown(list(value))}")
    return value


def _seeds(value: tuple[int, int]) -> tuple[int, int]:
    if value[1] < value[0]:
        suite_yaml.fault(f"'seeds' should be [lowest, highest], got {list(value)}")
    return value


def _teacher(value: Any) -> Any:
    """A name, a mapping or a list, as in suites; and the teachers that are no noise methods."""
    if not (isinstance(value, dict) and "chain" in value):
        return tuple(_link(link) for link in (value if isinstance(value, list) else [value]))
    beside = [key for key in value if key != "chain"]
    if beside:
        suite_yaml.fault(
            f"unknown key {beside[0]!r} beside 'chain'; a parameter belongs to a link of the chain", beside[0]
        )
    links = value["chain"]
    if not isinstance(links, list) or not links:
        suite_yaml.fault(f"'chain' should be a list of methods, got {suite_yaml.shown(links)}", "chain")
    return tuple(_link(link) for link in links)


def _link(value: Any) -> Link:
    given = {"use": value} if isinstance(value, str) else value
    use = given.get("use") if isinstance(given, dict) else None
    if use in teachers.TEACHERS:
        params = {k: v for k, v in given.items() if k != "use"}
        kind = teachers.TEACHERS[use]
        for old in kind.renamed.keys() & params.keys():
            deprecated(key_sentence(old, kind.renamed[old]))
        try:
            return Link(use=use, params=dict(sorted(kind.model_validate(params).model_dump(mode="json").items())))
        except ValidationError as error:
            suite_yaml.faults(
                (e["loc"], suite_yaml.phrase(e, subject=f"{e['loc'][0]!r} of {use!r}", known=kind.model_fields))
                for e in error.errors()
            )
    if isinstance(use, str) and use not in registry.names("methods"):
        known = [*registry.names("methods"), *teachers.TEACHERS]
        suite_yaml.fault(f"unknown teacher {use!r}{nearest(use, known)}")
    found: tuple[Link, ...] = TypeAdapter(Links).validate_python([value])
    return found[0]


class CollectConfig(BaseModel):
    """What is collected; every field but `keep_images` and `metrics` decides the pairs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[Text, _registered("models")]
    """A registered model."""
    prompts: Annotated[Text, AfterValidator(prompting.checked)]
    """A prompt set as suites name one, or a text file with one prompt a line."""
    pairs: Count
    """Pairs in the whole collection, before any selection."""
    seeds: Annotated[tuple[Seed, Seed], BeforeValidator(_two), AfterValidator(_seeds)] = (0, 1024)
    """Lowest and highest seed, both included (table 14)."""
    sampler: Annotated[Text, _registered("samplers")] = "ddim"
    steps: Steps
    """Sampling steps of both arms; the paper collects at fewer than it evaluates at (A.4)."""
    guidance: Guidance | None = None
    """Guidance scale as diffusers has it; None: the model's own."""
    teacher: Annotated[tuple[Link, ...], BeforeValidator(_teacher), Field(min_length=1)] = (
        Link(use="inversion", params={"guidance": None, "inversion_guidance": 1.0}),
    )
    """Where the target noise comes from: a noise method or chain as in suites, best_of_n, or one of `TEACHERS`."""
    metrics: tuple[Annotated[Text, _registered("metrics")], ...] = ()
    """Metrics that score both images as they are made."""
    keep_images: Annotated[bool, Field(strict=True)] = False
    """Whether both images of every pair are kept as PNG, so that `npnet score` can add metrics later."""
    chunk: Count | None = None
    """Pairs a shard; None: by the latent's size, see `SMALLEST_CHUNK`."""
    dtype: Literal["float16", "float32"] = "float16"
    """Of the noise on disk; PROTOCOL 1.2 has fp16."""


def twin(config: CollectConfig, *, overridden: Iterable[str] = ()) -> tuple[CollectConfig, list[str]]:
    """The collection on the embedded world, and notes on what that changes; UserError for what has no twin.

    Model, prompts, metrics and choosers become their twins; a prompt file's is the embedded training captions.
    Guidance becomes the twin model's own, being a property of the model. Steps stay: that a collection takes few is
    the paper's procedure (A.4). Keys in `overridden` keep their value.
    """
    update: dict[str, Any] = {"model": _twin("models", config.model)}
    trains = prompting.is_file(config.prompts) or is_place(config.prompts)
    update["prompts"] = TRAINING_PROMPTS if trains else _twin("prompts", config.prompts)
    notes = []
    metrics = {name: registry.twin("metrics", name) for name in config.metrics}
    notes += [f"metric {name!r} has no twin yet: left out" for name, found in metrics.items() if not found]
    update["metrics"] = tuple(dict.fromkeys(found for found in metrics.values() if found))
    update["teacher"] = tuple(
        link.model_copy(update={"params": {k: _judge(k, v) for k, v in link.params.items()}}) for link in config.teacher
    )
    if config.guidance is not None and "guidance" not in overridden:
        update["guidance"] = None
        notes.append("guidance is the twin model's own default, not the preset's; --set guidance=... sets it")
    kept = {key: value for key, value in update.items() if key not in overridden}
    return config.model_copy(update=kept), notes


def _judge(parameter: str, value: Any) -> Any:
    """A teacher's parameter, the twin of a metric where it names the one to go by."""
    return _twin("metrics", value) if parameter in teachers.JUDGES and isinstance(value, str) else value


def _twin(kind: str, name: str) -> str:
    found = registry.twin(kind, name)
    if found is None:
        raise UserError(f"--twin: {kind.rstrip('s')} {name!r} has no twin on the embedded world; give one with --set")
    return found


# The plan ----------------------------------------------------------------------------------------------------------


def nth_seed(prompt: str, n: int, seeds: tuple[int, int]) -> int:
    """The n-th seed (from 0) of a prompt's own shuffle of [lowest, highest]: never the same one twice.

    Fisher and Yates' shuffle as far as it is needed, its random numbers hashed from the prompt's text, so that no
    library's version moves it. ValueError past the last seed.
    """
    low, high = seeds
    size = high - low + 1
    if n >= size:
        raise ValueError(f"seed number {n} of {size}")
    moved: dict[int, int] = {}
    taken = 0
    for i in range(n + 1):
        j = i + noise.stream(prompt, i, "pair-seed") % (size - i)
        taken, moved[j] = moved.get(j, j), moved.get(i, i)
    return low + taken


@dataclass(frozen=True)
class Planned:
    """A configuration with everything in it looked up."""

    config: CollectConfig
    entry: ModelEntry
    prompts: Sequence[Prompt]
    teacher: teachers.Teacher
    protocol: dataset.Protocol
    earlier: Sequence[int]
    """For each prompt, how many before it in the list have the same text."""
    times: Mapping[str, int]
    """How often each text stands in the list."""

    def pair(self, k: int) -> tuple[Prompt, int]:
        """Prompt and seed of pair k."""
        prompt = self.prompts[k % len(self.prompts)]
        before = k // len(self.prompts) * self.times[prompt.text] + self.earlier[k % len(self.prompts)]
        return prompt, nth_seed(prompt.text, before, self.protocol.seeds)


def plan(config: CollectConfig) -> Planned:
    """Look everything up, without loading anything; UserError for what cannot be collected."""
    entry: ModelEntry = registry.get("models", config.model)
    sampler = registry.get("samplers", config.sampler)
    sampler.check_steps(config.steps)
    check_entry(entry)
    prompts = prompting.read(config.prompts)
    check_metadata(config.metrics, prompts)
    teacher, identity = teachers.build(config.teacher, entry)
    teachers.check_steps(teacher, config.steps)
    teachers.check_fit(teacher, entry, sampler, prompts)
    if teacher.judge:
        check_metadata((teacher.judge,), prompts)
    values = entry.latent[0] * entry.latent[1] * entry.latent[2]
    protocol = dataset.Protocol(
        model=entry.name,
        model_digest=entry.digest(),
        latent=entry.latent,
        sampler=config.sampler,
        sampler_identity=json.dumps(sampler.identity(), sort_keys=True),
        steps=config.steps,
        guidance=entry.guidance if config.guidance is None else config.guidance,
        teacher=identity,
        prompts=prompting.recorded(config.prompts),
        prompts_digest=prompts_digest(prompts),
        seeds=config.seeds,
        pairs=config.pairs,
        chunk=config.chunk or min(max(CHUNK_VALUES // values, SMALLEST_CHUNK), LARGEST_CHUNK),
        dtype=config.dtype,
    )
    times: Counter[str] = Counter()
    earlier = []
    for prompt in prompts:
        earlier.append(times[prompt.text])
        times[prompt.text] += 1
    _check_capacity(config, prompts, times)
    return Planned(config, entry, prompts, teacher, protocol, earlier, times)


def prompts_digest(prompts: Sequence[Prompt]) -> str:
    """16 hex digits over every prompt in order, with all that a metric sees of it."""
    h = hashlib.sha256()
    for prompt in prompts:
        h.update(prompt_key(prompt).encode())
    return h.hexdigest()[:16]


def check_metadata(metrics: Iterable[str], prompts: Sequence[Prompt]) -> None:
    """UserError for a metric that needs metadata where a prompt has none, or of another kind."""
    for name in metrics:
        entry = registry.get("metrics", name)
        if not all(entry.judges(p.metadata) for p in prompts):
            raise UserError(
                f"metric {name!r} needs prompts with metadata that has {entry.metadata_key!r}, and these have none; "
                "leave it out"
            )


def _check_capacity(config: CollectConfig, prompts: Sequence[Prompt], times: Mapping[str, int]) -> None:
    low, high = config.seeds
    full, rest = divmod(config.pairs, len(prompts))
    extra = Counter(p.text for p in prompts[:rest])
    most = max(full * n + extra[text] for text, n in times.items())
    if most > high - low + 1:
        raise UserError(
            f"{config.pairs} pairs of {len(prompts)} prompts need {most} seeds of a prompt, and seeds [{low}, {high}] "
            f"are {high - low + 1}; ask for fewer pairs, or give more prompts or seeds"
        )
