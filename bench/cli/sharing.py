"""Commands that pass results on: `site`, `submit` and `summary`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench.cli.program import Add, say
from bench.errors import UserError
from bench.remote.address import place


def add_to(add: Add) -> None:
    """Add this file's commands to the program."""
    site = add("site", cmd_site, "write a static site of runs: leaderboard, a page a run, any two compared")
    site.add_argument(
        "runs", type=place("all"), nargs="+", metavar="RUNS",
        help="folders of runs or reports, or repositories of results; addresses as well",
    )  # fmt: skip
    site.add_argument("--out", type=Path, required=True, help="the site's folder: new, empty, or an earlier site")
    site.add_argument("--title", default="Noise methods compared", help="its heading")
    site.add_argument("--no-images", action="store_true", help="leave the images that reports link to where they are")

    submit = add("submit", cmd_submit, "write a run's record into a repository of results, or check such a repository")
    submit.add_argument("runs", type=place("run"), nargs="*", metavar="RUN", help="finished runs, or their reports")
    submit.add_argument("--to", type=Path, metavar="DIR", help="the repository's folder")
    submit.add_argument("--check", type=Path, metavar="DIR", help="check the records of a repository; write nothing")

    summary = add("summary", cmd_summary, "print a run's report as Markdown for a job's summary, and draw its images")
    summary.add_argument("run", type=place("images"), help="a run or report folder")
    summary.add_argument("--picture", type=Path, metavar="FILE", help="write its strip of images as one PNG")
    summary.add_argument("--address", default="", metavar="URL", help="where that picture will be, to show it")


def cmd_site(options: argparse.Namespace) -> int:
    from bench.site import build, found

    started = time.perf_counter()
    made = build(found(options.runs), options.out, title=options.title, images=not options.no_images)
    for line in made.faults:
        print(f"note: {line}", file=sys.stderr)
    print(
        f"site: {made.folder / 'index.html'}: {made.runs} runs, {made.boards} tables, {made.comparisons} comparisons, "
        f"{made.files} files, {made.bytes / 1e6:.1f} MB, {time.perf_counter() - started:.1f} s"
    )
    if not made.runs:
        raise UserError("no run could be read; the lines above say why")
    return 0


def cmd_submit(options: argparse.Namespace) -> int:
    from bench.site.submitting import check, submit

    if options.check is not None:
        if options.runs or options.to:
            raise UserError("--check reads one repository and takes no RUN and no --to")
        right, faults = check(options.check)
        say(faults)
        print(f"{options.check}: {right} records are right, {len(faults)} files are not")
        if faults:
            raise UserError(f"{options.check}: {len(faults)} files are no records that can be published")
        return 0
    if not options.runs or options.to is None:
        raise UserError("give RUN ... and --to DIR, or --check DIR")
    for run in options.runs:
        done = submit(run, options.to)
        print(f"{'wrote' if done.new else 'was there:'} {done.file} (digest {done.digest})")
    return 0


def cmd_summary(options: argparse.Namespace) -> int:
    from bench.records import read
    from bench.site.picture import picture, summary

    results = read(options.run)
    if options.picture is not None and not picture(results, options.run, options.picture):
        print(f"note: no image of {options.run} is here, so no {options.picture}", file=sys.stderr)
    # Markdown escapes what it shows; the terminal's own guard is about control characters.
    print(summary(results, address=options.address), end="")
    return 0
