"""Commands that decide: `gate` and `baseline`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.program import Add

if TYPE_CHECKING:
    from bench.gate import Verdict
    from bench.report import Results
    from bench.suite import Suite


def add_to(add: Add) -> None:
    """Add this file's commands to the program."""
    gate = add("gate", cmd_gate, "check a run against its suite's gates or a frozen baseline")
    gate.add_argument("run", type=Path)
    gate.add_argument("--baseline", type=Path, help="a file written by `baseline freeze`")
    gate.add_argument("--markdown", type=Path, help="write the verdicts as Markdown")
    gate.add_argument("--junit", type=Path, help="write the verdicts as JUnit XML")

    baseline = add("baseline", cmd_baseline, "freeze a run's results for later gates")
    baseline.add_argument("action", choices=["freeze"])
    baseline.add_argument("run", type=Path)
    baseline.add_argument("--out", type=Path, required=True, help="the file to write, such as baselines/NAME.json")


def verdicts_of(results: Results, suite: Suite, *, suite_gates: bool, baseline: Path | None) -> list[Verdict]:
    """What the suite's own gates and a frozen baseline say of a run."""
    from bench import gate
    from bench.errors import UserError

    verdicts: list[Verdict] = []
    if suite_gates:
        verdicts += gate.check(results, [gate.Rule.parse(g.model_dump(exclude_none=True)) for g in suite.gates])
    if baseline:
        try:
            frozen = json.loads(baseline.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{baseline}: not a readable baseline ({error})") from error
        verdicts += gate.against_baseline(results, frozen)
    return verdicts


def cmd_gate(options: argparse.Namespace) -> int:
    from bench import gate
    from bench.errors import NotComparable
    from bench.results import compute, load_suite
    from bench.store import Ledger

    ledger = Ledger(options.run)
    suite = load_suite(ledger)
    if not suite.gates and not options.baseline:
        raise NotComparable(f"{options.run}: its suite has no gates; add some, or give --baseline FILE")
    verdicts = verdicts_of(compute(ledger), suite, suite_gates=not options.baseline, baseline=options.baseline)
    if options.markdown:
        options.markdown.write_text(gate.markdown(verdicts))
    if options.junit:
        options.junit.write_text(gate.junit(verdicts))
    return tell(verdicts)


def tell(verdicts: list[Verdict]) -> int:
    """Print one line a verdict; returns the exit code."""
    from bench import gate

    for v in verdicts:
        word = "ok" if v.ok else "FAILED" if v.comparable else "not comparable"
        print(f"{word}: {v.sentence}")
    return gate.exit_code(verdicts)


def cmd_baseline(options: argparse.Namespace) -> int:
    from bench import gate
    from bench.results import compute
    from bench.store import Ledger, write_atomically

    frozen = gate.freeze(compute(Ledger(options.run)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out, (json.dumps(frozen, indent=1, ensure_ascii=False) + "\n").encode())
    print(f"wrote {options.out}")
    return 0
