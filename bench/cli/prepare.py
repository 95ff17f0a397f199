"""Commands that come before a run: `plan` and `fetch`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.make import cache_folder, load_suite, suite_options, suite_words
from bench.cli.program import Add, say
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.needs.base import Need
    from bench.runner.outline import Outline


def add_to(add: Add) -> None:
    """Add this file's commands to the program."""
    plan = add("plan", cmd_plan, "print what a run would make and cost, and what is missing for it; makes nothing")
    suite_options(plan)

    fetch = add("fetch", cmd_fetch, "get all that suites need: models, prompts, scorers; resumes where it stopped")
    suite_options(fetch, many=True)
    fetch.add_argument("--dry-run", action="store_true", help="list what would be fetched, with sizes, and get nothing")
    fetch.add_argument(
        "--to", type=Path, metavar="FOLDER",
        help="put scorers' files there, for --metric NAME=FOLDER on a machine without a hub; default: the hub's cache",
    )  # fmt: skip


def cmd_plan(options: argparse.Namespace) -> int:
    from bench.job import preflight
    from bench.needs.base import gigabytes
    from bench.remote.cache import image_cache

    suite = load_suite(options)
    for note in suite.notes:
        print(f"note: {note}")
    plan, too_many = preflight.outline_of_any_size(suite)
    for note in plan.notes:
        print(f"note: {note}")
    with image_cache(cache_folder(options)) as cache:
        cost = plan.costs(() if too_many else {record.stem for record in cache.records()})
    needs = preflight.needs(plan)
    away = preflight.missing(needs)
    print(f"suite:          {suite.name} ({suite.id}){' on the embedded twin' if suite.twin else ''}")
    print(f"methods:        {', '.join(m.label for m in suite.methods)}")
    print(f"prompts:        {', '.join(_counted(plan, name, away) for name in suite.prompts)}")
    uncounted = preflight.uncounted(plan)
    if len(uncounted) == len(suite.prompts):
        print(f"images:         unknown, as their number of prompts is: {', '.join(uncounted)}")
    else:
        say(_priced(plan, cost))
    fetched = preflight.amount([need for need in away if not need.source.command])
    images = "images of unknown size" if uncounted else f"about {gigabytes(cost['bytes'])} of images"
    print(f"disk:           {images}; {fetched or 'nothing'} to download")
    if uncounted and len(uncounted) < len(suite.prompts):
        print(f"note: all numbers are without {', '.join(uncounted)}, whose number of prompts is unknown")
    print(f"needs:          {len(needs)}, of which {len(away)} are not on this machine{':' if away else ''}")
    say(_listed(away))
    if any(not need.source.command for need in away):
        print(f"get them:       {fetch_command(options)}")
    if plan.lacking:
        print("note: images of a method whose file is not here yet are priced under a placeholder for its digest")
    if too_many:
        raise too_many
    return 0


def _priced(plan: Outline, cost: dict[str, float]) -> Iterator[str]:
    """What is made, and what that costs, a line each."""
    from bench.job import preflight
    from bench.runner.score import planned

    yield f"cells:          {cost['cells']} (method x prompt x seed)"
    made = f"{cost['images']} to have, {cost['cached']} of them in the cache; {cost['shared']} uses shared"
    yield f"images:         {made}"
    if cost["choices"]:
        yield f"choices:        {cost['choices']} images chosen among candidates"
    with plan.suite.configured():
        yield f"scoring:        {'; '.join(planned(plan))}"
    yield f"denoiser calls: {cost['calls']} still to make (guidance doubles the batch, not the calls)"
    yield f"time:           {_denoising(plan, cost['seconds'])}"
    for line in _compiling(plan):
        yield f"                {line}"
    for line in preflight.scoring(plan).lines():
        yield f"                scoring: {line}"


def _counted(plan: Outline, name: str, away: Sequence[Need]) -> str:
    """A prompt set with its number of prompts, and whether they were read."""
    number = len(plan.prompts[name])
    if f"prompts {name}" not in {need.of for need in away}:
        return f"{name} ({number})"
    return f"{name} ({number}, counted and not read)" if number else f"{name} (number unknown until it is here)"


def _denoising(plan: Outline, seconds: float) -> str:
    from bench import registry
    from bench.job.preflight import duration

    entries = [registry.get("models", name) for name in plan.suite.models]
    if seconds != seconds:
        return "no estimate: no speed is known for " + ", ".join(plan.suite.models)
    on = sorted({one.call_ms_on for one in entries})
    return f"about {duration(seconds)} of denoiser time on {' and '.join(on)}; scoring comes on top"


def _compiling(plan: Outline) -> Iterator[str]:
    """What `torch.compile` costs before it saves anything, a line for each model that asks for it.

    A denoiser is compiled in every weights that methods put on it: for the first shape of batch, and once more for all
    shapes where another comes, such as what is left over, or a batch without guidance.
    """
    from bench.job.preflight import duration

    for name, settings in plan.suite.running.items():
        if not settings.compile:
            continue
        entry = settings.configured(name)
        worn = {tuple(w.digest for w in row.chain.adapters()) for row in plan.rows if row.arm.model == name}
        times = 2 * len(worn)
        if entry.compile_s is None:
            yield f"compiling {name}: up to {times} times, of unknown length; a run writes down the seconds"
        else:
            yield f"compiling {name}: up to {times} times {duration(entry.compile_s)} on {entry.call_ms_on}"


def _listed(away: Sequence[Need]) -> list[str]:
    """A line a need: whose it is, what, its size, and where it comes from or what makes it."""
    from bench.needs.base import gigabytes

    rows = []
    for need in away:
        size = gigabytes(need.about_bytes) if need.about_bytes else "" if need.source.command else "size unknown"
        whence = need.source.command or f"from {need.source.where}"
        rows.append((need.of, need.what, size, whence))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    return [f"  {a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in rows]


def fetch_command(options: argparse.Namespace) -> str:
    """The `fetch` that gets what a command with these options of a suite needs."""
    return f"python -m bench fetch {suite_words(options)}"


def cmd_fetch(options: argparse.Namespace) -> int:
    from bench.job import fetch, preflight

    needs: list[Need] = []
    for path in options.suite:
        suite = load_suite(argparse.Namespace(**{**vars(options), "suite": path}))
        needs += preflight.needs(preflight.outline(suite))
    if not options.suite:
        if not options.metric:
            raise UserError("fetch: expected suite files, such as suites/sdxl_main.yaml, or --metric NAME")
        needs = preflight.of_metrics(options.metric)
    if options.dry_run:
        say(fetch.listed(needs, to=options.to))
        return 0
    fetch.fetch(needs, to=options.to, tell=_tell)
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
