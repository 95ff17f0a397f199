"""The report as one self-contained page: no request leaves it, and no script runs in it but the image browser's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.records import Results
from bench.report import browser, figures, headline, pages, panels, trust
from bench.report.about import compared, provenance
from bench.report.breakdown import category_table, cost_table, mixed_table, seed_table
from bench.report.costed import STAGES
from bench.report.gated import gated
from bench.report.paper import paper_table
from bench.report.tables import Table, metric_table, task_table
from bench.report.verdict import sentences
from bench.report.wins import strict_table, win_table

PANELS = 12
"""Figures of one kind; a page with hundreds of them is read by nobody, and the tables have every number."""


def render(results: Results, folder: Path) -> str:
    """The whole page; `folder` is where it will lie, from which the runs' images are found."""
    suite = results.suite
    steps = panels.step_panels(results)
    stages, methods = panels.stage_panels(results), panels.methods(results)
    page: str = (
        pages.environment()
        .get_template("template.html.j2")
        .render(
            title=suite.title or suite.name,
            compared=compared(results),
            headline=headline(results),
            verdict=sentences(results),
            gated=gated(folder),
            trust=trust(results),
            mixed=_filled(mixed_table(results)),
            quality=_filled(metric_table(results)),
            paper=paper_table(results),
            wins=_filled(win_table(results)),
            strict=_filled(strict_table(results)),
            tasks=_filled(task_table(results)),
            cost=_filled(cost_table(results)),
            seeds=_filled(seed_table(results)),
            categories=_filled(category_table(results)),
            bars=_drawn(panels.win_panels(results)),
            scatters=_drawn(panels.cost_panels(results)),
            curves=_drawn(steps),
            splits=_drawn(stages),
            memory=_drawn(panels.memory_panels(stages)),
            legend=list(zip(methods, map(_safe, figures.keys(list(methods.values()))), strict=True)),
            stages=list(zip(STAGES, map(_safe, figures.stage_keys()), strict=True)),
            browser=browser.browser(results, folder),
            notes=results.notes,
            provenance=provenance(results),
        )
    )
    return page


def _filled(table: Table) -> Table | None:
    return table if table.rows else None


def _drawn(given: Sequence[panels.Panel]) -> dict[str, Any]:
    """The first PANELS drawings, and how many there are beyond them."""
    shown = given[:PANELS]
    alone = figures.drawn(shown, wide=True) if len(shown) == 1 else []
    return {"shown": [*map(_safe, alone), *map(_safe, figures.drawn(shown))], "more": len(given) - len(shown)}


def _safe(svg: str) -> Any:
    """Our own drawing, whose texts `figures` has escaped."""
    from markupsafe import Markup

    return Markup(svg)
