"""The image browser of report.html: what its page, its script and its static fallback are given.

`browser` turns the pairs of results.json into one JSON block, with as many thumbnails as the page's budget holds. The
page's own parts lie beside this file: browser.html.j2, browser.css, and the scripts browser.js (the list),
browser.filters.js (which pairs it has), browser.paged.js (pairs of files beside the page), browser.pair.js (one pair),
browser.views.js (one image) and browser.blind.js (blind A/B votes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from bench.records import PairRow, Results
from bench.report.browsed import About, Line, about, lines
from bench.report.paged import PAGE, Paged
from bench.report.pages import Script, inert, scripted
from bench.report.thumbnails import changes_of, thumbnails
from bench.report.words import number

BUDGET = 4_300_000
"""Characters of the browser's data with its thumbnails; the rest of 5 MB is for the tables and figures around it."""

STATIC = 12
"""Pairs that are shown without a script, and in print."""

WINDOW = PAGE
"""Pairs that the list holds at a time; as in browser.js."""

SCRIPTS = (
    "browser.js",
    "browser.filters.js",
    "browser.paged.js",
    "browser.views.js",
    "browser.pair.js",
    "browser.blind.js",
)


@dataclass(frozen=True)
class Browser:
    """What browser.html.j2 and the page's head need; all but `about` and `static` is safe to set as it is."""

    style: Any
    script: Script
    data: Any
    about: About
    options: dict[str, list[tuple[int, str]]]
    window: int
    static: list[dict[str, Any]]
    in_page: int
    """Pairs in the page."""
    paged: Paged | None


class Embedded(NamedTuple):
    """One image file as browser.js reads it."""

    run: int
    name: str
    """In its run's folder; empty where the file is no image."""
    source: str
    """A data URI; empty where the page's budget was spent."""
    width: int
    """Of the file, in pixels; 0 where it was not opened."""


def browser(results: Results, folder: Path, paged: Paged | None = None) -> Browser | None:
    """The browser of a report that is written into `folder`; None where there are no pairs.

    `paged` are the files beside the page that have all pairs, where results carry a part of them.
    Image files are looked for in the run folders that `results.runs` names, relative to `folder`, and are read only
    where they lie inside them.
    """
    from markupsafe import Markup

    if not results.pairs:
        return None
    known = about(results)
    pictures, rows = lines(results, known, folder)
    bare = {"pairs": rows, "images": [Embedded(picture.run, picture.name, "", 0) for picture in pictures]}
    # How far each picture changed is five characters and a comma.
    text = len(inert(known.as_json() | bare)) + 6 * len(rows) * len(known.methods)
    # The first pairs stand a second time in the page: in <noscript>.
    shown = {index for row in rows[:STATIC] for index in row.images if index >= 0}
    found = thumbnails([picture.file for picture in pictures], max(0, BUDGET - text), twice=shown)
    images = [
        Embedded(picture.run, picture.name if thumb.readable else "", thumb.source, thumb.width)
        for picture, thumb in zip(pictures, found, strict=True)
    ]
    rows = [row._replace(changes=list(changes_of(row.images, found))) for row in rows]
    style, script = _parts()
    return Browser(
        style=Markup(style),
        script=scripted(script),
        data=Markup(inert(known.as_json() | {"images": images, "pairs": rows, "paged": paged and asdict(paged)})),
        about=known,
        options=_options(known),
        window=WINDOW,
        static=[_static(pair, row, known, images) for pair, row in zip(results.pairs, rows[:STATIC], strict=False)],
        in_page=len(rows),
        paged=paged,
    )


@cache
def _parts() -> tuple[str, str]:
    """(style, script): one strict scope for all scripts, so that nothing of theirs is global."""
    here = Path(__file__).parent
    style = (here / "browser.css").read_text(encoding="utf-8")
    scripts = "\n".join((here / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return style, f'(() => {{\n"use strict";\n{scripts}\n}})();'


def _options(about: About) -> dict[str, list[tuple[int, str]]]:
    """(number, name) of everything that the controls offer; the baseline is no choice of method."""
    metrics = [metric.title + (" (lower is better)" if metric.sign < 0 else "") for metric in about.metrics]
    return {
        "sets": list(enumerate(about.sets)),
        "categories": [(i, name or "(none)") for i, name in enumerate(about.categories)],
        "settings": [(i, setting.label) for i, setting in enumerate(about.settings)],
        "metrics": list(enumerate(metrics)),
        "methods": list(enumerate(about.methods))[1:],
    }


# Without a script ----------------------------------------------------------------------------------------------------


def _static(pair: PairRow, line: Line, about: About, images: list[Embedded]) -> dict[str, Any]:
    """A pair as browser.html.j2 lays it out where no script runs."""
    base = pair.scores.get(about.methods[0], {})
    cards = []
    for method, image in zip(about.methods, line.images, strict=True):
        if method not in pair.images:
            continue
        shown = images[image] if image >= 0 else Embedded(0, "", "", 0)
        link = about.roots[shown.run] + quote(shown.name, errors="replace") if shown.name else ""
        scores = list(_static_scores(pair.scores.get(method, {}), base, about, method))
        cards.append({"method": method, "link": link, "source": shown.source or link, "scores": scores})
    return {"prompt": pair.prompt, "set": pair.prompts, "index": pair.index, "seed": pair.seed, "cards": cards}


def _static_scores(
    scores: Mapping[str, float], base: Mapping[str, float], about: About, method: str
) -> Iterator[tuple[str, str, str]]:
    """(metric's title, score, delta) for one image; the baseline's own image has no delta."""
    for metric in about.metrics:
        score, reference = scores.get(metric.name), base.get(metric.name)
        if score is None:
            continue
        known = method != about.methods[0] and reference is not None
        delta = number(score - (reference or 0.0), metric.digits, sign=True) if known else ""
        yield metric.title, number(score, metric.digits), delta
