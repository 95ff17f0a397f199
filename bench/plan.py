"""Suite -> Plan: which images to make, under which names, and what that will cost. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from bench import identity, registry
from bench.errors import UserError
from bench.kinship import kin
from bench.methods.base import Chain, Method, check_chain, split_choice
from bench.metrics.base import MetricEntry
from bench.models.base import ModelEntry
from bench.models.shapes_of import check_entry
from bench.needs.base import Lacking, Need
from bench.prompts.base import Prompt
from bench.prompts.control import ControlImage
from bench.samplers.diffusers_schedulers import Sampler
from bench.sampling.records import ATTENTION, FIRST_ORDER, MEMORYLESS, Item, Nfe, Sampling
from bench.suite import Link, MethodSpec, Suite

PNG_BYTES_PER_PIXEL = {64: 0.35, 1024: 1.5}
"""Measured size of a PNG by side: flat shapes, and photographs at SDXL's size; the estimate takes the nearer."""


def content_hash(record: Any) -> str:
    """32 hex digits over a record's canonical JSON."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


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
            decides["control"] = [[kind, image.digest] for kind, image in self.control]
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
            sampler_identity=json.dumps(_with_code(sampler.identity(), sampler), sort_keys=True),
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
        return content_hash({"candidates": self.candidates, "metric": self.metric_digest})


@dataclass(frozen=True)
class Arm:
    """A row of the report: one method under one protocol."""

    method: str
    model: str
    prompts: str
    sampler: str
    steps: int
    guidance: float


@dataclass(frozen=True)
class Cell:
    """Where an image stands in the suite: its arm, prompt and seed. Two cells may share one image."""

    arm: Arm
    prompt: Prompt
    seed: int
    job_id: str


@dataclass(frozen=True)
class Plan:
    """Everything a run will do. `jobs` are arm after arm, made in turns (`generate.batches`); `choices` come after."""

    suite: Suite
    jobs: dict[str, Job]
    choices: dict[str, Choice]
    cells: list[Cell]
    optimises: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By method label and model, the metrics that are no evidence for the method as it works with that model."""
    methods: dict[tuple[str, str], tuple[Method, ...]] = field(default_factory=dict)
    """By method label and model, the chain as it works with that model, what chooses included."""
    lacking: tuple[Need, ...] = ()
    """Files that are not here and without which some jobs' ids are unknown: such a plan is priced and never run."""
    learnt_from: dict[str, dict[str, list[list[str]]]] = field(default_factory=dict)
    """By method label and model, what its weights were tuned on beside named metrics, where there is any: traits, as
    (kind, name) in `bench.kinship`."""
    notes: tuple[str, ...] = ()
    """What of the suite is left out, and why."""

    def nfe(self, job: Job) -> Nfe:
        """What one image costs by its method's closed form."""
        return job.chain.nfe(job.sampling, registry.get("samplers", job.sampler).calls(job.steps))

    def calls(self, job: Job) -> int:
        """Denoiser calls of one image, the noise stage's and gradients included."""
        return round(self.nfe(job).calls)

    def costs(self, known: set[str] | frozenset[str] = frozenset()) -> dict[str, float]:
        """images, denoiser calls, shared images, and estimates of seconds and bytes; `known` are in the cache."""
        wanted = [c.job_id for c in self.cells]
        todo = [j for j in self.jobs.values() if j.id not in known]
        # Once a group: of 2,800 jobs each took a millisecond.
        calls = {group: self.calls(j) for group, j in {j.group: j for j in todo}.items()}
        with self.suite.configured():
            entries: dict[str, ModelEntry] = {m: registry.get("models", m) for m in {j.model for j in todo}}
        seconds = sum(calls[j.group] * (entries[j.model].call_ms or float("nan")) for j in todo) / 1000
        return {
            "cells": len(wanted),
            "images": len(self.jobs),
            "choices": len(self.choices),
            "shared": len(wanted)
            + sum(len(c.candidates) for c in self.choices.values())
            - len(self.choices)
            - len(self.jobs),
            "cached": len(self.jobs) - len(todo),
            "calls": sum(calls[j.group] for j in todo),
            "seconds": seconds,
            "bytes": sum(_png_bytes(j.size) for j in todo),
        }


def _png_bytes(size: tuple[int, int]) -> float:
    side = min(PNG_BYTES_PER_PIXEL, key=lambda s: abs(s - size[0]))
    return size[0] * size[1] * PNG_BYTES_PER_PIXEL[side]


def build_method(use: str, params: dict[str, Any]) -> Method:
    """The plugin of a suite's link with its parameters."""
    method: Method = registry.get("methods", use)(**params)
    return method


def _links(methods: tuple[Method, ...], names: list[str]) -> tuple[tuple[str, str], ...]:
    """The chain as it enters the job id; methods that say they leave pixels alone (`standard`, a seed) do not.

    With the digests of a method's code, of the weights that it puts on and of the scorers that it asks.
    """
    return tuple((name, _identity(m)) for m, name in zip(methods, names, strict=True) if m.changes_pixels)


def _identity(method: Method) -> str:
    record = _with_code(method.identity(), type(method))
    if weights := [dict(w.identity()) for w in method.adapters()]:
        record["weights"] = weights
    if metrics := {name: _metric_digest(name) for name in method.metrics()}:
        record["scorers"] = metrics
    return json.dumps(record, sort_keys=True)


def _with_code(decides: Mapping[str, Any], thing: Any) -> dict[str, Any]:
    """What enters the job id of a plugin, with the digest of its code where it has any."""
    code = identity.of(thing)
    return {**decides, **({"code": code.digest} if code else {})}


def _adapter(entry: ModelEntry) -> str:
    """What loads a model: two adapters of the same weights make two images."""
    return json.dumps(_with_code({"adapter": entry.adapter}, entry.family()), sort_keys=True)


def make_plan(
    suite: Suite,
    *,
    read: Callable[[str], list[Prompt]] | None = None,
    dtype: str = "fp32",
    placeholders: bool = False,
) -> Plan:
    """All jobs, choices and cells of a suite, grouped so that what shares a batch is made together.

    `dtype` is the precision of the networks where the suite does not say. A method's file that is not here is a
    UserError; with `placeholders` it is listed in `lacking`, and something else stands in the ids in its place.
    """
    with suite.configured():
        return _make_plan(suite, read, dtype, placeholders)


def _make_plan(suite: Suite, read: Callable[[str], list[Prompt]] | None, dtype: str, placeholders: bool) -> Plan:
    lacking: dict[Need, None] | None = {} if placeholders else None
    prompt_sets = {name: _taken(suite, (read or read_prompts)(name)) for name in suite.prompts}
    jobs: dict[str, Job] = {}
    choices: dict[str, Choice] = {}
    cells: list[Cell] = []
    optimises: dict[str, dict[str, list[str]]] = {}
    learnt_from: dict[str, dict[str, list[list[str]]]] = {}
    ready: dict[tuple[str, str], tuple[Method, ...]] = {}
    notes: dict[str, None] = {}
    for arm, entry, spec in _arms(suite):
        methods = tuple(_for_model(link, entry, lacking) for link in spec.chain)
        if (blind := _blind(methods, prompt_sets[arm.prompts], arm.prompts)) and spec.label != suite.baseline:
            notes[f"{spec.label} is left out on {arm.prompts}: {blind}"] = None
            continue
        if blind:
            raise UserError(f"baseline {spec.label!r} on {arm.prompts}: {blind}; choose by another metric")
        ready[spec.label, arm.model] = methods
        optimises.setdefault(spec.label, {}).setdefault(arm.model, _marked(suite, Chain(links=methods)))
        if learnt := [list(trait) for trait in Chain(links=methods).learnt_from()]:
            learnt_from.setdefault(spec.label, {}).setdefault(arm.model, learnt)
        names = [link.use for link, m in zip(spec.chain, methods, strict=True) if not m.judge()]
        plain = Sampling(arm.sampler, arm.steps, arm.guidance, entry.size, entry.dtype or suite.dtype or dtype)
        try:
            making, choosing = split_choice(methods)
            check_chain(making, names, plain)
        except (ValueError, UserError) as error:
            raise UserError(f"method {spec.label!r}: {error}") from error
        chain = Chain(links=making)
        for prompt in prompt_sets[arm.prompts]:
            _check_prompt(chain, spec.label, arm.prompts, prompt)
        base = Job(
            model=arm.model,
            model_digest=_model_digest(entry),
            sampler=arm.sampler,
            sampler_identity="",
            steps=arm.steps,
            guidance=arm.guidance,
            size=entry.size,
            links=_links(making, names),
            prompt="",
            negative_prompt=suite.negative_prompt,
            seed=0,
            adapter=_adapter(entry),
            code=identity.loop().digest,
            chain=chain,
        )
        at = {arm.steps: _sampled(base, plain, entry, spec.label)}
        for prompt in prompt_sets[arm.prompts]:
            carried = json.dumps(dict(prompt.metadata), sort_keys=True) if prompt.metadata is not None else ""
            control = tuple((kind, prompt.control_image(kind).pinned()) for kind in chain.controls())
            for seed in _seeds(suite, arm.prompts, prompt):
                job = _of(at[arm.steps], prompt, carried, control, chain.seed(seed))
                if choosing is None:
                    jobs.setdefault(job.id, job)
                    cells.append(Cell(arm, prompt, seed, job.id))
                    continue
                made = []
                for c in choosing.candidates(seed):
                    steps = c.steps_of(arm.steps)
                    if steps not in at:
                        at[steps] = _sampled(base, replace(plain, steps=steps), entry, spec.label)
                    made.append(_of(at[steps], prompt, carried, control, chain.seed(c.seed)))
                for m in made:
                    jobs.setdefault(m.id, m)
                choice = _choice(choosing, tuple(m.id for m in made), prompt)
                choices.setdefault(choice.id, choice)
                cells.append(Cell(arm, prompt, seed, choice.id))
    order = {group: i for i, group in enumerate(dict.fromkeys(j.group for j in jobs.values()))}
    ordered = sorted(jobs.values(), key=lambda j: order[j.group])
    return Plan(
        suite,
        {j.id: j for j in ordered},
        choices,
        cells,
        optimises,
        ready,
        tuple(lacking or ()),
        learnt_from,
        tuple(notes),
    )


def _for_model(link: Link, entry: ModelEntry, lacking: dict[Need, None] | None) -> Method:
    """A suite's method as it works with a model; what stands for it, and is noted, where a file of its own is not here.

    Nothing is noted, and Lacking raised, where `lacking` is None.
    """
    try:
        return build_method(link.use, dict(link.params)).for_model(entry)
    except Lacking as one:
        if lacking is None:
            raise
        lacking[one.need] = None
        instead: Method = one.instead
        return instead


def _marked(suite: Suite, chain: Chain) -> list[str]:
    """Metrics that are no evidence for a chain: those that it optimises, and the suite's that are kin to one."""
    found = list(chain.optimises())
    known = known_metrics(found)
    entries: dict[str, MetricEntry] = {name: registry.get("metrics", name) for name in suite.metrics}
    return [*found, *(n for n, one in entries.items() if n not in found and any(kin(one, other) for other in known))]


def known_metrics(names: Iterable[str]) -> list[MetricEntry]:
    """The entries of metrics that are known here; a checkpoint may name one of a package that is not installed."""
    there = registry.names("metrics")
    return [registry.get("metrics", name) for name in names if name in there]


def _of(job: Job, prompt: Prompt, carried: str, control: tuple[tuple[str, ControlImage], ...], seed: int) -> Job:
    """The job of an arm for one prompt and seed."""
    return replace(job, prompt=prompt.text, carried=carried, control=control, seed=seed)


def _sampled(job: Job, p: Sampling, entry: ModelEntry, label: str) -> Job:
    """The job as its method samples it where the suite says `p`; UserError where its sampler lacks what it needs."""
    try:
        p = job.chain.sampling(p)
        check_needs(job.chain, entry, registry.get("samplers", p.sampler))
        return job.sampled(p)
    except UserError as error:
        if not job.links:
            raise
        raise UserError(f"method {label!r}: {error}") from error


def _check_prompt(chain: Chain, label: str, prompts: str, prompt: Prompt) -> None:
    try:
        chain.check(prompt)
    except UserError as error:
        raise UserError(f"method {label!r}: prompt {prompt.index} of {prompts}: {error}") from error


def _blind(methods: tuple[Method, ...], prompts: list[Prompt], name: str) -> str:
    """Why the metric that chooses can judge no image of these prompts; empty where it can, or nothing is chosen.

    UserError where it judges some of them and not the others.
    """
    chooser = next((m.judge() for m in methods if m.judge()), None)
    if chooser is None:
        return ""
    entry: MetricEntry = registry.get("metrics", chooser)
    declared = registry.get("prompts", name).carries
    lacking = [p for p in prompts if not entry.judges(declared if p.metadata is None else p.metadata)]
    if not lacking:
        return ""
    said = f"{chooser}, which chooses, needs metadata with {entry.metadata_key!r}"
    if len(lacking) < len(prompts):
        raise UserError(f"{said}, and prompt {lacking[0].index} of {name} has none; give it to all prompts or to none")
    return f"{said}, and its prompts have none"


def check_needs(chain: Chain, entry: ModelEntry, sampler: Sampler) -> None:
    """UserError where a model's family or a sampler lacks what a chain needs."""
    needs = chain.all_needs()
    if ATTENTION in needs and not entry.family().reads_attention:
        raise UserError(
            f"it reads attention maps, and model {entry.name!r} has none to read (family {entry.family().__name__}); "
            "give a model with a UNet"
        )
    for need, has in ((MEMORYLESS, "memoryless"), (FIRST_ORDER, "first_order")):
        if need in needs and not getattr(sampler, has):
            able = [n for n in registry.names("samplers") if getattr(registry.get("samplers", n), has)]
            raise UserError(f"it needs a {need}, and {sampler.name!r} is none; give one of {', '.join(able)}")


_digests: dict[ModelEntry, str] = {}
_metric_digests: dict[MetricEntry, str] = {}
"""By entry, not by name: a suite may run a model, or a metric, with settings of its own."""


def _model_digest(entry: ModelEntry) -> str:
    if entry not in _digests:
        check_entry(entry)
        _digests[entry] = entry.digest()
    return _digests[entry]


def _metric_digest(name: str) -> str:
    entry: MetricEntry = registry.get("metrics", name)
    if entry not in _metric_digests:
        _metric_digests[entry] = entry.digest()
    return _metric_digests[entry]


def _choice(method: Method, candidates: tuple[str, ...], prompt: Prompt) -> Choice:
    name = method.judge()
    assert name is not None
    registry.get("metrics", name).check_selects()
    return Choice(candidates, name, _metric_digest(name), prompt.text)


def _arms(suite: Suite) -> Iterator[tuple[Arm, ModelEntry, MethodSpec]]:
    for model in suite.models:
        entry: ModelEntry = registry.get("models", model)
        for sampler in suite.samplers:
            for steps in suite.steps or (entry.steps,):
                for guidance in suite.guidance or (entry.guidance,):
                    for spec in suite.methods:
                        for prompts in suite.prompts:
                            arm = Arm(spec.label, model, prompts, sampler, steps, float(guidance))
                            yield arm, entry, spec


def _taken(suite: Suite, prompts: list[Prompt]) -> list[Prompt]:
    """The prompts of a set that a suite takes: with `seeds: own` those that have any, and up to its limit."""
    return [p for p in prompts if suite.seeds or p.seeds][: suite.limit]


def _seeds(suite: Suite, prompts: str, prompt: Prompt) -> list[int]:
    """A suite's seeds, or the prompt's own; where it asks for several images a prompt, seeds 0, 1, ... follow each."""
    if not suite.seeds:
        return list(prompt.seeds)
    per_prompt = suite.images_per_prompt or registry.get("prompts", prompts).images_per_prompt
    if per_prompt == 1:
        return list(suite.seeds)
    return [s * per_prompt + k for s in suite.seeds for k in range(per_prompt)]


def read_prompts(name: str) -> list[Prompt]:
    """All prompts of a set."""
    prompts: list[Prompt] = registry.get("prompts", name).read()
    return prompts
