"""Tables of README.md and docs/ made from committed data, and every interval in their sentences looked up there.

    python docs/figures.py            say what does not agree; exit code 1
    python docs/figures.py --write    write the tables again, then check the sentences

A table stands below a comment that names its data and its columns, and ends at the first empty line:

    <!-- table: reports/NAME/results.json: calls, shapes-geneval 3, shapes-mps %, equal shapes-geneval, ms -->
    <!-- table: reports/NAME/results.json [standard, inversion]: calls, ms -->
    <!-- table: reports/NAME/trainings.csv -->
    <!-- facts: METHOD -->

Names in brackets are the only rows. A table of facts has what the registry says of a method, its head included. The
rows of a CSV stand there as they are, below its head. `METRIC n` is the delta to n decimals (of the first row, the
mean), `METRIC %` the win rate, `equal METRIC` the delta to the plain arm with as many denoiser calls. Its two lines of
head are written by hand. In sentences each `0.1 [0.0, 0.2]` must be of a committed results.json or CSV, or of a card of
the embedded weights. The files in reports/measured hold what the command beside a table printed, and those in
reports/history what commands printed whose runs were not kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bench import records, registry
from bench.report import words

ROOT = Path(__file__).parents[1]
TEXTS = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            "gate",
            "how-many",
            "methods",
            "models",
            "npnet",
            "npnet-history",
            "reading",
            "shapes",
            "statistics",
        )
    ),
    *sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs" / "methods").glob("*.md")),
)
DATA = ("reports/*/results.json", "bench/shapes/weights/*/card.json")
TABLES = "reports/*/*.csv"
TABLE = re.compile(
    r"<!-- table: (?P<data>\S+?)(?: \[(?P<only>[^\]]+)\])?(?:: (?P<columns>.+?))? -->\n"
    r"(?P<head>(?:\|.*\n){2})(?P<rows>(?:\|.*\n)*)"
)
FACTS = re.compile(r"<!-- facts: (?P<method>\w+) -->\n(?P<rows>(?:\|.*\n)*)")
FIGURE = re.compile(r"(?P<value>[-+]?\d+\.\d+)(?: %)?\s\[(?P<low>[-+]?\d+\.\d+),\s(?P<high>[-+]?\d+\.\d+)\]")
ALL = "*"


class Row(dict[str, Any]):
    """A row of results whose names are attributes too, as `words` reads them."""

    __getattr__ = dict.__getitem__


def pooled(rows: list[Row], method: str, metric: str | None = None) -> Row | None:
    """The one row of a method, over all prompt sets where there are several."""
    found = [r for r in rows if r["method"] == method and (metric is None or r.get("metric") == metric)]
    return next((r for r in found if r["prompts"] == ALL), found[0] if found else None)


def signed(row: Row, places: int) -> str:
    """`+0.010 [-0.040, +0.060]`."""
    value, low, high = (f"{round(row[k], places) + 0.0:+.{places}f}" for k in ("delta", "low", "high"))
    return f"{value} [{low}, {high}]"


def cell(results: Row, arm: Row, column: str) -> str:
    """What stands in one column of an arm's row."""
    if column == "calls":
        return f"{arm['cost']['calls_total']:.4g}"
    if column == "ms":
        return f"{arm['cost']['total_ms']:.0f}"
    if column.startswith("equal "):
        return equal(results, arm, column.split()[1])
    metric, form = column.split()
    row = pooled(results["comparisons"], arm["method"], metric)
    if row is None:
        pair = words.kind(results, metric) == "pair"
        return "n/a" if pair else f"{arm['metrics'][metric]['mean']:.{form}f}"
    text = words.percent(row["win_rate"], row["win_low"], row["win_high"]) if form == "%" else signed(row, int(form))
    shown = words.effect(results, row) in ("better", "worse") and not row.get("marked")
    return (f"**{text}**" if shown else text) + words.mark(row)


def equal(results: Row, arm: Row, metric: str) -> str:
    """The delta to the plain arm with as many calls, or which steps to add where there is none."""
    row = pooled(results["equal_compute"], arm["method"])
    if row is None:
        return "n/a"
    if not row["reference"]:
        return f"none; add {row['add_steps']} steps"
    found, other = row["metrics"][metric], row["reference"]
    return f"{other['method']} ({other['calls']:.4g}): {signed(found, 3)}{words.mark(found)}"


@cache
def read(data: Path) -> Row:
    """A results.json as rows; many tables are of the same one."""
    found: Row = json.loads(records.read(data).text(), object_hook=Row)
    return found


def rows(data: Path, columns: list[str], only: list[str]) -> str:
    """The lines of a table, one a method: of all, or of `only` those."""
    results = read(data)
    names = words.distinct(arm["method"] for arm in results["arms"])
    if unknown := set(only) - set(names):
        raise SystemExit(f"{data}: no arm {', '.join(sorted(unknown))}")
    lines = []
    for name in only or names:
        arm = pooled(results["arms"], name)
        assert arm is not None
        said = name if arm["is_baseline"] else f"`{name}`"
        lines.append(f"| {' | '.join([said, *(cell(results, arm, c) for c in columns)])} |\n")
    return "".join(lines)


def copied(data: Path) -> str:
    """The lines of a CSV below its head, as those of a table."""
    with data.open(newline="") as file:
        return "".join(f"| {' | '.join(row)} |\n" for row in list(csv.reader(file))[1:])


def facts(name: str) -> str:
    """The lines of a table of what a method says of itself."""
    method = registry.get("methods", name)
    fields = (f"`{n}`: {'required' if f.is_required() else repr(f.default)}" for n, f in method.model_fields.items())
    said = {
        "in one line": method.about,
        "defined by": method.source or "this project",
        "cost": method.cost,
        "needs": ", ".join(sorted(method.needs)) or "nothing of the model or sampler",
        "parameters": ", ".join(fields) or "none",
    }
    lines = (f"| {label} | {text.replace('|', chr(92) + '|')} |\n" for label, text in said.items())
    return "| | |\n|---|---|\n" + "".join(lines)


def written(text: str) -> str:
    """The text with its tables made again."""
    text = FACTS.sub(lambda found: f"<!-- facts: {found['method']} -->\n{facts(found['method'])}", text)
    for found in reversed(list(TABLE.finditer(text))):
        data = ROOT / found["data"]
        only = found["only"].split(", ") if found["only"] else []
        made = rows(data, found["columns"].split(", "), only) if found["columns"] else copied(data)
        text = text[: found.start("rows")] + made + text[found.end("rows") :]
    return text


def numbers(data: Any) -> Iterator[tuple[float, float, float]]:
    """Every value that has an interval, of a results.json or a card, where it is a list of value, low and high."""
    if isinstance(data, list) and len(data) == 3 and all(isinstance(x, float) for x in data):
        yield tuple(data)  # type: ignore[misc]
    elif isinstance(data, list):
        for one in data:
            yield from numbers(one)
    elif isinstance(data, dict):
        for value, low, high in (
            ("delta", "low", "high"),
            ("mean", "low", "high"),
            ("ratio", "low", "high"),
            ("win_rate", "win_low", "win_high"),
        ):
            found = [words.finite(data.get(k)) for k in (value, low, high)]
            if None not in found:
                yield tuple(found)  # type: ignore[misc]
                yield tuple(100 * x for x in found)  # type: ignore[misc,operator]
        for one in data.values():
            yield from numbers(one)


Rounded = dict[int, set[tuple[float, ...]]]
"""Data by the number of places that they are rounded to; filled as texts ask for it."""


def unknown(text: str, known: set[tuple[float, float, float]], printed: set[str], rounded: Rounded) -> list[str]:
    """The figures of the text that are neither data rounded to the same places nor printed in a CSV."""
    lost = []
    for found in FIGURE.finditer(text):
        places = len(found["low"].split(".")[1])
        if places not in rounded:
            rounded[places] = {tuple(round(x, places) + 0.0 for x in one) for one in known}
        if tuple(float(found[k]) for k in ("value", "low", "high")) in rounded[places]:
            continue
        if bare(found[0]) not in printed:
            lost.append(" ".join(found[0].split()))
    return lost


def bare(figure: str) -> str:
    """A figure without plus signs and line ends."""
    return " ".join(figure.replace("+", "").split())


def main() -> int:
    parser = argparse.ArgumentParser(description="Do the texts agree with the data that they name?")
    parser.add_argument("--write", action="store_true", help="write the tables again")
    options = parser.parse_args()
    known = {t for form in DATA for p in sorted(ROOT.glob(form)) for t in numbers(json.loads(p.read_text()))}
    printed = {bare(found[0]) for p in sorted(ROOT.glob(TABLES)) for found in FIGURE.finditer(p.read_text())}
    rounded: Rounded = {}
    wrong = 0
    for name in TEXTS:
        path = ROOT / name
        text = path.read_text()
        made = written(text)
        if made != text and options.write:
            path.write_text(made)
        elif made != text:
            print(f"{name}: a table is not what its data say; write it with: python docs/figures.py --write")
            wrong += 1
        for figure in unknown(made, known, printed, rounded):
            print(f"{name}: {figure} is in none of {', '.join((*DATA, TABLES))}")
            wrong += 1
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
