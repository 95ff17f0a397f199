"""The report as Markdown: GitHub's dialect, short enough for a comment or a job's summary."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from bench.records import PairRow, Results
from bench.report.about import compared, provenance
from bench.report.breakdown import category_table, cost_table, mixed_table, seed_table
from bench.report.paper import paper_table
from bench.report.strongest import headline
from bench.report.tables import Cell, Table, metric_table, task_table
from bench.report.trust import trust
from bench.report.verdict import sentences
from bench.report.wins import strict_table, win_table
from bench.report.words import MISSING, distinct, number, places, setting

LIMIT = 65_000  # GitHub cuts a comment or a job summary's step at about this length
PAIRS_SHOWN = 12

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


def render(results: Results) -> str:
    """The whole report as Markdown; long ones lose folded tables first, then single prompt sets, then their end."""
    text = ""
    for folded, detail in ((True, True), (False, True), (False, False)):
        text = _document(results, folded=folded, detail=detail)
        if len(text) < LIMIT:
            return text
    notice = "\n\n(Cut here for length; report.html and results.json hold everything.)\n"
    return text[: text.rfind("\n", 0, LIMIT - len(notice) - 1)] + notice


def _document(results: Results, *, folded: bool, detail: bool) -> str:
    suite = results.suite
    items = [(f"**{text}**" if level == "alarm" else text) for level, text in
             ((level, escape(text)) for level, text in trust(results))]  # fmt: skip
    paper = paper_table(results)
    tables = [
        mixed_table(results),
        metric_table(results, detail=detail),
        *([paper] if paper else []),
        win_table(results, detail=detail),
        strict_table(results, detail=detail),
        task_table(results),
        cost_table(results),
        seed_table(results),
        category_table(results),
    ]
    parts = [
        f"# {escape(suite.title or suite.name)}",
        "\n\n".join(compared(results, escape=escape)),
        "## Verdict",
        f"**{escape(headline(results))}**",
        bullets(map(escape, sentences(results))),
        "## How far to trust this",
        bullets(items),
        *(part for table in tables for part in table_lines(table, folded=folded)),
        *_pairs(results),
        *(["## Notes", bullets(map(escape, results.notes))] if results.notes else []),
        "## Provenance",
        bullets(f"{escape(name)}: {escape(value)}" for name, value in provenance(results)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


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
    return f"{text}<br>{escape(cell.sub)}" if cell.sub else text


def safe_path(path: str | None) -> str:
    """A relative path inside the run folder as a quoted link; nothing for an address or a way out of the folder."""
    parts = str(path).replace("\\", "/").split("/")
    inside = bool(path) and ":" not in str(path) and ".." not in parts and parts[0] != ""
    return quote("/".join(parts)) if inside else ""


def _pairs(results: Results) -> list[str]:
    given = results.pairs
    pairs = [given[index] for index in _evenly(len(given), PAIRS_SHOWN)]
    methods = distinct(name for pair in pairs for name in pair.images)
    if not pairs:
        return []
    extra = ["setting"] if len({pair.setting for pair in pairs}) > 1 else []
    lines = [["prompt", "set", *extra, "seed", *map(escape, methods)], ["---"] * (3 + len(extra) + len(methods))]
    for pair in pairs:
        place = results.settings[pair.setting]
        where = [escape(f"{place.model}, {setting(place)}")] if extra else []
        links = [_link(results, pair, name) for name in methods]
        lines.append([escape(pair.prompt), escape(pair.prompts), *where, escape(pair.seed), *links])
    more = max(len(given), results.pairs_total) - len(pairs)
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = f"Evenly spaced over all pairs, not picked by looking; {more:,} more in report.html." if more else ""
    return ["## Image pairs", body, notes]


def _evenly(total: int, wanted: int) -> list[int]:
    """Up to `wanted` places of `total`, first and last among them."""
    if total <= wanted:
        return list(range(total))
    return [round(place * (total - 1) / (wanted - 1)) for place in range(wanted)]


def _link(results: Results, pair: PairRow, name: str) -> str:
    scores = pair.scores.get(name, {})
    text = ", ".join(f"{metric} {number(value, places(results, metric))}" for metric, value in scores.items())
    path = image_path(results, pair, name)
    return f"{f'[image]({path})' if path else MISSING}<br>{escape(text)}"


def image_path(results: Results, pair: PairRow, name: str) -> str:
    """A quoted link from the report to a method's image; nothing where the image or its run folder has no safe one."""
    path = safe_path(pair.images.get(name))
    folder = results.runs[pair.runs[name]].path if path else "."
    if not path or ":" in folder or "\\" in folder or folder.startswith("/"):
        return ""
    # A merged run's folder may lie beside this one, so `..` is right there, and only there.
    return path if folder == "." else f"{quote(folder)}/{path}"
