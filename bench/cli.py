"""The command line: one small function a command, no logic of its own. Imports happen inside the commands."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import __version__
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.gate import Verdict
    from bench.prompts.base import Prompt
    from bench.report import Results
    from bench.suite import Suite

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code that ARCHITECTURE.md names."""
    options = _parser().parse_args(arguments)
    return guarded(options.command, options)


def guarded(command: Command, options: argparse.Namespace) -> int:
    """A command's exit code, whatever becomes of it: mistakes and interruptions are one line, faults a traceback."""
    try:
        return command(options)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone; that is no fault, and Python must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception:
        traceback.print_exc()
        print("error: this is a fault of ours, please report it with the lines above", file=sys.stderr)
        return 4


def commands(parser: argparse.ArgumentParser) -> Callable[[str, Command, str], argparse.ArgumentParser]:
    """Give a program its `--version` and what adds a command to it: `add(name, command, about)`."""
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, about: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=about, description=about)
        sub.set_defaults(command=command)
        return sub

    return add


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Does this noise method really help, by how much, at what cost?"
    )
    add = commands(parser)

    run = add(
        "run", cmd_run, "make the images of a suite, score them, and write a report; goes on where it was stopped"
    )
    _suite_options(run)
    run.add_argument("--device", help="cpu, cuda, cuda:1, ...; default: a GPU where there is one")
    run.add_argument("--batch-size", type=positive, help="images a batch; changes no result")
    run.add_argument("--threads", type=positive, help="CPU threads for torch")
    run.add_argument("--no-cache", action="store_true", help="neither take images from the shared cache nor keep them")
    run.add_argument("--gate", action="store_true", help="check the suite's gates at the end; exit 1 if one fails")
    run.add_argument("--baseline", type=Path, help="also check against a file written by `baseline freeze`")

    plan = add("plan", cmd_plan, "print what a run would make and cost, without making anything")
    _suite_options(plan)

    report = add("report", cmd_report, "write results.json, report.md and report.html of a run folder again")
    report.add_argument("run", type=Path)

    gate = add("gate", cmd_gate, "check a run against its suite's gates or a frozen baseline")
    gate.add_argument("run", type=Path)
    gate.add_argument("--baseline", type=Path, help="a file written by `baseline freeze`")
    gate.add_argument("--markdown", type=Path, help="write the verdicts as Markdown")
    gate.add_argument("--junit", type=Path, help="write the verdicts as JUnit XML")

    baseline = add("baseline", cmd_baseline, "freeze a run's results for later gates")
    baseline.add_argument("action", choices=["freeze"])
    baseline.add_argument("run", type=Path)
    baseline.add_argument("--out", type=Path, required=True, help="the file to write, such as baselines/NAME.json")

    export = add("export", cmd_export, "write a run's ledger as Parquet and CSV")
    export.add_argument("run", type=Path)
    export.add_argument("--out", type=Path, help="default: RUN/export")

    ls = add("ls", cmd_ls, "list the models, methods, samplers, prompt sets and metrics that are known")
    ls.add_argument("kind", nargs="?", choices=["models", "methods", "samplers", "prompts", "metrics"])

    add("doctor", cmd_doctor, "say what this machine can run and what is missing")

    cache = add("cache", cmd_cache, "look at the shared image cache, or empty it")
    cache.add_argument("action", choices=["ls", "clean"])
    cache.add_argument("--cache", type=Path, help="default: BENCH_CACHE, else ~/.cache/bench")
    return parser


def positive(text: str) -> int:
    """An argument's whole number from 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return value


def _suite_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", type=Path, help="a suite file, such as suites/sdxl_main.yaml")
    parser.add_argument("--twin", action="store_true", help="run on the embedded world: no GPU, no hub, no account")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a value of the suite")
    parser.add_argument("--limit", type=positive, help="take only the first N prompts of each set")
    parser.add_argument("--method", action="append", default=[], help="keep only these methods (and the baseline)")
    parser.add_argument("--metric", action="append", default=[], help="keep only these metrics")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders go (default: runs)")
    parser.add_argument(
        "--cache", type=Path, help="image cache shared by runs (default: BENCH_CACHE or ~/.cache/bench)"
    )


def _load(options: argparse.Namespace) -> Suite:
    from bench import suite

    return suite.load(
        options.suite,
        overrides=options.set,
        limit=options.limit,
        twin=options.twin,
        methods=options.method,
        metrics=options.metric,
    )


def _cache(options: argparse.Namespace) -> Path:
    from bench.cache import default_folder

    return options.cache or default_folder()


def cmd_run(options: argparse.Namespace) -> int:
    from bench.run import run

    suite = _load(options)
    for note in suite.notes:
        print(f"note: {note}", file=sys.stderr)
    done = run(
        suite,
        runs=options.runs,
        cache=None if options.no_cache else _cache(options),
        device=options.device,
        batch_size=options.batch_size,
        threads=options.threads,
    )
    from bench.report import sentences

    if not done.worked:
        print("finished before; nothing to do", file=sys.stderr)
    print("\n".join(sentences(done.results)))
    for control in done.results["controls"]:
        if control["ok"] is False:
            print(f"control: {control['sentence']}")
    print(f"report: {done.folder / 'report.html'}")
    verdicts = _verdicts(done.results, suite, suite_gates=options.gate, baseline=options.baseline)
    return _tell(verdicts) if options.gate or options.baseline else 0


def cmd_plan(options: argparse.Namespace) -> int:
    from bench.cache import ImageCache
    from bench.plan import make_plan

    suite = _load(options)
    for note in suite.notes:
        print(f"note: {note}")
    plan = make_plan(suite, read=_read_or_count)
    cache = ImageCache(_cache(options))
    cost = plan.costs({j for j in plan.jobs if cache.has(j)})
    print(f"suite:          {suite.name} ({suite.id}){' on the embedded twin' if suite.twin else ''}")
    print(f"methods:        {', '.join(m.label for m in suite.methods)}")
    sets = {c.arm.prompts: 0 for c in plan.cells}
    for name in sets:
        sets[name] = len({c.prompt.index for c in plan.cells if c.arm.prompts == name})
    print(f"prompts:        {', '.join(f'{name} ({n})' for name, n in sets.items())}")
    print(f"cells:          {cost['cells']} (method x prompt x seed)")
    print(
        f"images:         {cost['images']} to have, {cost['cached']} of them in the cache; {cost['shared']} uses shared"
    )
    if cost["choices"]:
        print(f"choices:        {cost['choices']} images chosen among candidates")
    print(f"denoiser calls: {cost['calls']} still to make (guidance doubles the batch, not the calls)")
    print(f"time:           {_duration(cost['seconds'], suite)}")
    print(f"disk:           about {cost['bytes'] / 1e6:.0f} MB")
    return 0


def _read_or_count(name: str) -> list[Prompt]:
    """A prompt set, or, where its file is not here yet, as many stand-ins: a plan needs their number only."""
    from bench import registry
    from bench.errors import UserError
    from bench.prompts.base import Prompt

    entry = registry.get("prompts", name)
    try:
        return list(entry.read())
    except UserError as error:
        print(f"note: prompts {name!r} are counted, not read: {error}")
        return [Prompt(i, f"{name} {i}") for i in range(entry.size)]


def _duration(seconds: float, suite: Suite) -> str:
    from bench import registry

    if seconds != seconds:
        return "no estimate: no speed is known for " + ", ".join(suite.models)
    on = {registry.get("models", m).call_ms_on for m in suite.models}
    text = (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
    return f"about {text} of denoiser time on {' and '.join(sorted(on))}; scoring comes on top"


def cmd_report(options: argparse.Namespace) -> int:
    from bench.report import sentences
    from bench.run import write_report
    from bench.store import Ledger, exclusive, full_disk_is_said

    ledger = Ledger(options.run)
    with full_disk_is_said(options.run), exclusive(options.run):
        found = write_report(ledger)
    print("\n".join(sentences(found)))
    print(f"report: {options.run / 'report.html'}")
    return 0


def _verdicts(results: Results, suite: Suite, *, suite_gates: bool, baseline: Path | None) -> list[Verdict]:
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
    verdicts = _verdicts(compute(ledger), suite, suite_gates=not options.baseline, baseline=options.baseline)
    if options.markdown:
        options.markdown.write_text(gate.markdown(verdicts))
    if options.junit:
        options.junit.write_text(gate.junit(verdicts))
    return _tell(verdicts)


def _tell(verdicts: list[Verdict]) -> int:
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


def cmd_export(options: argparse.Namespace) -> int:
    from bench.store import Ledger, export

    for path in export(Ledger(options.run), options.out or options.run / "export"):
        print(path)
    return 0


def cmd_ls(options: argparse.Namespace) -> int:
    from bench.listing import lines

    print("\n".join(lines(options.kind)))
    return 0


def cmd_doctor(options: argparse.Namespace) -> int:
    from bench.listing import doctor

    print("\n".join(doctor()))
    return 0


def cmd_cache(options: argparse.Namespace) -> int:
    from bench.cache import ImageCache

    cache = ImageCache(_cache(options))
    n, size = cache.size() if options.action == "ls" else cache.clean()
    print(f"{cache.folder}: {n} images, {size / 1e6:.1f} MB{' removed' if options.action == 'clean' else ''}")
    return 0
