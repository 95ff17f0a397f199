"""All pairs of a large run, as data files in a folder beside report.html, which loads each when a reader gets there.

    report_pairs/index.js    of every pair: setting, prompt set, category, number of the prompt, seed
                 prompts.js  every text, for the search
                 p<k>.js     a page of pairs: texts, images and scores, as the list shows them
                 s<m>-<k>.js all scores of method m by metric k, for sorting and filters
                 about.json  which report they belong to

A page that is opened from disk may load scripts and nothing else, so each file hands its data over as a string to the
script element that loaded it. Every file names its report, and report.html takes those of another one for missing.
browser.paged.js reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.records import Results
from bench.report.browsed import About, about, harmless
from bench.report.pages import inert
from bench.store.files import read_json

if TYPE_CHECKING:
    from bench.analysis.arms import Floats
    from bench.analysis.every_pair import EveryPair

FOLDER = "report_pairs"
PAGE = 50
"""Pairs of a file: as many as the list shows at a time."""
FORMAT = 1
"""Of the files; another one is another report's."""
_ABOUT = "about.json"
_OURS = re.compile(r"(index|prompts|p\d+|s\d+-\d+)\.js|about\.json")


@dataclass(frozen=True)
class Paged:
    """What report.html knows of the files beside it."""

    of: str
    """The report that they belong to: 32 hex digits, the nonce by which the page admits their scripts too."""
    total: int
    page: int = PAGE
    folder: str = FOLDER


def write(results: Results, every: EveryPair, folder: Path) -> Paged:
    """Write the files into a folder in `folder`, in the place of those of an earlier report."""
    made = Paged(_identity(results), len(every))
    target, temporary = folder / FOLDER, folder / f".{FOLDER}.{os.getpid()}.tmp"
    try:
        temporary.mkdir()
        for name, content in _files(about(results), every):
            (temporary / f"{name}.js").write_text(_script(made.of, content), encoding="ascii")
        (temporary / _ABOUT).write_text(json.dumps(asdict(made)), encoding="ascii")
        remove(folder)
        temporary.rename(target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return made


def beside(results: Results, folder: Path) -> Paged | None:
    """The files that an earlier report of the same results has in `folder`; None where there are none."""
    if (folder / FOLDER).is_symlink():
        return None
    try:
        found = read_json(folder / FOLDER / _ABOUT)
    except (OSError, ValueError):
        return None
    made = Paged(_identity(results), results.pairs_total)
    return made if found == asdict(made) else None


def remove(folder: Path) -> None:
    """Remove the files of an earlier report from `folder`; what else lies beside them stays."""
    place = folder / FOLDER
    if place.is_symlink():
        place.unlink()
    if not place.is_dir():
        return
    for file in place.iterdir():
        if _OURS.fullmatch(file.name):
            file.unlink()
    with contextlib.suppress(OSError):  # something of another's is in it
        place.rmdir()


def _identity(results: Results) -> str:
    """Changes with the results, and with what the files' columns mean."""
    known = about(results)
    meant = json.dumps([FORMAT, PAGE, known.methods, [metric.name for metric in known.metrics]])
    return hashlib.sha256(f"{meant}\n{results.text()}".encode("utf-8", "replace")).hexdigest()[:32]


# What the files hold -------------------------------------------------------------------------------------------------


def _files(known: About, every: EveryPair) -> Iterator[tuple[str, str]]:
    """(name, JSON of what it holds), one after the other: no more than a page or a column is in memory."""
    rows = [list(every.metrics).index(metric.name) for metric in known.metrics]
    pairs = every.pairs()
    texts = _Names()
    of = [texts.number(pair.text) for pair in pairs]
    sets, categories = _Names(known.sets), _Names(known.categories)
    index = {
        "settings": every.settings.tolist(),
        "sets": [sets.number(pair.prompts) for pair in pairs],
        "categories": [categories.number(pair.category) for pair in pairs],
        "indices": [pair.index for pair in pairs],
        "seeds": [pair.seed for pair in pairs],
    }
    yield "index", inert(index | {"names": {"sets": list(sets), "categories": list(categories)}})
    yield "prompts", inert({"texts": list(texts), "of": of})
    for number, start in enumerate(range(0, len(every), PAGE)):
        yield f"p{number}", _page(known, every, rows, start)
    for m, method in enumerate(known.methods):
        for k, row in enumerate(rows):
            yield f"s{m}-{k}", f'{{"scores":{_numbers(every.scores(method, 0, len(every), [row])[0])}}}'


class _Names(dict[str, int]):
    """Texts, numbered as they are met."""

    def __init__(self, known: Sequence[str] = ()):
        super().__init__((name, i) for i, name in enumerate(known))

    def number(self, text: str) -> int:
        return self.setdefault(text.encode("utf-8", "replace").decode(), len(self))


def _page(known: About, every: EveryPair, rows: Sequence[int], start: int) -> str:
    """A page as JSON; images and scores by method, those by metric, then by pair."""
    stop = min(start + PAGE, len(every))
    prompts = [pair.text.encode("utf-8", "replace").decode() for pair in every.pairs(start, stop)]
    images = [
        [one if one and harmless(one[1]) else None for one in every.files(method, start, stop)]
        for method in known.methods
    ]
    scores = (
        f"[{','.join(_numbers(column) for column in every.scores(method, start, stop, rows))}]"
        for method in known.methods
    )
    return f'{{"prompts":{inert(prompts)},"images":{inert(images)},"scores":[{",".join(scores)}]}}'


def _numbers(values: Floats) -> str:
    """Scores (n,) as a JSON list, in nine digits as `browsed` has them; null where there is none."""
    known = np.where(np.isfinite(values), values, np.nan).tolist()
    return f"[{(','.join(['%.9g'] * len(known)) % tuple(known)).replace('nan', 'null')}]"


def _script(of: str, content: str) -> str:
    """A script whose one statement is a string: JSON in ASCII, in which nothing ends it."""
    text = f'{{"of":"{of}","held":{content}}}'.replace("'", "\\u0027").replace("\\", "\\\\")
    return f"document.currentScript.data='{text}';\n"
