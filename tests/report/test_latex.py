"""Tables as LaTeX: golden text; texts of others inert; compiled where there is a LaTeX."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import latex

from .samples import of, spoil

HOSTILE = r"\input{/etc/passwd} $\def\x{}$ a & b \\ [2pt] # % ^^41 ~ {\write18{ls}} `` -- _x_ \end{document} 中 é ▲ †"
GOLDEN = r"""% Small
% suite small (ab12), from runs/small
% Needs \usepackage{booktabs} \usepackage{amssymb} \usepackage{graphicx}; take it in with \input.

\begin{table}[tbp]
\centering
\caption{Quality}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%
\begin{tabular}{@{}lllr@{}}
\toprule
model & prompts & method & Preference (logit) \\
\midrule
shapes-sdxl & all sets & standard & \shortstack[r]{1.284\\{\scriptsize {[}1.220, 1.348]}} \\
 &  & inversion & \shortstack[r]{1.296\\{\scriptsize +0.012 [$-$0.004, +0.028], p = 0.14}} \\
 &  & npnet & \shortstack[r]{\textbf{1.384}\\{\scriptsize +0.100 [+0.084, +0.116] $\blacktriangle$, p \textless{} 0.001}} \\
\bottomrule
\end{tabular}}
"""  # noqa: E501


def test_golden_table(small: dict[str, Any]) -> None:
    assert latex.render(of(small)).startswith(GOLDEN)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b & c", r"a\_b \& c"),
        ("50 % of $5", r"50 \% of \$5"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("^^41~#", r"\textasciicircum{}\textasciicircum{}41\textasciitilde{}\#"),
        ("<b>|", r"\textless{}b\textgreater{}\textbar{}"),
        ("-0.5 to -0.1", "$-$0.5 to $-$0.1"),
        ("shapes-1 --twin", "shapes-1 -{}-twin"),
        ("[a] *", "{[}a] *"),
        ("*a", "{*}a"),
        ("`x`", r"\textasciigrave{}x\textasciigrave{}"),
        ("† × ▲ ▼ ↓ →", r"\dag{} $\times$ $\blacktriangle$ $\blacktriangledown$ $\downarrow$ $\rightarrow$"),
        ("naïve Å ñ ç ß", r"na\"{\i}ve \r{A} \~{n} \c{c} \ss{}"),
        ("中\u202e😀", "U+4E2DU+202EU+1F600"),
        ("a\n\n\\par\tb\x00", r"a \textbackslash{}par b"),
        ("ﬁ ½", "fi U+00BD"),
    ],
)
def test_escape(text: str, escaped: str) -> None:
    assert latex.escape(text) == escaped


@given(st.text())
def test_no_text_can_act(text: str) -> None:
    """What is left behind known commands, escaped marks and empty groups has no active character."""
    written = latex.escape(text)
    assert written.isascii()
    assert "\n" not in written
    rest = re.sub(r"\\text[a-z]+\{(?:2|3)?\}|\\[a-zA-Z]+\{\}|\\char34\{\}|\\[{}$&#%_]", "", written)
    rest = re.sub(r"\$(?:-|\\[a-zA-Z]+)\$", "", rest)
    rest = re.sub(r"\\[`'^~=u.\"rHvc]\{(?:[a-zA-Z]|\\i|\\j)\}", "", rest)
    rest = re.sub(r"\{[\[*]?\}", "", rest)
    assert not re.search(r"[\\{}$&#%_^~]", rest)
    assert not written.startswith(("[", "*"))


def rows(text: str) -> list[tuple[str, int]]:
    """(column specification, cells in a row) of every row of every table."""
    found = []
    for spec, body in re.findall(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}\n(.*?)\\end\{tabular\}", text, re.DOTALL):
        found += [(spec, len(re.findall(r"(?<!\\)&", row)) + 1) for row in body.splitlines() if row.endswith(r" \\")]
    return found


def test_every_row_has_every_cell(example: dict[str, Any]) -> None:
    for document in (example, spoil(example)):
        found = rows(latex.render(of(document)))
        assert len(found) > 40
        assert all(len(spec) == cells for spec, cells in found)


def test_hostile_names_stay_in_their_cells(example: dict[str, Any]) -> None:
    spoilt = spoil(example)
    for row in [*spoilt["arms"], *spoilt["comparisons"], *spoilt["tasks"]]:
        row["model"] = HOSTILE
    text = latex.render(of(spoilt))
    assert r"\input{/etc" not in text
    assert r"\write18" not in text
    assert r"\end{document}" not in text
    assert all(line.startswith("% ") for line in text.splitlines()[:3]), "the head is comments only"
    assert text.splitlines()[3] == ""


def test_nothing_measured_gives_no_table(small: dict[str, Any]) -> None:
    small |= {"arms": [], "comparisons": [], "metrics": {}}
    text = latex.render(of(small))
    assert text.endswith("% Nothing was measured: there is no table.\n")
    assert all(line.startswith("%") for line in text.splitlines())


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs, amssymb and graphicx")
def test_pdflatex_takes_it(example: dict[str, Any], tmp_path: Path) -> None:
    spoilt = spoil(example)
    for row in [*spoilt["arms"], *spoilt["comparisons"], *spoilt["tasks"]]:
        row["model"] = HOSTILE
    (tmp_path / "report.tex").write_text(latex.render(of(spoilt)))
    packages = "".join(rf"\usepackage{{{name}}}" for name in latex.PACKAGES)
    body = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{report}}\end{{document}}"
    (tmp_path / "document.tex").write_text(body)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "document.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
