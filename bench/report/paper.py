"""The paper's own numbers, beside a run that reproduces one of its tables.

The data are baselines/paper/tables.csv; its README says where they come from and which cells are suspect.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.records import Results
from bench.report.tables import Cell, Table
from bench.report.words import distinct, interval, mark, number, places

# Our names on the left, the paper's on the right; what is not here has no number in the paper and is left out.
MODELS = {
    "sdxl": "SDXL",
    "dreamshaper": "DreamShaper-xl-v2-turbo",
    "dreamshaper-xl-v2-turbo": "DreamShaper-xl-v2-turbo",
    "hunyuan-dit": "Hunyuan-DiT",
    "sd1.4": "SD1.4",
}
# The paper read HPD's prompts cut at their first comma, so `hpd_full` is not its set.
PROMPTS = {"pick-a-pic": "Pick-a-Pic", "drawbench": "DrawBench", "hpd": "HPD", "geneval": "GenEval prompts"}
METHODS = {
    "standard": "Standard",
    "inversion": "Inversion",
    "inversion_as_released": "Inversion",
    "repaint_first": "RePaint",
    "initno": "InitNO",
    "npnet": "NPNet",
    "dpo": "DPO",
    "dpo_npnet": "DPO+NPNet",
    "ays": "AYS",
    "ays_npnet": "AYS+NPNet",
}
METRICS = {
    "pickscore": "PickScore",
    "hpsv2": "HPSv2",
    "aesthetic": "AES",
    "imagereward": "ImageReward",
    "clipscore": "CLIPScore",
    "mps": "MPS",
}
HUNDREDFOLD = ("_pct", "_x100")
"""Ends of the metric names under which the paper prints a hundred times our value."""


@dataclass(frozen=True)
class Printed:
    """One cell of one of the paper's tables; `value` is text, with the digits that the paper prints."""

    table: str
    model: str
    dataset: str
    method: str
    steps: str
    sampler: str
    setting: str
    metric: str
    value: str
    note: str

    @property
    def place(self) -> tuple[str, ...]:
        """The row of the paper's table that the cell is in."""
        return self.table, self.model, self.dataset, self.method, self.steps, self.sampler, self.setting

    @property
    def score(self) -> float | None:
        """The value as a number; MPS of the baseline is one half by definition and printed nowhere."""
        if not self.value and self.metric.startswith("MPS") and self.note.startswith("baseline, defined as"):
            return 50.0 if self.metric.endswith(HUNDREDFOLD) else 0.5
        return float(self.value) if self.value else None


@cache
def printed() -> tuple[Printed, ...]:
    """All cells; none where the data file was left out of the installation."""
    # A checkout has baselines/ beside bench/; a wheel carries the folder inside the package.
    package = Path(__file__).parents[1]
    for folder in (package / "baselines" / "paper", package.parent / "baselines" / "paper"):
        file = folder / "tables.csv"
        if file.is_file():
            with open(file, newline="", encoding="utf-8") as lines:
                return tuple(Printed(**row) for row in csv.DictReader(lines))
    return ()


@dataclass(frozen=True)
class Shared:
    """The paper's names of what this run has too, each with our names for it."""

    models: dict[str, list[str]]
    prompts: dict[str, list[str]]
    methods: dict[str, list[str]]


def tables_named(reproduces: str | None) -> list[str]:
    """`final:T2` from `final:T2`, `final: Table 2` and the like; several may be named."""
    found = re.findall(r"\b(final|anon|readme)\s*:\s*(?:table\s*|T)?([\w.-]+)", reproduces or "", re.IGNORECASE)
    return [f"{version.lower()}:{f'T{name}' if name.isdigit() else name}" for version, name in found]


def in_the_paper(reproduces: str) -> str:
    """`final:T2` as `Table 2 of the paper`; what names none of its tables stays as it is."""
    named = tables_named(reproduces)
    return ", ".join(map(place_named, named)) if named else reproduces


def place_named(table: str) -> str:
    """`final:T2` as `Table 2 of the paper`."""
    version, _, name = table.partition(":")
    known = re.fullmatch(r"([TF])(\d+)", name)
    said = f"{'Table' if known[1] == 'T' else 'Figure'} {known[2]}" if known else name
    return {"final": f"{said} of the paper", "anon": f"{said} of the paper's first version"}.get(
        version, f"{name} of the released README"
    )


def paper_table(results: Results) -> Table | None:
    """The paper's values and its deltas against its Standard, for the rows and metrics that this run has too.

    A run on the real things gets its own delta beside them, in the paper's unit; a twin's numbers are on scales of
    their own and get nothing. None where the suite reproduces no table, or none of which a row is known.
    """
    wanted = tables_named(results.suite.reproduces)
    metrics = {name: of for name in results.metrics if (of := _metric(results, name))}
    ours = _shared(results)
    cells = [
        cell
        for cell in printed()
        if cell.table in wanted
        and cell.model in ours.models
        and cell.dataset in ours.prompts
        and cell.method in ours.methods
        and _plain(cell.metric) in metrics.values()
    ]
    if not cells:
        return None
    return _lay_out(results, cells, metrics, ours)


def _lay_out(results: Results, cells: list[Printed], metrics: dict[str, str], ours: Shared) -> Table:
    twin = results.suite.twin
    given = {(*cell.place, _plain(cell.metric)): cell for cell in cells}
    shown = {name: of for name, of in metrics.items() if any(_plain(cell.metric) == of for cell in cells)}
    several = len({cell.place[4:] for cell in cells}) > 1 or len({cell.table for cell in cells}) > 1
    marks = {note: _letter(index) for index, note in enumerate(distinct(cell.note for cell in cells if cell.note))}
    rows = []
    for place in distinct(cell.place for cell in cells):
        _, model, dataset, method, *_ = place
        # Two methods of ours may stand for one of the paper's: released code and equation differ.
        for label in ours.methods[method] if not twin else [""]:
            row = [Cell(model), *([Cell(_place(place))] if several else []), Cell(dataset)]
            other = label and label.lower() != method.lower()
            row.append(Cell(method, f"here {label}" if other else ""))
            for name, of in shown.items():
                cell = given.get((*place, of))
                here = _here(results, cell, name, ours, label) if cell and label else ""
                row.append(_cell(cell, _standard(cell, cells), here, marks) if cell else Cell(""))
            rows.append(row)
    units = {_plain(cell.metric): " × 100" if cell.metric.endswith(HUNDREDFOLD) else "" for cell in cells}
    headers = [
        "model",
        *(["table"] if several else []),
        "prompts",
        "method",
        *(of + units[of] for of in shown.values()),
    ]
    notes = [*_notes(cells, several=several, twin=twin), *(f"({mark}) {note}" for note, mark in marks.items())]
    title = "The paper's numbers, for the real models" if twin else "The paper's numbers"
    return Table(title, headers, 4 if several else 3, rows, notes)


def _cell(cell: Printed, base: float | None, here: str, marks: dict[str, str]) -> Cell:
    digits = len(cell.value.partition(".")[2]) or 2
    text = number(cell.score, digits) + (f" ({marks[cell.note]})" if cell.note else "")
    known = cell.score is not None and base is not None and cell.method != METHODS["standard"]
    delta = number((cell.score or 0.0) - (base or 0.0), digits, sign=True) if known else ""
    suspect = "suspect" in cell.note or "out of line" in cell.note
    return Cell(text, "; ".join(part for part in (delta, here) if part), "suspect" if suspect else "")


def _standard(cell: Printed | None, cells: list[Printed]) -> float | None:
    """The score of the paper's Standard that a cell is to be read against: same set, steps, sampler and metric."""
    if cell is None:
        return None
    key = (cell.table, cell.model, cell.dataset, cell.steps, cell.sampler, cell.metric)
    found = [
        other
        for other in cells
        if other.method == METHODS["standard"]
        and (other.table, other.model, other.dataset, other.steps, other.sampler, other.metric) == key
    ]
    same = [other for other in found if other.setting == cell.setting] or (found if len(found) == 1 else [])
    return same[0].score if same else None


def _here(results: Results, cell: Printed, metric: str, ours: Shared, label: str) -> str:
    """This run's delta in the paper's unit; nothing where it has no such pair of arms, or several."""
    rows = [
        row
        for row in results.comparisons
        if row.metric == metric
        and row.method == label
        and row.model in ours.models[cell.model]
        and row.prompts in ours.prompts[cell.dataset]
        and row.complete
    ]
    if len(rows) > 1:
        rows = [row for row in rows if str(row.steps) == cell.steps]
    if len(rows) != 1 or rows[0].delta is None:
        return ""
    row, factor = rows[0], 100 if cell.metric.endswith(HUNDREDFOLD) else 1
    digits = max(0, places(results, metric) - (2 if factor == 100 else 0))
    delta, low, high = (None if value is None else factor * value for value in (row.delta, row.low, row.high))
    return f"here {number(delta, digits, sign=True)} {interval(low, high, digits, sign=True)}".rstrip() + mark(row)


def _notes(cells: list[Printed], *, several: bool, twin: bool) -> list[str]:
    named = ", ".join(place_named(name) for name in distinct(cell.table for cell in cells))
    made = "" if several else f" ({cells[0].sampler}, {cells[0].steps} steps)"
    notes = [
        f"As printed in {named}{made}, then the delta against the paper's Standard. "
        "The paper prints no intervals; its 100 or 200 prompts have one image each."
    ]
    if twin:
        notes.append(
            "This run used embedded stand-ins for model, prompts and scorers: its values are on other scales and "
            "cannot be compared with these."
        )
    else:
        notes.append("Here: this run's paired delta with its 95 % interval, in the paper's unit.")
    return notes


def _place(place: tuple[str, ...]) -> str:
    table, _, _, _, steps, sampler, setting = place
    return ", ".join(part for part in (place_named(table), sampler, f"{steps} steps" if steps else "", setting) if part)


def _metric(results: Results, name: str) -> str | None:
    """The paper's name of a metric, or of the metric that it stands in for."""
    known = (name, *results.metrics[name].twin_of)
    return next((METRICS[one] for one in known if one in METRICS), None)


def _shared(results: Results) -> Shared:
    """What this run and the paper have in common; stand-ins count as what they stand for."""
    twin, arms = results.suite.twin, results.arms
    # The paper compares with Standard and nothing else.
    papers = METHODS if METHODS.get(results.suite.baseline) == METHODS["standard"] else {}
    return Shared(
        _known((arm.model for arm in arms), MODELS, "models" if twin else None),
        _known((arm.prompts for arm in arms), PROMPTS, "prompts" if twin else None),
        _known((arm.method for arm in arms), papers, None),
    )


def _known(given: Iterable[str], names: dict[str, str], kind: str | None) -> dict[str, list[str]]:
    """The paper's names with ours; `kind` is the plugins' whose stand-ins count."""
    found: dict[str, list[str]] = {}
    for ours in distinct(given):
        stands_for = _stands_for(kind, ours) if kind else ()
        name = next((names[known] for known in (ours, *stands_for) if known in names), None)
        if name:
            found.setdefault(name, []).append(ours)
    return found


def _stands_for(kind: str, name: str) -> tuple[str, ...]:
    """What a stand-in says it is the twin of; nothing where its plugin is not installed here."""
    from bench import registry
    from bench.errors import UserError

    try:
        return tuple(getattr(registry.get(kind, name), "twin_of", ()))
    except UserError:
        return ()


def _plain(metric: str) -> str:
    return re.sub(r"_(pct|x100)$", "", metric)


def _letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters
