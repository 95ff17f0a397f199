"""The command that decides: `gate`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.program import Add, code_of, say
from bench.remote.address import place

if TYPE_CHECKING:
    from bench.gate import Judgement, Tolerance
    from bench.records import Results
    from bench.suite import Suite


def add_to(add: Add) -> None:
    """Add this file's command to the program."""
    gate = add("gate", cmd_gate, "check a run against its suite's gates and a frozen baseline")
    gate.add_argument("run", type=place("run"), help="a run folder, or its address")
    gate.add_argument("--baseline", type=Path, help="a file written by `baseline freeze`")
    gate_options(gate)


def gate_options(parser: argparse.ArgumentParser) -> None:
    """How to compare with a baseline, and where verdicts go: the same for `gate` and `run --gate`."""
    parser.add_argument(
        "--tolerance",
        action="append",
        default=[],
        metavar="[METRIC=]VALUE",
        help="how far scores may fall below the baseline, in the metric's unit, or as 1%% of the method's frozen mean "
        "(default: the baseline's own, else 0)",
    )
    parser.add_argument("--two-sided", action="store_true", help="fail where scores are above the baseline's, too")
    parser.add_argument(
        "--require",
        choices=["plausible", "shown"],
        default="plausible",
        help="plausible: fail where a fall below the baseline is shown (default); "
        "shown: fail where it is not shown that there is none",
    )
    parser.add_argument(
        "--inconclusive",
        choices=["pass", "fail"],
        default="pass",
        help="what a verdict counts as that is neither shown to keep to its rule nor shown not to: exit 0 (pass, the "
        "default) or 1 (fail)",
    )
    parser.add_argument("--verbose", action="store_true", help="print every verdict, not a line a method")
    parser.add_argument("--junit", type=Path, help="write the verdicts as JUnit XML")
    parser.add_argument("--markdown", type=Path, help="write the verdicts as Markdown")
    parser.add_argument("--json", type=Path, help="write the verdicts as JSON")


def check_options(options: argparse.Namespace) -> None:
    """Find a baseline that cannot be read, or an option without a gate, before hours of a run rather than after."""
    from bench import gate
    from bench.errors import UserError

    asked = options.gate or options.baseline
    for name in ("junit", "markdown", "json", "tolerance"):
        if getattr(options, name) and not asked:
            raise UserError(f"--{name}: nothing is judged without --gate or --baseline FILE; add one of them")
    if options.inconclusive != "pass" and not asked:
        raise UserError("--inconclusive: nothing is judged without --gate or --baseline FILE; add one of them")
    given = _compared_by(options)
    if options.baseline:
        gate.check_tolerances(gate.load(options.baseline), given)


def check_read(options: argparse.Namespace, suite: Suite) -> None:
    """Find a tolerance that no comparison of this suite will read, before its run."""
    from bench import gate
    from bench.analysis.results import metrics_of
    from bench.store import Ledger

    given = gate.tolerances(options.tolerance)
    if not (options.baseline and given):
        return
    folder, metrics = options.runs / f"{suite.name}-{suite.id}", list(suite.metrics)
    if (folder / "ledger.sqlite").is_file():
        ledger = Ledger(folder, read_only=True)
        metrics = metrics_of(ledger, suite)
        ledger.close()
    gate.check_unread(gate.load(options.baseline), given, suite, metrics)


def _compared_by(options: argparse.Namespace) -> dict[str, Tolerance]:
    """The tolerances that were given; UserError for an option that only a baseline reads, where there is none."""
    from bench import gate
    from bench.errors import UserError

    given = gate.tolerances(options.tolerance)
    if options.baseline:
        return given
    for name, asked, instead in (
        ("tolerance", given, "leave it out"),
        ("require", options.require != "plausible", "write `require: shown` in the suite's rule"),
        ("two-sided", options.two_sided, "write `two_sided: true` in the suite's rule"),
    ):
        if asked:
            raise UserError(f"--{name}: only a baseline reads it; give --baseline FILE, or {instead}")
    return given


def verdicts_of(
    results: Results, suite: Suite, *, suite_gates: bool, baseline: Path | None, run: Path, options: argparse.Namespace
) -> Judgement:
    """What the suite's own gates and a frozen baseline say of the run in a folder."""
    from bench import gate
    from bench.analysis.results import kept_sentence, shard_sentence
    from bench.store import Ledger

    found = gate.Judgement(inconclusive=options.inconclusive)
    if not (suite_gates or baseline):
        return found
    ledger = Ledger(run, read_only=True)
    try:
        samples = gate.Samples.read(ledger)
        if kept := ledger.get("kept"):
            found.notes.append(kept_sentence(kept))
        if shard := ledger.get("shard"):
            found.notes.append(shard_sentence(shard))
    finally:
        ledger.close()
    if suite_gates:
        found.verdicts += gate.check(results, suite.gates, samples)
    if baseline:
        against = gate.against_baseline(
            results,
            gate.load(baseline),
            samples,
            tolerance=gate.tolerances(options.tolerance),
            two_sided=options.two_sided,
            require=options.require,
        )
        found.verdicts += against.verdicts
        found.notes += against.notes
        found.baseline = baseline.name
    return found


def cmd_gate(options: argparse.Namespace) -> int:
    with forms_of_faults(options):
        judged, results = _gate(options)
    return tell(judged, results, options)


@contextmanager
def forms_of_faults(options: argparse.Namespace) -> Iterator[None]:
    """Write the forms that were asked for where an error ends the command: no reader takes an old file for this one.

    The error, and so the exit code, stays what it is.
    """
    from bench.errors import UserError

    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if not isinstance(error, BrokenPipeError):
            try:
                _write_forms(unjudged(error, options), None, options)
            except UserError as second:
                print(f"note: {second}", file=sys.stderr)
        raise


def unjudged(error: BaseException, options: argparse.Namespace) -> Judgement:
    """The one verdict of a command that an error ended: nothing could be compared, and why."""
    from bench import gate
    from bench.errors import BenchError, first_line

    said = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {first_line(error)}"
    said = "interrupted" if isinstance(error, KeyboardInterrupt) else said
    verdict = gate.Verdict(check="baseline" if options.baseline else "rule", rule="gate", method="every method",
                           outcome="not comparable", sentence=said)  # fmt: skip
    name = options.baseline.name if options.baseline else None
    return gate.Judgement([verdict], baseline=name, inconclusive=options.inconclusive, fault=code_of(error))


def _gate(options: argparse.Namespace) -> tuple[Judgement, Results]:
    from bench.analysis.results import compute, load_suite
    from bench.errors import NotComparable
    from bench.store import Ledger

    ledger = Ledger(options.run, read_only=True)
    suite = load_suite(ledger)
    if not suite.gates and not options.baseline:
        raise NotComparable(f"{options.run}: its suite has no gates; add some, or give --baseline FILE")
    _compared_by(options)
    results = compute(ledger)
    ledger.close()
    gates = bool(suite.gates)
    judged = verdicts_of(results, suite, suite_gates=gates, baseline=options.baseline, run=options.run, options=options)
    return judged, results


def tell(judged: Judgement, results: Results, options: argparse.Namespace) -> int:
    """Print a line a method, or with --verbose a verdict, failures last, and write what was asked for.

    Returns the exit code.
    """
    from bench import gate

    for note in judged.notes:
        print(f"note: {note}", file=sys.stderr)
    worst_last = sorted(judged.verdicts, key=lambda v: gate.ORDER.index(v.outcome), reverse=True)
    if options.verbose:
        say(f"{gate.mark_of(verdict)}: {verdict.sentence}" for verdict in worst_last)
    else:
        say(gate.by_method(worst_last))
    counts = ", ".join(f"{number} {name}" for name, number in gate.counted(judged.verdicts).items())
    print(f"gate: {gate.overall(judged.verdicts)} ({counts})")
    if gate.overall(judged.verdicts) == "inconclusive" and judged.exit_code == 0:
        print("note: inconclusive passes here; --inconclusive fail does not let it", file=sys.stderr)
    _summarise(gate.markdown(judged))
    _write_forms(judged, results, options)
    return judged.exit_code


def _write_forms(judged: Judgement, results: Results | None, options: argparse.Namespace) -> None:
    from bench import gate

    as_json = json.dumps(gate.as_json(judged, results), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    _write_all(
        (options.markdown, gate.markdown(judged)), (options.junit, gate.junit(judged.verdicts)), (options.json, as_json)
    )


def _write_all(*files: tuple[Path | None, str]) -> None:
    """Write every form, and only then say which one could not be."""
    from bench.errors import UserError

    failed: list[UserError] = []
    for path, text in files:
        try:
            write_file(path, text)
        except UserError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def write_file(path: Path | None, text: str) -> None:
    """Write a file and the folders above it; nothing without a path. UserError where it cannot be written."""
    from bench.errors import UserError
    from bench.store import write_atomically

    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); give another file") from error


def _summarise(text: str) -> None:
    """Append to the page that GitHub Actions shows of a job; a verdict stands even where that fails."""
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if not page:
        return
    try:
        with open(page, "a", encoding="utf-8", errors="replace") as summary:
            summary.write(text + "\n")
    except OSError as error:
        print(f"note: GITHUB_STEP_SUMMARY ({page}) cannot be written: {error.strerror or error}", file=sys.stderr)
