"""Commands that show what is there: `report`, `compare`, `power`, `serve`, `ls`, `doctor`, `cache`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from bench import registry
from bench.cli.make import cache_folder, load_suite, suite_options
from bench.cli.program import Add, positive, say
from bench.remote.address import place

FORMS = ("json", "markdown", "html")


def add_to(add: Add) -> None:
    """Add this file's commands to the program."""
    report = add("report", cmd_report, "write the report of a run folder again, or one report of several runs")
    report.add_argument(
        "runs", type=place("images"), nargs="+", metavar="RUN", help="run folders, or addresses of runs"
    )
    report.add_argument(
        "--out", type=Path, help="default: the run's folder; of several runs, a folder beside the first"
    )
    report.add_argument("--format", action="append", metavar="md|html|tex|figures", help="write only these; repeatable")

    compare = add("compare", cmd_compare, "compare two runs cell by cell: deltas, times, calls, and what differs")
    compare.add_argument(
        "a", type=place("run"), metavar="A", help="a run folder or its address, such as the one before a change"
    )
    compare.add_argument("b", type=place("run"), metavar="B", help="the run folder whose change against A is reported")
    compare.add_argument("--out", type=Path, help="a folder for comparison.json, comparison.md and comparison.html")
    for form in FORMS:
        compare.add_argument(f"--{form}", type=Path, metavar="FILE", help=f"write the comparison as {form} there")

    power = add("power", cmd_power, "say how many prompts and seeds a delta needs, from a run's own variance")
    suite_options(power, suite="a run folder, or the suite file of a run in --runs")
    power.add_argument("--delta", type=float, required=True, help="the true mean delta to find, in the metric's unit")
    power.add_argument("--power", type=float, default=0.8, help="the chance to find it (default: 0.8)")
    power.add_argument("--alpha", type=float, default=0.05, help="the two-sided level of the test (default: 0.05)")
    power.add_argument("--comparisons", type=positive, default=1, help="how many tests share that level (default: 1)")
    power.add_argument(
        "--seeds-per-prompt", type=positive, nargs="+", default=[1, 2, 4, 8], metavar="N", help="default: 1 2 4 8"
    )

    serve = add("serve", cmd_serve, "show a folder of runs as local web pages: read-only, on this machine only")
    serve.add_argument(
        "runs", type=place("all"), nargs="?", default=Path("runs"), help="a folder or an address (default: runs)"
    )
    serve.add_argument("--port", type=int, default=8765, help="default: 8765; 0 takes any that is free")

    ls = add("ls", cmd_ls, "list the models, methods, samplers, prompt sets, metrics and named weights that are known")
    ls.add_argument("kind", nargs="?", choices=list(registry.KINDS))
    ls.add_argument("--json", action="store_true", help="the whole catalogue as one JSON array, for programs")
    ls.add_argument(
        "--markdown",
        action="store_true",
        help="of one kind: every fact as Markdown, as docs/metrics.md and docs/catalogue have it",
    )

    doctor = add("doctor", cmd_doctor, "say what this machine can run and what is missing, or check scorers")
    doctor.add_argument(
        "--metrics", nargs="*", metavar="METRIC[=FOLDER]",
        help="compare these scorers, or all, with their reference cards; exit 1 if one differs",
    )  # fmt: skip
    doctor.add_argument("--record", action="store_true", help="with --metrics NAME ...: write cards instead")
    doctor.add_argument("--dtype", choices=["fp32", "fp16", "bf16"], default="fp32", help="precision of the scorers")
    doctor.add_argument(
        "--implementation", choices=["own", "package"], default="own", help="whose code computes; default: own"
    )
    doctor.add_argument("--device", default="cpu", help="default: cpu")
    doctor.add_argument("--cards", type=Path, metavar="FOLDER", help="where cards lie, if not in the program")

    cache = add("cache", cmd_cache, "look at the shared image cache, or empty it")
    cache.add_argument("action", choices=["ls", "clean"])
    cache.add_argument(
        "--cache", type=place("cache"), help="a folder or an address (default: BENCH_CACHE, else ~/.cache/bench)"
    )


def cmd_report(options: argparse.Namespace) -> int:
    from bench.job.stages import merged_folder, write_report
    from bench.remote.mirror import mirrored
    from bench.report import sentences
    from bench.store import Ledger, exclusive, full_disk_is_said

    # A folder given twice is one run.
    ledgers = [Ledger(run) for run in {run.resolve(): run for run in options.runs}.values()]
    folder = options.out or (ledgers[0].folder if len(ledgers) == 1 else merged_folder(ledgers))
    check_writable(folder)
    with full_disk_is_said(folder), exclusive(folder), mirrored(folder):
        found = write_report(*ledgers, folder=folder, formats=options.format)
    say(sentences(found))
    print(f"report: {folder / 'report.html'}")
    return 0


def check_writable(folder: Path) -> None:
    """Make a folder; UserError where it cannot be written to."""
    from bench.errors import UserError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        why = "" if os.access(folder, os.W_OK) else "no permission"
    except OSError as error:
        why = str(error.strerror or error)
    if why:
        raise UserError(f"{folder}: no folder that can be written to ({why}); give another --out")


def cmd_compare(options: argparse.Namespace) -> int:
    from bench.analysis.compare import compare
    from bench.errors import NotComparable
    from bench.report import comparison

    found = compare(options.a, options.b)
    written = comparison.write(found, options.out, files={form: getattr(options, form) for form in FORMS})
    say(comparison.sentences(found))
    for path in written:
        print(f"wrote {path}")
    if not found.metrics:
        reasons = "; ".join(f"{row.metric}: {row.reason}" for row in found.not_compared)
        raise NotComparable(
            f"{options.a} and {options.b}: no metric could be compared ({reasons or 'none was measured'})"
        )
    return 0


def cmd_power(options: argparse.Namespace) -> int:
    from bench.analysis.power import Goal, lines, power
    from bench.errors import UserError

    goal = Goal(
        delta=options.delta,
        power=options.power,
        alpha=options.alpha,
        comparisons=options.comparisons,
        seeds=tuple(options.seeds_per_prompt),
    )
    folder = options.suite
    if not folder.is_dir():
        # Filters choose rows here: the run may have been made with all methods and metrics.
        whole = argparse.Namespace(**{**vars(options), "method": [], "metric": []})
        wanted = [load_suite(given) for given in (options, whole)]
        made = [path for suite in wanted for path in sorted(options.runs.glob(f"*-{suite.id}")) if path.is_dir()]
        if not made:
            raise UserError(
                f"{options.suite}: no run of this suite ({wanted[-1].id}) in {options.runs}; run it first, "
                "or give a run folder"
            )
        folder = made[0]
    say(lines(power(folder, goal, methods=options.method, metrics=options.metric)))
    return 0


def cmd_serve(options: argparse.Namespace) -> int:
    from bench.serve import serve

    return serve(options.runs, port=options.port)


def cmd_ls(options: argparse.Namespace) -> int:
    from bench.catalogue.listing import catalogue, lines
    from bench.errors import UserError

    if options.markdown:
        if options.kind is None or options.json:
            raise UserError("--markdown is of one kind, such as `ls metrics --markdown`, without --json")
        from bench.catalogue import metric_tables, tables

        print(metric_tables.page() if options.kind == "metrics" else tables.page(options.kind), end="")
    elif options.json:
        print(json.dumps(catalogue(options.kind), indent=1, ensure_ascii=False))
    else:
        print("\n".join(lines(options.kind)))
    return 0


def cmd_doctor(options: argparse.Namespace) -> int:
    from bench.catalogue.listing import doctor
    from bench.errors import NotComparable, Regression, UserError

    if options.metrics is None:
        if options.record or options.cards:
            raise UserError("--record and --cards are of doctor --metrics")
        print("\n".join(doctor()))
        return 0
    from bench.catalogue.cards import FOLDER
    from bench.catalogue.checking import checked

    if options.record and not options.metrics:
        raise UserError("doctor --metrics --record: name the metrics whose cards are to be written")
    folder = options.cards or FOLDER
    states = []
    for one in checked(options.metrics, precision=options.dtype, package=options.implementation == "package",
                       device=options.device, record=options.record, folder=folder):  # fmt: skip
        say([one.text])
        states.append(one.state)
    if "differs" in states:
        return Regression.exit_code
    return 0 if not options.metrics or set(states) <= {"ok", "wrote"} else NotComparable.exit_code


def cmd_cache(options: argparse.Namespace) -> int:
    from bench.remote.cache import image_cache

    with image_cache(cache_folder(options)) as cache:
        n, size = cache.size() if options.action == "ls" else cache.clean()
        print(f"{cache.place}: {n} images, {size / 1e6:.1f} MB{' removed' if options.action == 'clean' else ''}")
    return 0
