"""The command that joins what `run --shard` made: `merge`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.program import Add, say
from bench.remote.address import place

if TYPE_CHECKING:
    from bench.runner.shards import Shard


def add_to(add: Add) -> None:
    """Add this file's command to the program."""
    merge = add("merge", cmd_merge, "join the shards of a run (`run --shard i/n`) into the run that they are parts of")
    merge.add_argument(
        "runs", type=place("images"), nargs="+", metavar="RUN", help="all shards, in any order: folders or addresses"
    )
    merge.add_argument("--out", type=Path, help="where the run goes (default: beside the first, named as the run is)")
    merge.add_argument(
        "--images-only", action="store_true",
        help="leave the shards' scores: the run command then scores as a run in one go does, to the last bit",
    )  # fmt: skip


def shard(text: str) -> Shard:
    """The argument of --shard, such as `2/8`."""
    from bench.runner.shards import Shard

    index, _, of = text.partition("/")
    if index.isdecimal() and of.isdecimal() and 1 <= int(index) <= int(of):
        return Shard(int(index), int(of))
    raise argparse.ArgumentTypeError(f"expected i/n with i from 1 to n, such as 1/8, got {text!r}")


def cmd_merge(options: argparse.Namespace) -> int:
    from bench.job.merging import merge
    from bench.remote.mirror import mirrored

    folder = merge(options.runs, out=options.out, scores=not options.images_only)
    with mirrored(folder):
        return _finished(options, folder)


def _finished(options: argparse.Namespace, folder: Path) -> int:
    """The report of the run in `folder` that shards were joined to, and what is said of it."""
    from bench.job.stages import write_report
    from bench.report import sentences
    from bench.store import Ledger, exclusive, full_disk_is_said

    print(f"merged {len(options.runs)} shards: {folder}")
    if options.images_only:
        print(f"to score them: the command that made the shards, without --shard, with --runs {folder.parent}")
        return 0
    with full_disk_is_said(folder), exclusive(folder):
        ledger = Ledger(folder)
        found = write_report(ledger)
        ledger.close()
    say(sentences(found))
    print(f"report: {folder / 'report.html'}")
    return 0
