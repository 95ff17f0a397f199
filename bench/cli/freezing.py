"""The command that freezes results for later gates: `baseline`."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli.judge import write_file
from bench.cli.program import Add, say
from bench.remote.address import place


def add_to(add: Add) -> None:
    """Add this file's command to the program."""
    baseline = add("baseline", cmd_baseline, "freeze a run's results for later gates; show or compare what was frozen")
    baseline.add_argument("action", choices=["freeze", "show", "compare"])
    baseline.add_argument("paths", type=place("run"), nargs="+", metavar="PATH",
                          help="freeze RUN, show FILE, or compare FILE FILE")  # fmt: skip
    baseline.add_argument(
        "--out", type=Path, help="freeze: the file to write (default: baselines/NAME.json, named after the suite)"
    )
    baseline.add_argument(
        "--tolerance", action="append", default=[], metavar="[METRIC=]VALUE",
        help="freeze: how far scores of later runs may fall below these, as `gate --tolerance`",
    )  # fmt: skip


def cmd_baseline(options: argparse.Namespace) -> int:
    from bench import gate
    from bench.analysis.results import compute
    from bench.errors import UserError
    from bench.store import Ledger

    many = 2 if options.action == "compare" else 1
    if len(options.paths) != many:
        raise UserError(f"baseline {options.action}: expected {many} path{'s' * (many > 1)}, got {len(options.paths)}")
    if options.action != "freeze":
        if options.out or options.tolerance:
            raise UserError(f"baseline {options.action}: --out and --tolerance are of `baseline freeze`")
        given = [gate.load(path) for path in options.paths]
        say(gate.compare(*given) if options.action == "compare" else gate.show(*given))
        return 0
    gate.tolerances(options.tolerance)
    tolerance = {text.rpartition("=")[0]: text.rpartition("=")[2] for text in options.tolerance}
    ledger = Ledger(options.paths[0], read_only=True)
    frozen = gate.freeze(compute(ledger), gate.Samples.read(ledger), tolerance)
    ledger.close()
    gate.check_tolerances(frozen, {})
    suite = frozen.suite
    out = options.out or Path("baselines") / f"{f'{suite.name}_twin' if suite.twin else suite.name}.json"
    text = gate.dump(frozen)
    write_file(out, text)
    pairs = sum(one.n for one in frozen.pairs.values())
    print(f"wrote {out}: {len(frozen.arms)} arms x {len(frozen.metrics)} metrics x {pairs} pairs of suite {suite.name} "
          f"({suite.id}), {len(text.encode()) / 1000:.0f} kB")  # fmt: skip
    return 0
