"""Commands that show what is there: `report`, `export`, `ls`, `doctor`, `cache`."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli.make import cache_folder
from bench.cli.program import Add


def add_to(add: Add) -> None:
    """Add this file's commands to the program."""
    report = add("report", cmd_report, "write results.json, report.md and report.html of a run folder again")
    report.add_argument("run", type=Path)

    export = add("export", cmd_export, "write a run's ledger as Parquet and CSV")
    export.add_argument("run", type=Path)
    export.add_argument("--out", type=Path, help="default: RUN/export")

    ls = add("ls", cmd_ls, "list the models, methods, samplers, prompt sets and metrics that are known")
    ls.add_argument("kind", nargs="?", choices=["models", "methods", "samplers", "prompts", "metrics"])

    add("doctor", cmd_doctor, "say what this machine can run and what is missing")

    cache = add("cache", cmd_cache, "look at the shared image cache, or empty it")
    cache.add_argument("action", choices=["ls", "clean"])
    cache.add_argument("--cache", type=Path, help="default: BENCH_CACHE, else ~/.cache/bench")


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

    cache = ImageCache(cache_folder(options))
    n, size = cache.size() if options.action == "ls" else cache.clean()
    print(f"{cache.folder}: {n} images, {size / 1e6:.1f} MB{' removed' if options.action == 'clean' else ''}")
    return 0
