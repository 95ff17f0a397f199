"""The pages of a site, written into a folder: they work from disk and from any web server, and load nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from bench.errors import BenchError, UserError
from bench.records.submission import submission
from bench.report import headline, html, sentences, trust
from bench.report.about import provenance
from bench.report.browsed import image_file
from bench.report.summary import summary_table
from bench.site import layout
from bench.site.board import boards
from bench.site.sources import Shown, Sources
from bench.store import write_atomically

MARK = ".noisebench-site"
"""A file that says that a folder is a site of ours, which may be written over."""
IMAGES = (".png", ".jpg", ".jpeg", ".webp")
"""Ends of the files that are copied as images."""
COMPARED = 10
"""Runs that are compared pair by pair at most, each with each."""


@dataclass(frozen=True)
class Built:
    """What was written."""

    folder: Path
    runs: int
    boards: int
    comparisons: int
    files: int
    bytes: int
    faults: list[str]
    """Runs that could not be read, and pairs of runs that could not be compared, a line each."""


def build(sources: Sources, out: Path, *, title: str = "Noise methods compared", images: bool = True) -> Built:
    """Write the site of these runs; `images` copies the images that their reports show.

    UserError where `out` holds something that is no site of ours.
    """
    _claim(out)
    runs, faults = sources.runs, list(sources.faults)
    tables = boards(runs)
    for run in runs:
        _write_run(run, out / "run" / run.slug, images=images)
    pairs = list(_compared(runs, out, faults))
    board = layout.leaderboard(runs, tables, faults, title=title, nav=_nav(""), links=_links)
    _write(out / "index.html", board)
    _write(out / "compare.html", layout.side_by_side(runs, pairs, nav=_nav("")))
    written = [path for path in out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in written)
    return Built(out, len(runs), len(tables), len(pairs), len(written), size, faults)


def _claim(out: Path) -> None:
    """Make the folder, or empty that of an earlier site."""
    try:
        if out.is_dir() and any(out.iterdir()):
            if not (out / MARK).is_file():
                raise UserError(f"{out}: holds files that are no site of this program; give an empty --out")
            for path in out.iterdir():
                # What a server needs beside the pages, such as .git and CNAME, stays.
                if path.name in ("run", "compare") and path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
        out.mkdir(parents=True, exist_ok=True)
        # GitHub Pages leaves out folders with an underscore unless this file is there.
        (out / ".nojekyll").touch()
        (out / MARK).write_text("A site that `python -m bench site` wrote; it is written over by the next one.\n")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error}); give another --out") from error


# One run -------------------------------------------------------------------------------------------------------------


def _write_run(run: Shown, folder: Path, *, images: bool) -> None:
    """A run's own page, its report, its record, and the images that its report shows."""
    folder.mkdir(parents=True)
    results, home = run.results, run.folder or folder
    write_atomically(folder / "record.json", submission(results).text().encode("utf-8", "replace"))
    # Written again: a report.html of another's is a page with scripts, which would run where the site is published.
    _write(folder / "report.html", html.render(results, home))
    if images:
        _copy_images(run, folder)
    summary = summary_table(results)
    page = layout.page(
        "run.html.j2",
        nav=_nav("../../"),
        title=run.title,
        run=run,
        headline=headline(results),
        verdict=sentences(results),
        trust=trust(results),
        summary=summary if summary.rows else None,
        provenance=provenance(results),
        strip=layout.strip_of(results, home) if run.folder is not None else None,
    )
    _write(folder / "index.html", page)


def _copy_images(run: Shown, folder: Path) -> None:
    """Copy what the report links to, under the same names; of merged runs those that lie in the report's own folder."""
    if run.folder is None:
        return
    for pair in run.results.pairs:
        for method, name in pair.images.items():
            place = folder / name
            if run.results.runs[pair.runs[method]].path != "." or place.exists():
                continue
            file = image_file(run.results, pair, method, run.folder)
            if file is not None and file.is_file() and file.suffix.lower() in IMAGES:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)


# Runs compared -------------------------------------------------------------------------------------------------------


def _compared(runs: Sequence[Shown], out: Path, faults: list[str]) -> Iterator[tuple[Shown, Shown, str]]:
    """Every two of the newest runs whose ledgers are there, pair by pair, where they have cells in common."""
    from bench.analysis.compare import compare
    from bench.report import comparison

    whole = [run for run in runs if run.ledger and run.folder is not None][:COMPARED]
    for b, a in combinations(whole, 2):
        assert a.folder is not None
        assert b.folder is not None
        try:
            found = compare(a.folder, b.folder)
        except BenchError as error:
            faults.append(f"{a.slug} and {b.slug} are not compared pair by pair: {' '.join(str(error).split())}")
            continue
        place = f"compare/{a.slug}--{b.slug}.html"
        _write(out / place, layout.page("compared.html.j2", nav=_nav("../"), **comparison.page(found)))
        yield a, b, place


# Places --------------------------------------------------------------------------------------------------------------


def _nav(root: str) -> list[tuple[str, str]]:
    """Links at the head of a page, which lies `root` below the site's folder."""
    return [
        (f"{root}index.html", "Leaderboard"),
        (f"{root}index.html#runs", "Runs"),
        (f"{root}compare.html", "Two runs side by side"),
    ]


def _links(run: Shown) -> dict[str, str]:
    """Where a run's pages are, seen from the site's first page."""
    home = f"run/{run.slug}"
    images = " and images" if run.folder else ""
    return {"page": f"{home}/index.html", f"Report{images}": f"{home}/report.html", "Record": f"{home}/record.json"}


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # A prompt may hold half a surrogate pair, which UTF-8 cannot.
    write_atomically(file, text.encode("utf-8", "replace"))
