"""More scores for a run that is there: by other metrics, or from people's votes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bench import registry
from bench.analysis import results
from bench.errors import UserError
from bench.job.outcome import Outcome
from bench.job.writing import write_report
from bench.metrics.base import MetricEntry
from bench.remote.mirror import mirrored
from bench.runner.executors import Wanted, opened
from bench.store import Ledger, exclusive, full_disk_is_said
from bench.suite import Suite
from bench.suite import scorers as suite_scorers


def add_scores(
    folder: Path,
    metrics: Sequence[str],
    *,
    votes: Sequence[Path] = (),
    device: str | None = None,
    score_seconds: float | None = None,
    spread: Wanted | None = None,
) -> Outcome:
    """Judge the images of a run by more metrics, or by people's votes, and write its report again.

    Without any metric by those of its suite, for a run whose images only were made. `score_seconds` is the most that
    an image's score by one metric may take; `spread` is as in `bench.job.stages.run`.
    """
    from bench.metrics.human import NAME

    if votes and NAME not in metrics:
        raise UserError(f"--votes are read by the metric {NAME!r}; give --metric {NAME} too")
    if NAME in metrics and not votes:
        raise UserError(f"metric {NAME!r} is read from files that report.html exports; give --votes FILE")
    with closing(Ledger(folder)) as ledger:
        return _add_scores(ledger, metrics, votes, device, score_seconds, spread or Wanted())


def _add_scores(
    ledger: Ledger,
    metrics: Sequence[str],
    votes: Sequence[Path],
    device: str | None,
    limit: float | None,
    spread: Wanted,
) -> Outcome:
    from bench.metrics.human import NAME

    folder, suite = ledger.folder, results.load_suite(ledger)
    names, given = suite_scorers.split(metrics or suite.metrics)
    settings = suite_scorers.joined(suite.scorers, given)
    suite = suite.model_copy(update={"scorers": {name: one for name, one in settings.items() if name in names}})
    computed = [m for m in dict.fromkeys(names) if m != NAME]
    with full_disk_is_said(folder), exclusive(folder), mirrored(folder), suite.configured():
        for name in computed:
            registry.get("metrics", name).check_here()
        if computed:
            from bench.runner import generate, score

            chosen = generate.choose_device(device)
            work = {name: score.of_run(ledger, name) for name in computed}
            with opened(spread, device=chosen, suite=suite, metrics=computed) as executor:
                score.score(work, ledger, device=chosen, limit=limit, executor=executor)
            added = [m for m in computed if m not in suite.metrics]
            ledger.set("added_metrics", list(dict.fromkeys([*(ledger.get("added_metrics") or []), *added])))
            record_scorers(ledger, suite, computed)
        if votes:
            from bench.analysis.votes import add_votes

            counted = add_votes(ledger, votes, baseline=suite.baseline)
            left = [f"{n} {what}" for n, what in ((counted.elsewhere, "on cells that are not in this run"),
                    (counted.aside, f"without {suite.baseline}")) if n]  # fmt: skip
            ignored = f"; ignored: {', '.join(left)}" if left else ""
            print(f"votes: {counted.used} on {counted.pairs} pairs{ignored}", file=sys.stderr)
        return Outcome(folder, found=write_report(ledger), worked=True, unscored=results.unscored(ledger))


def record_scorers(ledger: Ledger, suite: Suite, names: Sequence[str]) -> None:
    """Keep the digests of a run's scorers: a report of other code, or on another machine, goes by them."""
    entries: dict[str, MetricEntry] = {name: registry.get("metrics", name) for name in names}
    digests = {name: entry.digest() for name, entry in entries.items() if not entry.partial}
    if digests:
        ledger.set("scorers", {**(ledger.get("scorers") or {}), **digests})
