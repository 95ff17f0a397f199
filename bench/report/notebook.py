"""The report's summary as a piece of HTML for a notebook: the headline, what speaks against trust, quality and cost."""

from __future__ import annotations

from pathlib import Path

from bench.records import Results
from bench.report import headline, pages, trust
from bench.report.breakdown import cost_table
from bench.report.tables import metric_table


def summary(results: Results, report: Path) -> str:
    """HTML without a style sheet or a script; `report` is where the whole report is."""
    suite = results.suite
    text: str = (
        pages.environment()
        .get_template("notebook.html.j2")
        .render(
            title=suite.title or suite.name,
            headline=headline(results),
            alarms=[line for kind, line in trust(results) if kind != "fact"],
            quality=metric_table(results, detail=False),
            cost=cost_table(results),
            place=f"The whole report: {report}",
        )
    )
    return text
