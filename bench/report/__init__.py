"""Results as a report: one record in; report.md, report.html, report.tex and figures out.

`words` and `verdict` hold what all forms say in the same words: how a number is printed, when an effect counts as
shown, the verdict, and how far to trust it. `tables`, `breakdown` and `paper` lay the tables out, `panels` the
figures; `markdown`, `html` and `latex` render tables, `figures` and `plots` draw panels.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError, nearest
from bench.records import Results
from bench.report.strongest import headline
from bench.report.trust import trust
from bench.report.verdict import sentences
from bench.report.words import (
    ALPHA,
    MISSING,
    distinct,
    effect,
    finite,
    higher_is_better,
    interval,
    number,
    p_value,
    percent,
    places,
    pooled,
    prompts_name,
    setting,
    setting_key,
)

if TYPE_CHECKING:
    from bench.analysis.every_pair import EveryPair

__all__ = [
    "ALPHA", "FORMATS", "MISSING", "distinct", "effect", "finite", "headline",
    "higher_is_better", "interval", "number", "p_value", "percent", "places", "pooled", "prompts_name", "sentences",
    "setting", "setting_key", "trust", "write",
]  # fmt: skip

FORMATS = ("md", "html", "tex", "figures")
VARIABLE = "BENCH_REPORT"
"""The environment variable that says which of them every command writes where it is not asked for some."""


def write(
    found: Results, folder: Path, *, formats: Sequence[str] | None = None, every: EveryPair | None = None
) -> list[Path]:
    """Write report.md, report.html, report.tex and figures/ into `folder`; returns the files' paths.

    `every` are all pairs, where the results carry a part of them: report.html then has data files beside it
    (`paged`). Without it those of an earlier report of the same results stay in use, and others are removed.
    `formats` takes some of FORMATS; None takes those that the environment variable BENCH_REPORT names, such as
    `md,html`, or all that can be made here: figures need matplotlib, and without it one line on stderr says so. Each
    file is written whole or not at all. Raises UserError for an unknown format, and for figures that were asked for by
    name where matplotlib is missing.
    """
    # Imported here: matplotlib and jinja2 are only needed when a report is written.
    from bench.report import drawing, html, latex, markdown, paged, panels, plots
    from bench.store import write_atomically

    said = os.environ.get(VARIABLE)
    if formats is None and said:
        formats = [name.strip() for name in said.split(",")]
    else:
        said = None
    chosen = FORMATS if formats is None else tuple(formats)
    for name in chosen:
        if name not in FORMATS:
            where = f"{VARIABLE}={said}: " if said else ""
            raise UserError(f"{where}unknown report format {name!r}{nearest(name, FORMATS)}")
    figures = "figures" in chosen
    if figures and not drawing.available():
        if formats is not None:
            raise UserError(plots.MISSING_LIBRARY)
        print(f"note: {plots.MISSING_LIBRARY}", file=sys.stderr)
        figures = False
    folder.mkdir(parents=True, exist_ok=True)
    texts = {}
    if "md" in chosen:
        texts["report.md"] = markdown.render(found, figures=figures and bool(panels.cost_panels(found)))
    if "html" in chosen:
        pages = paged.beside(found, folder) if every is None else paged.write(found, every, folder)
        if pages is None:
            paged.remove(folder)
        texts["report.html"] = html.render(found, folder, paged=pages)
    if "tex" in chosen:
        texts["report.tex"] = latex.render(found)
    for name, text in texts.items():
        # A prompt may hold half a surrogate pair, which UTF-8 cannot.
        write_atomically(folder / name, text.encode("utf-8", "replace"))
    drawn = plots.write(found, folder / "figures") if figures else []
    return [*(folder / name for name in texts), *drawn]
