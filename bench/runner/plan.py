"""Suite -> Plan: which images to make, under which names, and what that will cost. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
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
from bench.runner import checks
from bench.runner.checks import MAX_CELLS as MAX_CELLS
from bench.runner.checks import check_needs as check_needs
from bench.runner.jobs import Arm as Arm
from bench.runner.jobs import Cell as Cell
from bench.runner.jobs import Choice as Choice
from bench.runner.jobs import Job as Job
from bench.runner.jobs import Look, Template, with_code
from bench.runner.jobs import content_hash as content_hash
from bench.runner.listing import Plan as Plan
from bench.runner.listing import listed, metric_digest
from bench.runner.outline import Outline, Row
from bench.sampling.records import Sampling
from bench.suite import Link, MethodSpec, Suite

Read = Callable[[str], list[Prompt]]
"""Reads a prompt set by its name."""


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
    record = with_code(method.identity(), type(method))
    if weights := [dict(w.identity()) for w in method.adapters()]:
        record["weights"] = weights
    if metrics := {name: metric_digest(name) for name in method.metrics()}:
        record["scorers"] = metrics
    return json.dumps(record, sort_keys=True)


def _adapter(entry: ModelEntry) -> str:
    """What loads a model: two adapters of the same weights make two images."""
    return json.dumps(with_code({"adapter": entry.adapter}, entry.family()), sort_keys=True)


def make_plan(
    suite: Suite,
    *,
    read: Read | None = None,
    dtype: str = "fp32",
    placeholders: bool = False,
) -> Plan:
    """All jobs, choices and cells of a suite, grouped so that what shares a batch is made together.

    `dtype` is the precision of the networks where the suite does not say. A method's file that is not here is a
    UserError; with `placeholders` it is listed in `lacking`, and something else stands in the ids in its place.
    """
    found = outlined(suite, read=read, dtype=dtype, placeholders=placeholders)
    with suite.configured():
        return listed(found)


def outlined(suite: Suite, *, read: Read | None = None, dtype: str = "fp32", placeholders: bool = False) -> Outline:
    """As `make_plan`, without a list of the images: all that it refuses, and what a plan costs."""
    with suite.configured():
        return _outlined(suite, read or read_prompts, dtype, placeholders)


def _outlined(suite: Suite, read: Read, dtype: str, placeholders: bool) -> Outline:
    lacking: dict[Need, None] | None = {} if placeholders else None
    prompt_sets = {name: _taken(suite, read(name)) for name in suite.prompts}
    checks.check_number(suite, prompt_sets)
    seeds = {name: _seeds(suite, name, found) for name, found in prompt_sets.items()}
    rows: list[Row] = []
    optimises: dict[str, dict[str, list[str]]] = {}
    learnt_from: dict[str, dict[str, list[list[str]]]] = {}
    ready: dict[tuple[str, str], tuple[Method, ...]] = {}
    notes: dict[str, None] = {}
    looks = Looks()
    for arm, entry, spec in _arms(suite):
        prompts = prompt_sets[arm.prompts]
        methods = tuple(_for_model(link, entry, lacking) for link in spec.chain)
        if (blind := checks.blind(methods, prompts, arm.prompts)) and spec.label != suite.baseline:
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
        checks.check_prompts(chain, spec.label, arm.prompts, prompts)
        if choosing is not None and prompts:
            checks.check_chooser(choosing)
        job = Job(
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
        at = _at_steps(job, plain, entry, spec.label)
        at(arm.steps)  # refused here, without prompts too
        rows.append(Row(arm, prompts, looks.of(arm.prompts, prompts, chain), seeds[arm.prompts], chain, choosing, at))
    checks.check_candidates(suite, rows)
    return Outline(
        suite=suite,
        rows=tuple(rows),
        prompts=prompt_sets,
        optimises=optimises,
        methods=ready,
        lacking=tuple(lacking or ()),
        learnt_from=learnt_from,
        notes=(*notes, *_same(rows)),
    )


class Looks:
    """Prompts as they decide pixels, each set once for all chains that read the same of it."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._found: dict[tuple[str, tuple[str, ...]], list[Look]] = {}

    def of(self, name: str, prompts: Sequence[Prompt], chain: Chain) -> list[Look]:
        """The looks of a set's prompts for a chain."""
        key = (name, chain.controls())
        if key not in self._found:
            self._found[key] = [Look.of(prompt, key[1], self._numbers) for prompt in prompts]
        return self._found[key]


def _at_steps(job: Job, plain: Sampling, entry: ModelEntry, label: str) -> Callable[[int], Template]:
    """An arm's jobs by the number of steps, which its candidates may have of their own."""

    @cache
    def at(steps: int) -> Template:
        return Template(_sampled(job, replace(plain, steps=steps), entry, label))

    return at


def _same(rows: Sequence[Row]) -> Iterator[str]:
    """A note for arms that are one arm by all that decides their images."""
    found: dict[tuple[Any, ...], dict[str, None]] = {}
    for row in rows:
        if row.prompts:
            images = tuple((template.key, seed) for template, seed in row.images(row.seeds[0][0]))
            chooser = row.choosing.judge() if row.choosing else ""
            found.setdefault((row.arm.model, images, chooser, row.chain.controls()), {})[row.arm.method] = None
    for labels in dict.fromkeys(tuple(one) for one in found.values() if len(one) > 1):
        named = ", ".join(map(repr, labels[:-1])) + f" and {labels[-1]!r}"
        yield f"{named} are the same arm here: they make the same images"


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


_digests: dict[ModelEntry, str] = {}
"""By entry, not by name: a suite may run a model with settings of its own."""


def _model_digest(entry: ModelEntry) -> str:
    if entry not in _digests:
        check_entry(entry)
        _digests[entry] = entry.digest()
    return _digests[entry]


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


def _seeds(suite: Suite, name: str, prompts: Sequence[Prompt]) -> list[Sequence[int]]:
    """For each prompt a suite's seeds, or its own; of several images a prompt, seeds 0, 1, ... follow each."""
    if not suite.seeds:
        return [prompt.seeds for prompt in prompts]
    n = suite.images_per_prompt or registry.get("prompts", name).images_per_prompt
    return [[s * n + k for s in suite.seeds for k in range(n)]] * len(prompts)


def read_prompts(name: str) -> list[Prompt]:
    """All prompts of a set."""
    prompts: list[Prompt] = registry.get("prompts", name).read()
    return prompts
