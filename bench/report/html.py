"""The report as one self-contained page: no request leaves it, and no script runs in it but its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.records import Results
from bench.report import browser, figures, headline, pages, panels, trust
from bench.report.about import compared, provenance
from bench.report.breakdown import category_table, cost_table, mixed_table, seed_table
from bench.report.browsed import image_file
from bench.report.costed import STAGES
from bench.report.gated import gated
from bench.report.paged import Paged
from bench.report.paper import paper_table
from bench.report.strip import strip
from bench.report.strongest import leading
from bench.report.summary import summary_table
from bench.report.tables import Table, metric_table, several_sets
from bench.report.tasks import task_table
from bench.report.thumbnails import thumbnails
from bench.report.trust import brief
from bench.report.verdict import sentences
from bench.report.wins import strict_table, win_table
from bench.report.words import setting_key

PANELS = 12
"""Figures of one kind; a page with hundreds of them is read by few, and the tables have every number."""
STRIP_BUDGET = 400_000
"""Characters of the images on the first screen."""
SECTIONS = {
    "summary": "All sets", "mixed": "Mixed metric", "trust": "Trust", "verdict": "Verdict", "gated": "Gate",
    "quality": "By prompt set", "paper": "The paper", "wins": "Win rates", "scatters": "Quality and cost",
    "curves": "Steps", "tasks": "GenEval tasks", "cost": "Cost", "seeds": "Seeds", "categories": "Categories",
    "notes": "Notes", "provenance": "Provenance", "browser": "Images",
}  # fmt: skip
"""What the contents call each part; its place in the page is PLACES, or the name itself."""
PLACES = {"gated": "gate", "curves": "steps"}


def render(results: Results, folder: Path, *, paged: Paged | None = None) -> str:
    """The whole page; `folder` is where it will lie, from which the runs' images are found.

    `paged` are the files there that have all pairs of a large run.
    """
    suite, methods = results.suite, panels.methods(results)
    said, images = trust(results), browser.browser(results, folder, paged)
    parts: dict[str, Any] = {
        "verdict": sentences(results),
        "gated": gated(folder),
        "trust": said,
        "notes": results.notes,
        "provenance": provenance(results),
        "browser": images,
        **_tables(results),
        **_figures(results),
    }
    scripts = [*([images.script] if images else []), pages.script("page.js")]
    page: str = (
        pages.environment()
        .get_template("report.html.j2")
        .render(
            title=suite.title or suite.name,
            compared=compared(results),
            headline=headline(results),
            brief=brief(results),
            alarmed=any(level == "alarm" for level, _ in said),
            strip=_strip(results, folder),
            marks=list(zip(methods, map(_safe, figures.keys(list(methods.values()))), strict=True)),
            stages=list(zip(STAGES, map(_safe, figures.stage_keys()), strict=True)),
            contents=[(PLACES.get(name, name), title) for name, title in SECTIONS.items() if _there(parts[name])],
            scripts=scripts,
            **parts,
        )
    )
    return page


def _there(part: Any) -> bool:
    return bool(part["shown"] if isinstance(part, dict) else part)


def _tables(results: Results) -> dict[str, Table | None]:
    """By the template's names; None where a table has no row."""
    made = {
        "summary": summary_table(results),
        "mixed": mixed_table(results),
        "wins": win_table(results),
        "strict": strict_table(results),
        "tasks": task_table(results),
        "cost": cost_table(results),
        "seeds": seed_table(results),
        "categories": category_table(results),
    }
    by_set = metric_table(results) if several_sets(results.arms) else None
    rows = {name: table if table.rows else None for name, table in made.items()}
    return rows | {"quality": by_set, "paper": paper_table(results)}


def _figures(results: Results) -> dict[str, dict[str, Any]]:
    """By the template's names: drawings, and how many more there are."""
    stages, scatters = panels.stage_panels(results), panels.cost_panels(results)
    first = _first_scatter(results, scatters)
    return {
        "scatter": _drawn(first),
        "bars": _drawn(panels.win_panels(results)),
        "scatters": _drawn(scatters if len(scatters) > 1 else []),
        "curves": _drawn(panels.step_panels(results)),
        "splits": _drawn(stages),
        "memory": _drawn(panels.memory_panels(stages)),
    }


def _first_scatter(results: Results, given: Sequence[panels.CostPanel]) -> list[panels.CostPanel]:
    """Quality against cost by the headline's metric, in the setting of the method that it names."""
    first = leading(results)
    if first is None:
        return list(given[:1])
    shown = [panel for panel in given if panel.metric == first.metric]
    mine = [panel for panel in shown if panel.head == (setting_key(first), first.prompts)]
    return [*mine, *shown, *given][:1]


def _drawn(given: Sequence[panels.Panel]) -> dict[str, Any]:
    """The first PANELS drawings, and how many there are beyond them."""
    shown = given[:PANELS]
    alone = figures.drawn(shown, wide=True) if len(shown) == 1 else []
    return {"shown": [*map(_safe, alone), *map(_safe, figures.drawn(shown))], "more": len(given) - len(shown)}


def _safe(svg: str) -> Any:
    """Our own drawing, whose texts `figures` has escaped."""
    from markupsafe import Markup

    return Markup(svg)


def _strip(results: Results, folder: Path) -> dict[str, Any] | None:
    """The strip as the template lays it out, with its images as data URIs."""
    found = strip(results)
    if found is None:
        return None
    files = [image_file(results, row.pair, name, folder) for row in found.rows for name in found.methods]
    images: Iterator[Any] = iter(thumbnails(files, STRIP_BUDGET))
    rows = []
    for row in found.rows:
        shown = [(name, next(images)) for name in found.methods]
        cells = [{"method": name, "source": one.source, "small": 0 < one.width <= 128} for name, one in shown]
        pair = row.pair
        key = "/".join(
            quote(str(part), safe="", errors="replace") for part in (pair.setting, pair.prompts, pair.index, pair.seed)
        )
        rows.append({"why": row.why, "change": row.change, "prompt": pair.prompt, "key": key, "cells": cells})
    return {"methods": found.methods, "rows": rows, "rule": found.rule}
