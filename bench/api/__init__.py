"""The Python API: `bench.run`, `bench.read` and the `Run` that both give. docs/api.md says what stays as it is.

A mistake is a `bench.errors.BenchError` with the line that the command line would print, and progress is lines on
stderr. torch and pandas are loaded when something needs them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench import plugins, provenance, records
from bench.api import frames, objects
from bench.api.side_by_side import SideBySide
from bench.backoff import BatchSize
from bench.errors import BenchError, UserError
from bench.job import stages
from bench.job.resuming import OtherCode
from bench.remote.opening import local
from bench.runner.executors import Wanted
from bench.runner.shards import Shard
from bench.store import Ledger
from bench.store.cache import default_folder

if TYPE_CHECKING:
    import pandas as pd

    from bench.api.objects import MadeOf
    from bench.metrics.base import MetricEntry
    from bench.prompts.base import PromptSet

_OPTIONS = {
    "give --regenerate": 'give other_code="regenerate"',
    "--keep-images": 'other_code="keep"',
    "another --runs folder": "another folder as runs=",
    "--workers 1": "workers=1",
    "--twin": "twin=True",
    "--shard": "shard=",
    "--batch-size": "batch_size=",
    "--limit": "limit=",
    "--plugin": "plugins=",
    "--method": "methods=",
    "--metric": "metrics=",
    "--set": "overrides=",
}
"""Options that an error line of the command line advises, as arguments of `run`."""


def run(
    suite: str | Path | Mapping[str, Any],
    *,
    methods: Sequence[MadeOf] | Mapping[str, MadeOf] | None = None,
    metrics: Sequence[str | MetricEntry | Mapping[str, Any]] | None = None,
    prompts: str | PromptSet | Sequence[Any] | Mapping[str, Sequence[Any]] | None = None,
    twin: bool = False,
    limit: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    plugins: Iterable[str | Path] = (),
    runs: str | Path = "runs",
    cache: str | Path | Literal[False] | None = None,
    device: str | None = None,
    batch_size: BatchSize | None = None,
    threads: int | None = None,
    shard: tuple[int, int] | None = None,
    other_code: OtherCode | None = None,
    memory: bool = False,
    job_seconds: float | None = None,
    score_seconds: float | None = None,
    executor: str | None = None,
    workers: int | Literal["auto"] | None = None,
    gpus_per_worker: float | None = None,
    ray_address: str | None = None,
) -> Run:
    """Make the images of a suite, score them and write the report; what is there already is not made again.

    `suite` is a file or a mapping of the same keys. `methods` and `metrics` are what is kept of it, beside the
    baseline, and what is added; `prompts` take the place of its prompt sets: the name of one, or texts or mappings as
    a prompt file has them. `overrides` are keys of the suite, as --set has them: `{"steps": 20}`. `plugins` are files
    as --plugin has them. `runs` and `cache`, the folder of images that runs share (False for none),
    may be addresses such as s3://bucket/runs. `shard=(1, 8)` makes part 1 of 8, in a folder of its own, for `bench
    merge`. `other_code` says what becomes of images of this run that other code made: `"regenerate"` or `"keep"`; by
    default an error asks. `memory` also measures, on a CPU, each method's peak
    memory in a process of its own, which loads plugins from their files. `job_seconds` and `score_seconds` are the most
    that an image and a score may take; what takes longer fails. `executor`, `workers`, `gpus_per_worker` and
    `ray_address` say who makes images and scores, as their options do; workers know nothing that a notebook defines.

    BenchError where the command line would print one line: UserError for a mistake, NotComparable for no result.
    Images and scores that failed are in `Run.failed` and `Run.unscored`, and are said on stderr.
    """
    given = {
        "methods": methods, "metrics": metrics, "prompts": prompts, "twin": twin, "limit": limit,
        "overrides": overrides, "plugins": plugins, "other_code": other_code, "memory": memory, "shard": shard,
    }  # fmt: skip
    try:
        _load(plugins)
        asked = objects.suite_of(
            suite, methods=methods, metrics=metrics, prompts=prompts, overrides=overrides, limit=limit, twin=twin
        )
        for note in asked.notes:
            print(f"note: {note}", file=sys.stderr)
        with provenance.called(_said(suite, given)):
            done = stages.run(
                asked,
                runs=local(runs, "runs"),
                cache=None if cache is False else local(cache, "cache") if cache else default_folder(),
                device=device,
                batch_size=batch_size,
                threads=threads,
                named="SUITE" if isinstance(suite, Mapping) else str(suite),
                other_code=other_code,
                memory=memory,
                shard=None if shard is None else Shard.of_pair(shard),
                job_seconds=job_seconds,
                score_seconds=score_seconds,
                spread=Wanted(executor, workers, gpus_per_worker, ray_address),
            )
    except BenchError as error:
        # The line says it all: a notebook would print every frame of the way there.
        error.args = (_in_python(str(error)),)
        raise error.with_traceback(None) from None
    found = Run(done.folder)
    for what, failed in (("images", done.failed), ("scores", done.unscored), ("values", done.unvalued)):
        for name, reasons in failed.items():
            print(f"failed: {len(reasons)} {what} of {name}; the first: {reasons[0]}", file=sys.stderr)
    for name, reason in done.unmeasured.items():
        print(f"failed: the memory of {name} was not measured: {reason}", file=sys.stderr)
    return found


def read(run: str | Path) -> Run:
    """A run folder that was made before, or the folder of a report of several; UserError where there is neither."""
    folder = local(run, "images")
    if folder.name == "results.json":
        folder = folder.parent
    if not (folder / "results.json").is_file() and not (folder / "ledger.sqlite").is_file():
        raise UserError(f"{folder}: no run there; expected a folder made by `bench run` or bench.run")
    return Run(folder)


@dataclass(frozen=True, repr=False)
class Run:
    """A run folder as Python reads it. A notebook shows the report's summary."""

    folder: Path
    """Where it lies."""

    @property
    def id(self) -> str:
        """The folder's name: the suite's name and id."""
        return self.folder.resolve().name

    @property
    def report(self) -> Path:
        """The report as a page."""
        return self.folder / "report.html"

    @cached_property
    def results(self) -> records.Results:
        """All numbers of the report, as typed records."""
        return records.read(self.folder)

    @property
    def headline(self) -> str:
        """The report's first sentence."""
        from bench.report import headline

        return headline(self.results)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Each method against the baseline, by metric, setting and prompt set."""
        return frames.comparisons(self.results, self.id)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Each image's score by each metric."""
        return frames.scores(self.results, self.folder, self.id)

    @cached_property
    def images(self) -> pd.DataFrame:
        """Each image: file, times, calls, origin; those that failed, with the reason."""
        return frames.images(frames.folders(self.folder), self.id)

    @cached_property
    def costs(self) -> pd.DataFrame:
        """What an image of each method costs, and over the baseline's."""
        return frames.costs(self.results, self.id)

    @property
    def failed(self) -> dict[str, list[str]]:
        """By method, why images of it could not be made."""
        return self._of_ledgers(stages.failed_images)

    @property
    def unscored(self) -> dict[str, list[str]]:
        """By metric, why scores of it could not be given; of a set metric, values of the table's rows."""
        from bench.analysis.failed import unvalued
        from bench.analysis.results import unscored

        found = self._of_ledgers(unscored)
        for name, reasons in unvalued(self.results).items():
            found.setdefault(name, []).extend(reasons)
        return found

    def _of_ledgers(self, ask: Any) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for folder in frames.folders(self.folder):
            ledger = Ledger(folder, read_only=True)
            try:
                for name, reasons in ask(ledger).items():
                    found.setdefault(name, []).extend(reasons)
            finally:
                ledger.close()
        return found

    def show(
        self,
        prompt: int = 0,
        *,
        seed: int | None = None,
        prompts: str | None = None,
        methods: Sequence[str] | None = None,
        **setting: Any,
    ) -> SideBySide:
        """The images of a prompt, by its number in its set, side by side with their scores.

        Of the first seed, prompt set and setting unless given (`model`, `sampler`, `steps`, `guidance`). UserError
        where the run has no such place.
        """
        wanted = {"index": prompt, "seed": seed, "prompts": prompts, **setting}
        rows = self.images
        for column in ("prompts", "model", "sampler", "steps", "guidance", "index", "seed"):
            value = wanted.pop(column, None)
            rows = _at(rows, column, value)
        if wanted:
            raise UserError(f"show: unknown {next(iter(wanted))!r}; expected seed, prompts, methods or a setting")
        for method in methods or ():
            _at(rows, "method", method)
        kept = rows[rows["method"].isin(methods)] if methods else rows
        first = rows.iloc[0]
        title = f"{first['prompts']} {first['index']}, seed {first['seed']}: {first['prompt']}"
        files: dict[str, Path | None] = {}
        notes: dict[str, str] = {}
        for _, row in kept.iterrows():
            files[row["method"]] = Path(row["file"]) if isinstance(row["file"], str) else None
            notes[row["method"]] = row["failed"] if isinstance(row["failed"], str) else self._scores_of(row)
        return SideBySide(title, files, notes)

    def _scores_of(self, row: Any) -> str:
        place = ["run", "method", "model", "prompts", "sampler", "steps", "guidance", "index", "seed"]
        same = (self.scores[place] == row[place].to_list()).all(axis=1)
        return "\n".join(f"{one.metric} {one.value:.4g}" for one in self.scores[same].itertuples())

    def __repr__(self) -> str:
        return f"<run {self.id}: {self.headline}>" if (self.folder / "results.json").is_file() else f"<run {self.id}>"

    def _repr_html_(self) -> str:
        from bench.report.notebook import summary

        return summary(self.results, self.report.resolve())


def _at(rows: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    """The rows with a value in a column, by default the first row's."""
    known = rows[column].drop_duplicates().to_list()
    if value is not None and value not in known:
        shown = ", ".join(map(str, known[:8])) + (", ..." if len(known) > 8 else "")
        raise UserError(f"show: no {column} {value!r} in this run; it has {shown or 'no images'}")
    if not known:
        raise UserError("show: this run has no images")
    return rows[rows[column] == (known[0] if value is None else value)]


def _load(files: Iterable[str | Path]) -> None:
    for file in [files] if isinstance(files, str | Path) else files:
        plugins.load(file)


def _in_python(line: str) -> str:
    """An error line that advises options of the command line, advising arguments of `run` instead."""
    for option, argument in _OPTIONS.items():
        line = re.sub(rf"{re.escape(option)}(?![\w-])", argument, line)
    return line


def _said(suite: str | Path | Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The call in words, as the provenance has it: arguments that are not at their defaults, cut short."""
    named = "{...}" if isinstance(suite, Mapping) else repr(str(suite))
    words = [f"{name}={_short(value)}" for name, value in given.items() if value not in (None, False, ())]
    return f"bench.run({', '.join([named, *words])})"


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:197]}..."
