"""Images that the harness did not make -> a run folder that every later stage reads as one of its own.

    OUT/ledger.sqlite  images/<digest>.png  scores.csv  results.json  report.md  report.html

Stopped and started again it resumes where it was; other metrics of the same images are added to those before.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import registry
from bench.analysis import results
from bench.errors import NotComparable, UserError
from bench.intake import matching
from bench.intake.images import take_in
from bench.intake.matching import Given
from bench.intake.score_table import write_scores
from bench.job.outcome import Outcome, failed_images
from bench.job.recording import end_session
from bench.job.scoring import record_scorers
from bench.job.writing import write_report
from bench.metrics.base import MetricEntry
from bench.runner.plan import content_hash
from bench.store import ELSEWHERE, Cell, Ledger, as_json, exclusive, full_disk_is_said, prompt_key
from bench.suite import MethodSpec, Suite
from bench.suite import scorers as suite_scorers
from bench.suite.scorers import ScorerSettings

_USUAL = ("standard", "baseline")
"""Labels of a table that are taken for the baseline unless another is named."""


@dataclass(frozen=True)
class Asked:
    """What to score: a folder, its prompts, and how they belong together."""

    folder: Path
    prompts: str
    """A file, or a prompt set's name."""
    metrics: Sequence[str]
    against: str | None = None
    """The baseline: a folder of its images, or the label of a table's method."""
    match: str = "order"
    per_prompt: int = 1
    reference: str | None = None
    """What metrics of sets compare with, those that do."""


@dataclass(frozen=True)
class _Work:
    """All images, what they are called, and which of their methods is the baseline."""

    images: list[Given]
    prompts: str
    baseline: str
    methods: list[str]
    """The baseline first."""


def score_folder(asked: Asked, *, out: Path | None, runs: Path, device: str | None = None) -> Outcome:
    """Score images, write scores.csv, and the report; NotComparable, with the scores written, where nothing pairs."""
    names, settings = _settings(asked)
    work = _matched(asked)
    suite = _suite(asked, work, names, settings)
    for name in suite.metrics:
        _check_metric(name, work, asked.prompts)
    folder = out or runs / f"{suite.name}-{content_hash([_key(one) for one in work.images])[:10]}"
    try:
        with full_disk_is_said(folder), exclusive(folder):
            ledger = Ledger(folder, create=True)
            if ledger.get("suite") and not ledger.get("given"):
                raise UserError(f"{folder}: holds a run of a suite; give another --out")
            suite = _with_earlier(suite, ledger, work)
            with suite.configured():
                return _scored(suite, work, ledger, device)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{error.filename or folder}: a file is in the way; give another --out") from error
    except PermissionError as error:
        raise UserError(f"{error.filename or folder}: no permission to write there; give another --out") from error


def _settings(asked: Asked) -> tuple[list[str], dict[str, ScorerSettings]]:
    """The metrics' names, and the settings of those that have some."""
    names, given = suite_scorers.split(asked.metrics)
    settings = suite_scorers.joined({}, given)
    if asked.reference is None:
        return names, settings
    able = [name for name in names if registry.get("metrics", name).refer is not None]
    if not able:
        raise UserError(f"--reference {asked.reference}: none of {', '.join(names)} compares with a reference")
    for name in able:
        settings[name] = settings.get(name, ScorerSettings()).model_copy(update={"reference": asked.reference})
        suite_scorers.check(name, settings[name])
    return names, settings


# What is given -------------------------------------------------------------------------------------------------------


def _matched(asked: Asked) -> _Work:
    source = matching.source(asked.prompts)
    if not asked.folder.is_dir():
        raise UserError(f"{asked.folder}: no such folder; expected one with images")
    if source.table is not None:
        return _of_table(asked, source)
    given = [(asked.folder, asked.folder.resolve().name)]
    if asked.against is not None:
        ours, theirs = matching.labels(asked.folder, Path(asked.against))
        given = [(Path(asked.against), theirs), (asked.folder, ours)]
    images: list[Given] = []
    for folder, label in given:
        if asked.match == "name":
            found = matching.by_name(folder, source.prompts, paired=asked.against is not None)
        else:
            found = matching.in_order(folder, source.prompts, per_prompt=asked.per_prompt)
        images += [Given(one.path, one.prompt, label, one.seed) for one in found]
    return _Work(images, source.name, given[0][1], [label for _, label in given])


def _of_table(asked: Asked, source: matching.Source) -> _Work:
    assert source.table is not None
    label = asked.folder.resolve().name
    images = matching.by_table(asked.folder, source.table, column=source.column, method=label)
    methods = list(dict.fromkeys(one.method for one in images))
    if asked.against is not None and asked.against not in methods:
        raise UserError(
            f"--against {asked.against}: not a method of {source.table} ({', '.join(methods)}), whose rows name all "
            "images"
        )
    baseline = asked.against or next((name for name in _USUAL if name in methods), methods[0])
    return _Work(images, source.name, baseline, [baseline, *(name for name in methods if name != baseline)])


def _suite(asked: Asked, work: _Work, metrics: Sequence[str], settings: dict[str, ScorerSettings]) -> Suite:
    """What stands for the images in results and reports."""
    name = re.sub(r"[^a-z0-9_-]+", "-", asked.folder.resolve().name.lower()).strip("-") or "images"
    others = [label for label in work.methods if label != work.baseline]
    compared = f"{', '.join(others)} against {work.baseline}" if others else work.baseline
    return Suite(
        name=name,
        title=f"{compared}: images made elsewhere",
        models=(ELSEWHERE,),
        prompts=(work.prompts,),
        samplers=(ELSEWHERE,),
        steps=(0,),
        guidance=(0.0,),
        seeds=tuple(sorted({one.seed for one in work.images})),
        baseline=work.baseline,
        methods=tuple(MethodSpec(label=label, chain=()) for label in work.methods),
        metrics=tuple(dict.fromkeys(metrics)),
        scorers=settings,
    )


def _check_metric(name: str, work: _Work, prompts: str) -> None:
    entry: MetricEntry = registry.get("metrics", name)
    lacking = sum(not entry.judges(one.prompt.metadata) for one in work.images)
    if lacking == len(work.images):
        raise UserError(
            f"metric {name!r} judges prompts with metadata (GenEval's: columns tag and include), and no prompt of "
            f"{prompts} has what it needs; give a file that has, or leave the metric out"
        )
    if lacking:
        print(
            f"note: {name} leaves out {lacking} images whose prompts lack the metadata that it needs", file=sys.stderr
        )
    if entry.kind == "pair" and len(work.methods) == 1:
        raise UserError(f"metric {name!r} compares two images of a prompt; give the others as --against FOLDER")


def _key(one: Given) -> list[Any]:
    return [one.method, one.prompt.index, one.seed, str(one.path.resolve()), prompt_key(one.prompt)]


# Into a ledger and out of it -----------------------------------------------------------------------------------------


def _scored(suite: Suite, work: _Work, ledger: Ledger, device: str | None) -> Outcome:
    for name in suite.metrics:
        registry.get("metrics", name).check_here()
    from bench import provenance
    from bench.runner import generate, score

    chosen = generate.choose_device(device)
    jobs, changed = take_in(work.images, ledger)
    suite = _with_notes(suite, changed)
    _record(suite, work, jobs, ledger)
    weights = {name: registry.get("metrics", name).digest() for name in suite.metrics}
    session = ledger.begin_session(provenance.collect(chosen, weights))
    seconds = score.score({name: score.of_run(ledger, name) for name in suite.metrics}, ledger, device=chosen)
    end_session(ledger, session, {"score_seconds": seconds})
    apart = _unpaired(work)
    if len(work.methods) > 1 and len(apart) == len(work.methods) - 1:
        write_scores(ledger, results.compute(ledger))
        raise NotComparable(
            f"no prompt and seed of {work.baseline!r} is there in {', '.join(map(repr, apart))}, so nothing pairs; the "
            f"scores are in {ledger.folder / 'scores.csv'}"
        )
    for label in apart:
        print(f"note: {label} has no prompt and seed in common with {work.baseline}", file=sys.stderr)
    found = write_report(ledger)
    write_scores(ledger, found)
    failed, unscored = failed_images(ledger), results.unscored(ledger)
    ledger.close()
    return Outcome(ledger.folder, found=found, worked=True, failed=failed, unscored=unscored, apart=tuple(apart))


def _with_earlier(suite: Suite, ledger: Ledger, work: _Work) -> Suite:
    """With the metrics that the same images were scored by before, as they were set then."""
    if ledger.get("given") != [_key(one) for one in work.images]:
        return suite
    before = results.load_suite(ledger)
    metrics = tuple(dict.fromkeys([*before.metrics, *suite.metrics]))
    kept = {name: one for name, one in before.scorers.items() if name not in suite.metrics}
    return suite.model_copy(update={"metrics": metrics, "scorers": {**kept, **suite.scorers}})


def _with_notes(suite: Suite, changed: Counter[str]) -> Suite:
    """What was done to images that were not 8-bit RGB is said at once and in the report."""
    notes = tuple(f"{n} images are scored after a change: {what}." for what, n in sorted(changed.items()))
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return suite.model_copy(update={"notes": notes})


def _record(suite: Suite, work: _Work, jobs: Sequence[str], ledger: Ledger) -> None:
    """What the run is of, kept with it so that every later stage needs the folder only."""
    with ledger.transaction():
        ledger.set("suite", suite.model_dump(mode="json"))
        ledger.set("optimises", {label: {ELSEWHERE: []} for label in work.methods})
        ledger.set("given", [_key(one) for one in work.images])
        # Of metrics that were added to the folder since, the scorers stay as they were recorded.
        ledger.set("scorers", {m: d for m, d in (ledger.get("scorers") or {}).items() if m not in suite.metrics})
        record_scorers(ledger, suite, suite.metrics)
        ledger.put_cells(
            Cell(
                one.method,
                ELSEWHERE,
                work.prompts,
                ELSEWHERE,
                0,
                0.0,
                one.prompt.index,
                one.seed,
                one.prompt.text,
                one.prompt.category,
                as_json(one.prompt.metadata),
                job,
            )
            for one, job in zip(work.images, jobs, strict=True)
        )


def _unpaired(work: _Work) -> list[str]:
    """Methods that have no prompt and seed in common with the baseline."""
    places: dict[str, set[tuple[int, int]]] = {label: set() for label in work.methods}
    for one in work.images:
        places[one.method].add((one.prompt.index, one.seed))
    return [label for label in work.methods if not places[label] & places[work.baseline]]
