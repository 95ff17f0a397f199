"""What of a suite no plan can make: too many images, methods a model or sampler lacks something for, blind choosers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench import registry
from bench.errors import UserError
from bench.methods.base import Chain, Method
from bench.metrics.base import MetricEntry
from bench.models.base import ControlledFamily, ModelEntry, no_residuals
from bench.prompts.base import Prompt
from bench.runner.outline import Row
from bench.samplers.diffusers_schedulers import Sampler
from bench.sampling.records import ATTENTION, FIRST_ORDER, MEMORYLESS
from bench.suite import Suite

MAX_CELLS = 2_000_000
"""Of a plan, and of the images that it asks for: more would fill the memory. The largest suite here has 720,000."""


class TooMany(UserError):
    """More images than a plan can hold."""


def check_number(suite: Suite, prompts: Mapping[str, Sequence[Prompt]]) -> None:
    """UserError, before a list of them fills the memory, where a suite has more images than a plan can hold."""
    protocols = len(suite.models) * len(suite.samplers) * len(suite.steps or (0,)) * len(suite.guidance or (0,))
    each = {name: suite.images_per_prompt or registry.get("prompts", name).images_per_prompt for name in prompts}
    images = sum(len(p.seeds) if not suite.seeds else len(suite.seeds) * each[name]
                 for name, found in prompts.items() for p in found)  # fmt: skip
    _check_fits(suite, protocols * len(suite.methods) * images, "cells (method x prompt x seed x protocol)")


def one_seed(suite: Suite) -> tuple[Suite, int]:
    """A suite with one image of each prompt, or as many as a prompt set asks for, and how many seeds that stands for.

    Images of different seeds are different images, so all that a suite makes and costs is a multiple of these.
    """
    if not suite.seeds:
        return suite, 1
    each = suite.images_per_prompt
    times = len(suite.seeds) * (each or 1)
    return suite.model_copy(update={"seeds": suite.seeds[:1], "images_per_prompt": each and 1}), times


def check_candidates(suite: Suite, rows: Sequence[Row]) -> None:
    """As `check_number`, of the images that candidates are, each as often as it is asked for."""
    asked = sum(len(row.images(row.seeds[0][0])) * sum(map(len, row.seeds)) for row in rows if row.prompts)
    _check_fits(suite, asked, "images, candidates of choices among them")


def _check_fits(suite: Suite, number: int, what: str) -> None:
    if number > MAX_CELLS:
        raise TooMany(
            f"suite {suite.name!r} has {number:,} {what}, and a plan holds at most {MAX_CELLS:,}; give fewer seeds, "
            "images_per_prompt, candidates or methods, or --limit fewer prompts"
        )


def check_prompts(chain: Chain, label: str, name: str, prompts: Sequence[Prompt]) -> None:
    if all(type(link).check is Method.check for link in chain.links):
        return  # none of them refuses any, and there may be many
    for prompt in prompts:
        try:
            chain.check(prompt)
        except UserError as error:
            raise UserError(f"method {label!r}: prompt {prompt.index} of {name}: {error}") from error


def blind(methods: tuple[Method, ...], prompts: list[Prompt], name: str) -> str:
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
    if chain.adds_residuals() and not issubclass(entry.family(), ControlledFamily):
        raise UserError(no_residuals(entry))
    for need, has in ((MEMORYLESS, "memoryless"), (FIRST_ORDER, "first_order")):
        if need in needs and not getattr(sampler, has):
            able = [n for n in registry.names("samplers") if getattr(registry.get("samplers", n), has)]
            raise UserError(f"it needs a {need}, and {sampler.name!r} is none; give one of {', '.join(able)}")


def check_chooser(method: Method) -> None:
    name = method.judge()
    assert name is not None
    registry.get("metrics", name).check_selects()
