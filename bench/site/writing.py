"""The pages of a site, written into a folder: they work from disk and from any web server, and load nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.errors import BenchError, UserError
from bench.records import PairRow, Results
from bench.records.submission import submission
from bench.report import headline, html, pages, sentences, trust
from bench.report.about import provenance
from bench.report.browsed import image_file
from bench.report.strip import strip
from bench.report.summary import summary_table
from bench.report.thumbnails import thumbnails
from bench.site.beside import beside
from bench.site.board import boards
from bench.site.sources import Shown, Sources
from bench.store import write_atomically

MARK = ".noisebench-site"
"""A file that says that a folder is a site of ours, which may be written over."""
THUMBS = 60_000
"""Characters of the thumbnails of one run in the list of runs."""
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
    told = {"title": title, "runs": [_card(run) for run in runs], "boards": tables, "faults": faults}
    _page(out / "index.html", "board.html.j2", root="", **told)
    _page(
        out / "compare.html", "beside.html.j2", root="", title="Two runs side by side", runs=runs, pairs=pairs,
        data=_json(beside(runs)),
    )  # fmt: skip
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
    report = home / "report.html"
    if run.folder is not None and report.is_file() and not report.is_symlink():
        shutil.copyfile(report, folder / "report.html")
    else:
        write_atomically(folder / "report.html", html.render(results, home).encode("utf-8", "replace"))
    copied = _copy_images(run, folder) if images else 0
    summary = summary_table(results)
    _page(
        folder / "index.html",
        "run.html.j2",
        root="../../",
        title=run.title,
        run=run,
        headline=headline(results),
        verdict=sentences(results),
        trust=trust(results),
        summary=summary if summary.rows else None,
        provenance=provenance(results),
        strip=_strip(results, home, run.folder is not None),
        images=copied,
    )


def _copy_images(run: Shown, folder: Path) -> int:
    """Copy what the report links to, under the same names; returns how many. Files of merged runs keep to their own."""
    if run.folder is None:
        return 0
    n = 0
    for pair in run.results.pairs:
        for method, name in pair.images.items():
            place = folder / name
            if run.results.runs[pair.runs[method]].path != "." or place.exists():
                continue
            file = image_file(run.results, pair, method, run.folder)
            if file is not None and file.is_file():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
                n += 1
    return n


def _strip(results: Results, home: Path, there: bool) -> dict[str, Any] | None:
    """A few prompts by every method, as thumbnails in the page."""
    found = strip(_seen(results, home)) if there else None
    if found is None:
        return None
    files = [image_file(results, row.pair, name, home) for row in found.rows for name in found.methods]
    made = iter(thumbnails(files, 4 * THUMBS))
    rows = [(row, [(name, next(made).source) for name in found.methods]) for row in found.rows]
    return {"methods": found.methods, "rows": rows, "rule": found.rule}


def _seen(results: Results, home: Path) -> Results:
    """The results with those pairs alone whose images are here: a report that was sent keeps some of them."""

    def there(pair: PairRow) -> bool:
        files = (image_file(results, pair, name, home) for name in pair.images)
        return all(file is not None and file.is_file() for file in files)

    return results.model_copy(update={"pairs": tuple(filter(there, results.pairs))})


def _card(run: Shown) -> dict[str, Any]:
    """A run in the list of runs."""
    results = run.results
    found = strip(_seen(results, run.folder)) if run.folder is not None else None
    thumbs: list[tuple[str, str]] = []
    if found is not None:
        row = found.rows[0]
        files = [image_file(results, row.pair, name, run.folder or run.place) for name in found.methods]
        sources = thumbnails(files, THUMBS)
        thumbs = [(name, one.source) for name, one in zip(found.methods, sources, strict=True) if one.source]
    return {
        "run": run,
        "headline": headline(results),
        "thumbs": thumbs,
        "prompt": found.rows[0].pair.prompt if found else "",
    }


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
        _page(out / place, "compared.html.j2", root="../", **comparison.page(found))
        yield a, b, place


# Pages ---------------------------------------------------------------------------------------------------------------


def _page(file: Path, template: str, **told: Any) -> None:
    scripts = [pages.script("page.js"), _script()]
    text = _templates().get_template(template).render(browser=None, scripts=scripts, **told)
    file.parent.mkdir(parents=True, exist_ok=True)
    # A prompt may hold half a surrogate pair, which UTF-8 cannot.
    write_atomically(file, text.encode("utf-8", "replace"))


def _json(data: Any) -> Any:
    """Data in a page: no text of it ends the element that it stands in."""
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


@cache
def _script() -> pages.Script:
    return pages.scripted((Path(__file__).parent / "templates" / "site.js").read_text(encoding="utf-8"))


@cache
def _templates() -> Any:
    return pages.environment("bench.site")
