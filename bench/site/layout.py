"""The pages of a site as text: also what `bench serve` shows of runs as they are now."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bench.records import PairRow, Results
from bench.report import headline, pages
from bench.report.browsed import image_file
from bench.report.strip import strip
from bench.report.thumbnails import thumbnails
from bench.site.beside import beside
from bench.site.board import Board
from bench.site.sources import Shown

THUMBS = 60_000
"""Characters of the thumbnails of one run in the list of runs."""

Nav = Sequence[tuple[str, str]]
"""(address, words) of the links at a page's head."""
Links = Callable[[Shown], Mapping[str, str]]
"""Addresses of a run: `page`, and others by the words that they are shown with."""


def leaderboard(
    runs: Sequence[Shown], boards: Sequence[Board], faults: Sequence[str], *, title: str, nav: Nav, links: Links
) -> str:
    """The tables of what is comparable, and the list of runs."""
    cards = [_card(run) for run in runs]
    return page("board.html.j2", title=title, nav=nav, links=links, runs=cards, boards=boards, faults=faults)


def side_by_side(runs: Sequence[Shown], pairs: Sequence[tuple[Shown, Shown, str]], *, nav: Nav) -> str:
    """Any two runs beside each other; `pairs` are those that have a page of their own, and its address."""
    data = _json(beside(runs))
    return page("beside.html.j2", title="Two runs side by side", nav=nav, runs=runs, pairs=pairs, data=data)


def page(template: str, **context: Any) -> str:
    """A page of the site."""
    text: str = _templates().get_template(template).render(browser=None, scripts=scripts(), **context)
    return text


def scripts() -> list[pages.Script]:
    """The scripts of every page, with what a Content-Security-Policy says of them."""
    return [pages.script("page.js"), _script()]


def strip_of(results: Results, home: Path) -> dict[str, Any] | None:
    """A few prompts by every method as thumbnails in the page; `home` is the folder of the run or report."""
    found = strip(seen(results, home))
    if found is None:
        return None
    files = [image_file(results, row.pair, name, home) for row in found.rows for name in found.methods]
    made = iter(thumbnails(files, 4 * THUMBS))
    rows = [(row, [(name, next(made).source) for name in found.methods]) for row in found.rows]
    return {"methods": found.methods, "rows": rows, "rule": found.rule}


def seen(results: Results, home: Path) -> Results:
    """The results with those pairs alone whose images are here: a report that was sent keeps some of them."""

    def there(pair: PairRow) -> bool:
        files = (image_file(results, pair, name, home) for name in pair.images)
        return all(file is not None and file.is_file() for file in files)

    return results.model_copy(update={"pairs": tuple(filter(there, results.pairs))})


def _card(run: Shown) -> dict[str, Any]:
    """A run in the list of runs."""
    results = run.results
    found = strip(seen(results, run.folder)) if run.folder is not None else None
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
