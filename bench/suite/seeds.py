"""The `seeds` of a suite: a number, a list, a range, or `own`, each prompt's own seeds as its set gives them.

A suite keeps `own` as no seeds at all, for the prompts have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bench import registry
from bench.suite.document import Fault, fault

OWN = "own"
MAX_SEEDS = 100_000  # a range is written in two numbers; this keeps a slip from filling the memory
Seed = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]


class _Range(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    first: Seed = Field(alias="from")
    last: Seed = Field(alias="to")


def written(value: Any) -> Any:
    """What a file says as a tuple of numbers, which is empty for `own`; pydantic judges the numbers."""
    if value == OWN:
        return ()
    if not isinstance(value, dict):
        listed = value if isinstance(value, list) else (value,)
        if not listed:
            fault("'seeds' is empty; expected at least one entry")
        return listed
    span = _Range.model_validate(value)
    if span.last < span.first:
        fault(f"'seeds' should run upwards, got from {span.first} to {span.last}")
    if span.last - span.first >= MAX_SEEDS:
        fault(f"'seeds' should be at most {MAX_SEEDS}, got {span.last - span.first + 1}")
    return tuple(range(span.first, span.last + 1))


def shown(seeds: Sequence[int]) -> str:
    """A hundred seeds in a few words."""
    if not seeds:
        return f"each prompt's {OWN}"
    if len(seeds) > 8 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def unowned(prompts: Sequence[str], images_per_prompt: int | None) -> Iterable[Fault]:
    """What `seeds: own` cannot go with."""
    if images_per_prompt is not None:
        yield ("images_per_prompt",), f"'images_per_prompt' has no say over 'seeds: {OWN}'; leave one of them out"
    for at, name in enumerate(prompts):
        if not registry.get("prompts", name).seeds:
            able = [one for one in registry.names("prompts") if registry.get("prompts", one).seeds]
            said = f"no prompt of {name!r} has seeds of its own, as 'seeds: {OWN}' asks for"
            yield ("prompts", at), f"{said}; give seeds, or one of {', '.join(able)}"


def notes(prompts: Sequence[str]) -> tuple[str, ...]:
    """What a reader must know of sets whose prompts do not all have seeds of their own."""
    sizes = [(name, len(entry.seeds), entry.size) for name in prompts if (entry := registry.get("prompts", name))]
    return tuple(
        f"{n} of {size} prompts of {name!r} have seeds of their own; the others are left out"
        for name, n, size in sizes
        if n < size
    )
