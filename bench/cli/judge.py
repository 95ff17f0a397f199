"""Commands that decide: `gate` and `baseline`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.program import Add, say

if TYPE_CHECKING:
    from bench.gate import Judgement
    from bench.gate.verdicts import Results
    from bench.suite import Suite


def add_to(add: Add) -> None:
    """Add this file's commands to the program."""
    gate = add("gate", cmd_gate, "check a run against its suite's gates and a frozen baseline")
    gate.add_argument("run", type=Path)
    gate.add_argument("--baseline", type=Path, help="a file written by `baseline freeze`")
    gate_options(gate)

    baseline = add("baseline", cmd_baseline, "freeze a run's results for later gates")
    baseline.add_argument("action", choices=["freeze"])
    baseline.add_argument("run", type=Path)
    baseline.add_argument(
        "--out", type=Path, help="the file to write (default: baselines/NAME.json, named after the suite)"
    )


def gate_options(parser: argparse.ArgumentParser) -> None:
    """How to compare with a baseline, and where verdicts go: alike for `gate` and `run --gate`."""
    parser.add_argument(
        "--tolerance",
        action="append",
        default=[],
        metavar="[METRIC=]VALUE",
        help="how far scores may fall below the baseline's, in the metric's unit (default: 0)",
    )
    parser.add_argument("--two-sided", action="store_true", help="fail where scores are above the baseline's, too")
    parser.add_argument(
        "--require",
        choices=["plausible", "shown"],
        default="plausible",
        help="plausible: fail where a fall below the baseline is shown (default); "
        "shown: fail where it is not shown that there is none",
    )
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
    gate.tolerances(options.tolerance)
    if options.baseline:
        gate.load(options.baseline)


def verdicts_of(
    results: Results, suite: Suite, *, suite_gates: bool, baseline: Path | None, run: Path, options: argparse.Namespace
) -> Judgement:
    """What the suite's own gates and a frozen baseline say of the run in a folder."""
    from bench import gate
    from bench.store import Ledger

    found = gate.Judgement()
    if not (suite_gates or baseline):
        return found
    ledger = Ledger(run, read_only=True)
    try:
        samples = gate.Samples.read(ledger)
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
    from bench.errors import NotComparable
    from bench.results import compute, load_suite
    from bench.store import Ledger

    ledger = Ledger(options.run, read_only=True)
    suite = load_suite(ledger)
    if not suite.gates and not options.baseline:
        raise NotComparable(f"{options.run}: its suite has no gates; add some, or give --baseline FILE")
    results = compute(ledger)
    ledger.close()
    gates = bool(suite.gates)
    judged = verdicts_of(results, suite, suite_gates=gates, baseline=options.baseline, run=options.run, options=options)
    return tell(judged, results, options)


def tell(judged: Judgement, results: Results, options: argparse.Namespace) -> int:
    """Print a line a verdict, failures last, and write what was asked for; returns the exit code."""
    from bench import gate

    words = {"passed": "ok", "not comparable": "not comparable", "failed": "FAILED"}
    for note in judged.notes:
        print(f"note: {note}", file=sys.stderr)
    for verdict in sorted(judged.verdicts, key=lambda v: list(words).index(v.outcome)):
        say([f"{words[verdict.outcome]}: {verdict.sentence}"])
    counts = ", ".join(f"{number} {name}" for name, number in gate.counted(judged.verdicts).items())
    print(f"gate: {gate.overall(judged.verdicts)} ({counts})")
    _summarise(gate.markdown(judged))
    told = json.dumps(gate.as_json(judged, results), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    _write_all(
        (options.markdown, gate.markdown(judged)), (options.junit, gate.junit(judged.verdicts)), (options.json, told)
    )
    return gate.exit_code(judged.verdicts)


def _write_all(*files: tuple[Path | None, str]) -> None:
    """Write every form, and only then say which one could not be."""
    from bench.errors import UserError

    failed: list[UserError] = []
    for path, text in files:
        try:
            _write(path, text)
        except UserError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _write(path: Path | None, text: str) -> None:
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


def cmd_baseline(options: argparse.Namespace) -> int:
    from bench import gate
    from bench.results import compute
    from bench.store import Ledger

    ledger = Ledger(options.run, read_only=True)
    content = gate.freeze(compute(ledger), gate.Samples.read(ledger))
    ledger.close()
    suite = content["suite"]
    name = f"{suite['name']}_twin" if suite["twin"] else suite["name"]
    out = options.out or Path("baselines") / f"{name}.json"
    text = gate.dump(content)
    _write(out, text)
    arms, metrics = len(content["arms"]), len(content["metrics"])
    pairs = sum(one["n"] for one in content["pairs"].values())
    size = len(text.encode()) / 1000
    print(f"wrote {out}: {arms} arms x {metrics} metrics x {pairs} pairs of suite {suite['name']} ({suite['id']}), "
          f"{size:.0f} kB")  # fmt: skip
    return 0
