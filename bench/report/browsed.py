"""The image browser's data: names that are said once, one line a pair, and where the image files lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote

from bench.metrics import direction
from bench.records import PairRow, Results
from bench.records import Setting as SettingRecord
from bench.report.words import distinct, kind, places, setting, setting_key


@dataclass(frozen=True)
class Metric:
    """How a metric's numbers are printed and turned."""

    name: str
    title: str
    unit: str
    sign: int
    digits: int


@dataclass(frozen=True)
class Setting:
    """A setting in words, and as results have it."""

    label: str
    given: dict[str, Any]


@dataclass(frozen=True)
class About:
    """What is said once: names that the pairs refer to by number, and how numbers are printed. browser.js reads it."""

    suite: str
    run: str
    roots: list[str]
    """What stands before an image's name in its address, by run."""
    total: int
    methods: list[str]
    """The baseline first."""
    metrics: list[Metric]
    settings: list[Setting]
    marks: list[list[list[int]]]
    """For every setting and method, the metrics that the method optimises there."""
    siblings: list[list[list[int]]]
    """For every setting and method, siblings of those."""
    sets: list[str]
    categories: list[str]

    def as_json(self) -> dict[str, Any]:
        """Names and values in the order of the fields."""
        return asdict(self)


class Line(NamedTuple):
    """One pair; names by their number in `About`."""

    setting: int
    prompts: int
    category: int
    place: int
    """Of the prompt in its set."""
    seed: int
    prompt: str
    images: list[int]
    """By method, its number among the pictures; -1 where there is none."""
    scores: list[list[float | None] | None]
    """By method and metric."""
    changes: Sequence[float | None] = ()
    """By method, how far its picture is from the baseline's, in %; None where one of them is unknown."""


@dataclass(frozen=True)
class Picture:
    """One image file of a run: the number of its run, its name in the run's folder, and where it lies.

    There is no file where there is none, or where the name is an address or leads out of its run's folder.
    """

    run: int
    name: str
    file: Path | None


def about(results: Results) -> About:
    """What is said once of the pairs of results."""
    pairs, arms, baseline = results.pairs, results.arms, results.suite.baseline
    named = distinct([*(arm.method for arm in arms), *(name for pair in pairs for name in pair.images)])
    methods = [baseline, *(name for name in named if name != baseline)]
    # A set has no value of a single image.
    metrics = [name for name in results.metrics if kind(results, name) != "set"]
    marks = {(setting_key(arm), arm.method, metric) for arm in arms for metric in arm.optimises}
    near = {(setting_key(arm), arm.method, one.metric) for arm in arms for one in arm.siblings}
    return About(
        suite=results.suite.id,
        run=PurePosixPath(results.run.folder).name,
        roots=[_root(run.path) for run in results.runs],
        total=results.pairs_total or len(pairs),
        methods=methods,
        metrics=[_metric(results, name) for name in metrics],
        settings=[Setting(f"{row.model}, {setting(row)}", row.model_dump()) for row in results.settings],
        marks=_at(results.settings, methods, metrics, marks),
        siblings=_at(results.settings, methods, metrics, near),
        sets=distinct(pair.prompts for pair in pairs),
        categories=distinct(pair.category for pair in pairs),
    )


def _metric(results: Results, name: str) -> Metric:
    of = results.metrics[name]
    return Metric(name, of.title, of.unit, direction.sign(of), places(results, name))


def _at(
    settings: Iterable[SettingRecord], methods: Sequence[str], metrics: Sequence[str], places: set[tuple[Any, ...]]
) -> list[list[list[int]]]:
    """For every setting and method, the numbers of the metrics of that place."""
    return [
        [[i for i, metric in enumerate(metrics) if (setting_key(row), method, metric) in places] for method in methods]
        for row in settings
    ]


def lines(results: Results, known: About, folder: Path) -> tuple[list[Picture], list[Line]]:
    """(image files, one line a pair). Methods may share a file (a best of n that chose the first), then stored once."""
    sets, categories = ({name: i for i, name in enumerate(names)} for names in (known.sets, known.categories))
    numbers: dict[tuple[int, str], int] = {}
    found = []
    for pair in results.pairs:
        images = []
        for method in known.methods:
            name = pair.images.get(method)
            images.append(numbers.setdefault((pair.runs[method], name), len(numbers)) if name else -1)
        place = (pair.setting, sets[pair.prompts], categories[pair.category], pair.index, pair.seed)
        found.append(Line(*place, pair.prompt, images, [_scores(pair, method, known) for method in known.methods]))
    runs = results.runs
    return [Picture(run, name, _file(folder / runs[run].path, name)) for run, name in numbers], found


def image_file(results: Results, pair: PairRow, method: str, folder: Path) -> Path | None:
    """Where a method's image of a pair lies, as for `Picture`; `folder` is where the report lies."""
    name = pair.images.get(method)
    return _file(folder / results.runs[pair.runs[method]].path, name) if name else None


def _scores(pair: PairRow, method: str, known: About) -> list[float | None] | None:
    scores = pair.scores.get(method)
    return [_short(scores.get(metric.name)) for metric in known.metrics] if scores else None


def _short(value: float | None) -> float | None:
    """Nine significant digits: they tell any two float32 scores apart, so a tie is a tie and nothing else is."""
    return None if value is None else float(f"{value:.9g}")


def harmless(name: str) -> bool:
    """Whether a name is one of a file in its run's folder: no address, and no way out."""
    parts = name.replace("\\", "/").split("/")
    return ":" not in name and ".." not in parts and parts[0] != ""


def _file(run: Path, name: str) -> Path | None:
    """An image of a run; None where its name is an address, leads out of the run's folder, or names no file."""
    if not harmless(name):
        return None
    try:
        file = (run / name).resolve()
        return file if file.is_relative_to(run.resolve()) and file.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a NUL, a loop of links, a name that is too long
        return None


def _root(path: str) -> str:
    return "" if path == "." else f"{quote(path, errors='replace').rstrip('/')}/"
