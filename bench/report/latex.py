"""The report's tables as LaTeX in booktabs form, to be read with \\input; texts of others are inert in it."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from bench.records import Results
from bench.report.breakdown import category_table, cost_table, mixed_table, seed_table
from bench.report.paper import paper_table
from bench.report.tables import Cell, Table, metric_table
from bench.report.tasks import task_table
from bench.report.wins import strict_table, win_table
from bench.report.words import distinct

PACKAGES = ("booktabs", "amssymb", "graphicx")
"""What a document needs for these tables: rules, the triangles, and scaling to the page's width."""

_COMMANDS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # Languages of babel make the one active, and ?` is another character.
    '"': r"\char34{}",
    "`": r"\textasciigrave{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "−": r"$-$",
    "▲": r"$\blacktriangle$",
    "▼": r"$\blacktriangledown$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "≠": r"$\neq$",
    "∞": r"$\infty$",
    "…": r"\ldots{}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "•": r"\textbullet{}",
    "°": r"\textdegree{}",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "δ": r"$\delta$",
    "Δ": r"$\Delta$",
    "ε": r"$\varepsilon$",
    "η": r"$\eta$",
    "λ": r"$\lambda$",
    "σ": r"$\sigma$",
    "ω": r"$\omega$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def escape(text: Any) -> str:
    """Any text as one line of inert LaTeX in ASCII: no command, no mathematics, no cell's or row's end.

    A character that pdflatex would stop at is written as its code point, such as U+4E2D.
    """
    line = re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", str(text)).strip()
    line = re.sub(r"(?<![\w-])-(?=\d)", "−", line)  # a number's sign is a minus
    inert = "".join(map(_character, line))
    # Two hyphens would become a dash; a bracket or a star at the start of a row would be an argument of the row's end.
    inert = re.sub(r"-(?=-)", "-{}", inert)
    return f"{{{inert[0]}}}{inert[1:]}" if inert[:1] in ("[", "*") else inert


def _character(character: str) -> str:
    if character in _COMMANDS:
        return _COMMANDS[character]
    if character.isascii():
        return character
    parts = unicodedata.normalize("NFD", character)
    base, marks = parts[0], parts[1:]
    if marks in _ACCENTS and base.isascii() and base.isalpha():
        # Under an accent, i and j lose their dot.
        letter = {"i": r"\i", "j": r"\j"}.get(base, base) if marks != "\u0327" else base
        return f"\\{_ACCENTS[marks]}{{{letter}}}"
    plain = unicodedata.normalize("NFKC", character)
    if plain.isascii() and plain not in ("", character):
        return "".join(map(_character, plain))
    return f"U+{ord(character):04X}"


def render(results: Results) -> str:
    """All tables, each a `table` environment of its own."""
    paper = paper_table(results)
    tables = [
        mixed_table(results),
        metric_table(results, equal=False),
        *([paper] if paper else []),
        win_table(results),
        strict_table(results),
        task_table(results),
        cost_table(results),
        seed_table(results),
        category_table(results),
    ]
    suite = results.suite
    made = "; ".join(run.folder for run in results.runs)
    head = [
        f"% {escape(suite.title or suite.name)}",
        f"% suite {escape(suite.name)} ({escape(suite.id)}), from {escape(made)}",
        f"% Needs {' '.join(f'{chr(92)}usepackage{{{name}}}' for name in PACKAGES)}; take it in with {chr(92)}input.",
    ]
    shown = [_table(table) for table in tables if table.rows]
    if not shown:
        head.append("% Nothing was measured: there is no table.")
    return "\n".join([*head, *(f"\n{text}" for text in shown)]) + "\n"


def _table(table: Table) -> str:
    columns = "l" * table.labels + "r" * (len(table.headers) - table.labels)
    lines = [
        r"\begin{table}[tbp]",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        # A wide table is made as small as the page asks for, a narrow one stays as it is.
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        f"{' & '.join(map(escape, table.headers))} \\\\",
        r"\midrule",
    ]
    for place, row in enumerate(table.rows):
        before = table.rows[place - 1] if place else None
        same = _same(row, before, table.labels)
        if before is not None and not same:
            lines.append(r"\addlinespace")
        lines.append(f"{' & '.join('' if index < same else _cell(cell) for index, cell in enumerate(row))} \\\\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.notes:
        notes = r"\\ ".join(f"{{}}{escape(note)}" for note in distinct(table.notes))
        lines.append(rf"\par\smallskip\parbox{{\linewidth}}{{\raggedright\scriptsize {notes}}}")
    return "\n".join([*lines, r"\end{table}"])


def _same(row: list[Cell], before: list[Cell] | None, labels: int) -> int:
    """How many of the first labels repeat the row above; the last one, the method, is always said."""
    if before is None:
        return 0
    return next((index for index in range(labels - 1) if row[index].text != before[index].text), labels - 1)


def _cell(cell: Cell) -> str:
    text = rf"\textbf{{{escape(cell.text)}}}" if cell.strong else escape(cell.text)
    below = ", ".join(part for part in (cell.sub, cell.p) if part)
    if not below:
        return text
    # The braces keep an interval's bracket from being read as the argument of the line's end.
    return rf"\shortstack[r]{{{text}\\{{\scriptsize {escape(below)}}}}}"
