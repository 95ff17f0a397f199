"""A run folder under other code than it was made by: what has changed, and what becomes of its images.

Every plugin of a plan has a digest of its code (`bench.identity`), and so has the loop. A ledger keeps them with its
images. Where they have changed, a run that resumes asks for a decision: the images are made again, or they are kept,
which the provenance and the report then state.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from bench import identity, registry
from bench.errors import UserError
from bench.runner.plan import Cell, Plan, content_hash
from bench.store import Ledger

OtherCode = Literal["ask", "regenerate", "keep"]
"""What becomes of images that other code made."""
Codes = dict[str, dict[str, Any]]
"""Records of code (`identity.Code.record`) by what it is of, such as `method inversion`."""
_OF_IMAGES = ("loop", "model ", "sampler ", "method ", "chooser ")


def codes(plan: Plan) -> Codes:
    """The code of all that a plan is made with; within the suite's own settings (`Suite.configured`)."""
    suite = plan.suite
    uses = {link.use for spec in suite.methods for link in spec.chain}
    choosers = {name for chain in plan.methods.values() for m in chain for name in m.metrics()}
    named: dict[str, Any] = {"loop": identity.loop()}
    named |= {f"model {name}": identity.of(registry.get("models", name).family()) for name in suite.models}
    named |= {f"sampler {n}": identity.of(registry.get("samplers", n)) for n in {j.sampler for j in plan.kinds()}}
    named |= {f"method {name}": identity.of(registry.get("methods", name)) for name in uses}
    named |= {f"chooser {name}": registry.get("metrics", name).code() for name in choosers}
    named |= {f"metric {name}": registry.get("metrics", name).code() for name in suite.metrics}
    named |= {f"prompts {name}": identity.of((registry.get("prompts", name).read,)) for name in suite.prompts}
    return {name: code.record() for name, code in sorted(named.items()) if code is not None}


def of_images(found: Codes) -> dict[str, str]:
    """The digests that decide pixels, by name. A prompt reader does so by what it reads, which is in every id."""
    return {name: str(one["digest"]) for name, one in found.items() if name.startswith(_OF_IMAGES)}


def changed(then: Mapping[str, str] | None, now: Mapping[str, str]) -> list[str]:
    """What of today's code the images were not made by; all of it where that was not kept."""
    return [name for name, digest in now.items() if (then or {}).get(name) != digest]


def made_with(plan: Plan) -> dict[str, str]:
    """What besides code decides the images and the suite does not say: precision, and digests of weights, by name.

    A method's is of its adapters, of what `for_model` found for it and of the scorers that it asks, without code.
    """
    found: dict[str, set[str]] = {}
    for job in plan.kinds():
        found.setdefault(f"precision of model {job.model}", set()).add(job.dtype)
        found.setdefault(f"weights of model {job.model}", set()).add(job.model_digest)
        for name, text in job.links:
            record = {k: v for k, v in json.loads(text).items() if k not in ("code", "version")}
            if scorers := record.get("scorers"):
                record["scorers"] = {k: identity.without_code(v) for k, v in scorers.items()}
            found.setdefault(f"weights of method {name}", set()).add(content_hash(record)[:16])
    for choice in plan.choices.values():
        found.setdefault(f"weights of chooser {choice.metric}", set()).add(identity.without_code(choice.metric_digest))
    return {name: ", ".join(sorted(digests)) for name, digests in sorted(found.items())}


# A decision ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """Images of other code that a run keeps."""

    images: int
    of: int
    changed: tuple[str, ...]
    """What has changed since, such as `method inversion`."""
    made_by: tuple[str, ...]
    """Commits or versions that made them."""
    under: Mapping[str, str]
    """Digests of the code under which that was decided."""

    def record(self) -> dict[str, Any]:
        """As the ledger and the provenance have it."""
        return {
            "images": self.images,
            "of": self.of,
            "changed": list(self.changed),
            "made_by": list(self.made_by),
            "under": dict(self.under),
        }


def decided(plan: Plan, ledger: Ledger, found: Codes, other_code: OtherCode) -> Plan:
    """The plan as it is to be run into this ledger: its images made again, or those of other code in their places.

    UserError, which names what has changed and what to do, where that is still to be decided; and where images are to
    be kept that differ in more than code: no report could say what they are.
    """
    now, made = of_images(found), made_with(plan)
    before, made_before = ledger.get("code"), ledger.get("made_with")
    since = changed(before, now)
    places = _other_images(plan, ledger) if since else {}
    if not places:
        _record(ledger, now, made, None)
        return plan
    others = [f"{name} (then {made_before[name]}, now {value})" for name, value in made.items()
              if name in (made_before or {}) and made_before[name] != value]  # fmt: skip
    if others and other_code != "regenerate":
        raise UserError(
            f"{ledger.folder}: {len(places)} images of this run were made by other code and with another "
            f"{', '.join(others)}; they cannot be kept: give --regenerate to make them again"
        )
    kept = ledger.get("kept") or {}
    if other_code == "ask" and kept.get("under") != now:
        raise UserError(
            f"{ledger.folder}: {len(places)} images of this run were made by other code: {_said(since, before)}; give "
            "--regenerate to make them again, or --keep-images to keep them, which the report then states"
        )
    if other_code == "regenerate":
        _record(ledger, now, made, None)
        return plan
    images = ledger.images()
    made_by = tuple(sorted({images[job].origin or "an older version" for job in places.values()}))
    _record(ledger, before, made_before, Kept(len(places), len(plan.cells), tuple(since), made_by, now))
    return _with(plan, places)


def _said(since: list[str], before: Mapping[str, str] | None) -> str:
    if before is None:
        return "it is not known which, for it was not recorded then"
    return f"{', '.join(since)} {'has' if len(since) == 1 else 'have'} changed since"


def _record(ledger: Ledger, code: Mapping[str, str] | None, made: Mapping[str, str] | None, kept: Kept | None) -> None:
    """Keep what the images are made by and with; only where it differs, for a finished run is only read."""
    record = {"code": code, "made_with": made, "kept": kept and kept.record()}
    if not ledger.read_only and any(ledger.get(name) != value for name, value in record.items()):
        with ledger.transaction():
            for name, value in record.items():
                ledger.set(name, value)


def _other_images(plan: Plan, ledger: Ledger) -> dict[int, str]:
    """Job ids of the images that stand in a plan's cells, by number, under another id than the plan has."""
    have = {job for job, image in ledger.images().items() if (ledger.folder / image.file).is_file()}
    then = {(cell.method, *cell.place): cell.job_id for cell in ledger.cells()}
    there = {number: then.get(_place(cell), "") for number, cell in enumerate(plan.cells)}
    return {n: job for n, job in there.items() if job in have and job != plan.cells[n].job_id}


def _place(cell: Cell) -> tuple[Any, ...]:
    a = cell.arm
    return a.method, a.model, a.prompts, a.sampler, a.steps, a.guidance, cell.prompt.index, cell.seed


def _with(plan: Plan, places: Mapping[int, str]) -> Plan:
    """The plan with other images in these cells, and only those jobs and choices that the other cells need."""
    cells = [replace(cell, job_id=places.get(n, cell.job_id)) for n, cell in enumerate(plan.cells)]
    asked = {cell.job_id for cell in cells}
    choices = {name: one for name, one in plan.choices.items() if name in asked}
    asked |= {candidate for one in choices.values() for candidate in one.candidates}
    return replace(plan, cells=cells, choices=choices, jobs={i: job for i, job in plan.jobs.items() if i in asked})


# What was made, and what was there -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reuse:
    """How many images and scores of a run are new, and where the others are from."""

    new: int
    cached: Mapping[str, int]
    """Images from the shared cache, by what made them."""
    found: Mapping[str, int]
    """Images that the run folder had, by what made them."""
    scores: int
    scores_found: int

    def line(self) -> str:
        """In words."""
        images = [
            f"{self.new} images new",
            *_by("from the cache", self.cached),
            *_by("from this run folder", self.found),
        ]
        return f"{', '.join(images)}; {self.scores} scores new, {self.scores_found} from this run folder"


def _by(words: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return [f"0 {words}"]
    return [f"{n} {words} (made by {origin or 'an older version'})" for origin, n in sorted(counts.items())]


def reuse(plan: Plan, ledger: Ledger, since: Iterable[str], *, scores: tuple[int, int]) -> Reuse:
    """What a session added: `since` are the images that were there before it; scores before and after it."""
    before = set(since)
    asked = {*plan.jobs, *(cell.job_id for cell in plan.cells if cell.job_id not in plan.choices)}
    cached: dict[str, int] = {}
    found: dict[str, int] = {}
    new = 0
    for job, image in ledger.images().items():
        if job not in asked:
            continue
        if job in before:
            found[image.origin] = found.get(image.origin, 0) + 1
        elif image.from_cache:
            cached[image.origin] = cached.get(image.origin, 0) + 1
        else:
            new += 1
    return Reuse(new, cached, found, scores[1] - scores[0], scores[0])
