"""The report as Markdown: GitHub's dialect, short enough to be read as a comment or a job's summary.

It has what the page's first screen has, in the same order, and below it a verdict a method, costs and provenance.
report.html and results.json have everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from bench.records import PairRow, Results
from bench.report.about import compared, provenance
from bench.report.breakdown import cost_table, mixed_table
from bench.report.paper import paper_table
from bench.report.strip import strip
from bench.report.strongest import headline
from bench.report.summary import summary_table
from bench.report.tables import Cell, Table
from bench.report.trust import brief, trust
from bench.report.verdict import sentences
from bench.report.words import MISSING

LIMIT = 65_000  # GitHub cuts a comment or a job summary's step at about this length
WORDS = 1_200
"""Of a whole report, less one."""
ROWS, LINES = 8, 8
"""Rows of a table and lines of a list to which a report that is too long is cut, before it is cut further."""
CLIPPED = 160
"""Characters of a prompt or a note."""

_SPECIAL = {ord(mark): f"\\{mark}" for mark in "\\|`*~#"} | {
    # Entities where a backslash would not stop GitHub: html, mentions and mathematics.
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord("&"): "&amp;",
    ord("@"): "&#64;",
    ord("$"): "&#36;",
}


def escape(text: Any) -> str:
    """Any text as one line of inert Markdown: no html, no link, no emphasis, no mention, no table cell's end."""
    # Marks that turn the direction of writing go too: they would reorder what stands around them.
    line = re.sub(r"[\s\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+", " ", str(text)).strip()
    line = line.translate(_SPECIAL)
    # Only what would act is escaped, so that intervals and method names stay readable in the source.
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)
    line = re.sub(r"\](?=[(\[:])", r"\\]", line)
    # GitHub links bare addresses by their scheme or by www.
    line = re.sub(r"(?i)\b(javascript|vbscript|data|mailto|xmpp|\w+(?=://)):", r"\1&#58;", line)
    return re.sub(r"(?i)\b(www)\.", r"\1&#46;", line)


def render(results: Results, *, figures: bool = False) -> str:
    """The report as Markdown, below WORDS words and LIMIT characters; `figures` says that figures/ lies beside it.

    Of a long report the fewer lines, metrics and rows are kept the longer it is, and what is left out is said.
    """
    text = ""
    for detail in _DETAILS:
        text = _document(results, detail, figures=figures)
        if len(text) < LIMIT and len(text.split()) < WORDS:
            return text
    words = list(re.finditer(r"\S+", text))[: WORDS - 20]
    end = min(words[-1].end(), LIMIT - 100)
    end = max(text.rfind("\n", 0, end), 0) or end
    notice = "(Cut here for length; report.html and results.json hold everything.)"
    return f"{text[:end]}\n\n{notice}\n"


class _Detail:
    """How much of each part a report has; None is all."""

    def __init__(self, *, metrics: int | None, rows: int | None, lines: int | None, parts: bool):
        self.metrics, self.rows, self.lines, self.parts = metrics, rows, lines, parts


_DETAILS = [
    _Detail(metrics=metrics, rows=rows, lines=lines, parts=parts)
    for metrics, rows, lines, parts in (
        (None, None, None, True),
        (None, None, LINES, True),
        (None, None, LINES, False),
        (None, None, LINES // 2, False),
        (4, None, LINES // 2, False),
        (4, None, LINES // 4, False),
        (2, None, LINES // 4, False),
        (2, 2 * ROWS, LINES // 2, False),
        (1, 2 * ROWS, LINES // 2, False),
        (1, ROWS, LINES // 4, False),
    )
]


def _document(results: Results, detail: _Detail, *, figures: bool) -> str:
    suite = results.suite
    first = brief(results)
    rest = [line for line in trust(results) if line not in first]
    parts = [
        f"# {escape(suite.title or suite.name)}",
        "\n\n".join(compared(results, escape=escape)),
        f"**{escape(headline(results))}**",
        bullets(_loud(first)),
        *_strip(results),
        *(["## Quality against cost", "![Quality against cost](figures/quality_cost.png)"] if figures else []),
        *_tables(results, detail),
        "## How far to trust this",
        bullets(_some(_loud(rest), detail.lines)),
        "## Verdict",
        bullets(_some(map(escape, sentences(results)), detail.lines)),
        *(["## Notes", bullets(_some(map(escape, results.notes), detail.lines))] if results.notes else []),
        "## Provenance",
        bullets(_some((f"{escape(name)}: {escape(value)}" for name, value in provenance(results)), detail.lines)),
        "Prompt sets, seeds, categories, all figures and image pairs: report.html; every number: results.json.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _loud(lines: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Alarms stand out."""
    return (f"**{escape(text)}**" if level == "alarm" else escape(text) for level, text in lines)


def _some(lines: Iterable[str], most: int | None) -> list[str]:
    """The first so many, and how many more there are."""
    given = list(lines)
    if most is None or len(given) <= most:
        return given
    return [*given[:most], f"{len(given) - most} more in report.html."]


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _tables(results: Results, detail: _Detail) -> Iterator[str]:
    """The one table of all sets, then where there is room the paper's numbers and the cost stage by stage."""
    equal = detail.metrics is None and detail.parts
    # Categories of a mixed metric come before its mean, which is no quantity of its own.
    whole = summary_table(results, metrics=detail.metrics, equal=equal)
    given = [mixed_table(results), whole]
    if detail.parts:
        paper = paper_table(results)
        given += [*([paper] if paper else []), cost_table(results)]
    for table in given:
        rows, notes = table.rows, table.notes
        if detail.rows is not None and len(rows) > detail.rows:
            rows, notes = rows[: detail.rows], [*notes, f"{len(rows) - detail.rows} more rows in report.html."]
        if detail.metrics is not None and table is whole and len(results.metrics) > detail.metrics:
            more = len(results.metrics) - detail.metrics
            notes = [*notes, f"{more} more metric{'s' * (more > 1)} in report.html."]
        yield from table_lines(_narrowed(replace(table, rows=rows, notes=notes)), folded=True)


def _narrowed(table: Table) -> Table:
    """A table without the labels that all of its rows share: the first lines of the report have said them."""
    kept = [
        place
        for place in range(len(table.headers))
        if place >= table.labels - 1 or len({row[place].text for row in table.rows}) > 1
    ]
    rows = [[row[place] for place in kept] for row in table.rows]
    labels = table.labels - (len(table.headers) - len(kept))
    return replace(table, headers=[table.headers[place] for place in kept], labels=labels, rows=rows)


def table_lines(table: Table, *, folded: bool) -> list[str]:
    if not table.rows:
        return []
    if table.folded and not folded:
        return [f"## {escape(table.title)}", f"{len(table.rows)} rows, left out here for length; see report.html."]
    rule = ["---"] * table.labels + ["---:"] * (len(table.headers) - table.labels)
    lines = [[escape(name) for name in table.headers], rule, *([_cell(cell) for cell in row] for row in table.rows)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"{escape(note)}  " for note in table.notes).rstrip()
    if table.folded:  # GitHub unfolds it on a click; html needs the empty lines around it
        body = f"<details><summary>{len(table.rows)} rows</summary>\n\n{body}\n\n{notes}\n\n</details>"
        return [f"## {escape(table.title)}", body]
    return [f"## {escape(table.title)}", body, notes]


def _cell(cell: Cell) -> str:
    text = f"**{escape(cell.text)}**" if cell.strong else escape(cell.text)
    below = ", ".join(part for part in (cell.sub, cell.p) if part)
    return f"{text}<br>{escape(below)}" if below else text


# Images --------------------------------------------------------------------------------------------------------------


def _strip(results: Results) -> list[str]:
    """Four prompts by method, each image by its path from the report."""
    found = strip(results)
    if found is None:
        return []
    lines: list[Sequence[str]] = [["prompt", *map(escape, found.methods)], ["---"] * (1 + len(found.methods))]
    for row in found.rows:
        said = "<br>".join(escape(part) for part in (row.why, _clipped(row.pair.prompt), row.change) if part)
        lines.append([said, *(_image(results, row.pair, name) for name in found.methods)])
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return ["## Four prompts", body, escape(found.rule)]


def _clipped(text: str) -> str:
    return text if len(text) <= CLIPPED else f"{text[: CLIPPED - 1]}…"


def _image(results: Results, pair: PairRow, name: str) -> str:
    path = image_path(results, pair, name)
    return f"![{escape(name)}]({path})" if path else MISSING


def safe_path(path: str | None) -> str:
    """A relative path inside the run folder as a quoted link; nothing for an address or a way out of the folder."""
    parts = str(path).replace("\\", "/").split("/")
    inside = bool(path) and ":" not in str(path) and ".." not in parts and parts[0] != ""
    return quote("/".join(parts)) if inside else ""


def image_path(results: Results, pair: PairRow, name: str) -> str:
    """A quoted link from the report to a method's image; nothing where the image or its run folder has no safe one."""
    path = safe_path(pair.images.get(name))
    folder = results.runs[pair.runs[name]].path if path else "."
    if not path or ":" in folder or "\\" in folder or folder.startswith("/"):
        return ""
    # A merged run's folder may lie beside this one, so `..` is right there, and only there.
    return path if folder == "." else f"{quote(folder)}/{path}"
