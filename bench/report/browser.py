"""The image browser of report.html: what its page, its script and its static fallback are given.

`browser` turns the pairs of results.json into one JSON block, with as many thumbnails as the page's budget holds. The
page's own parts lie beside this file: browser.html.j2, browser.css, and the scripts browser.js (the list),
browser.pair.js (one pair) and browser.blind.js (blind A/B votes).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from bench import direction
from bench.report.thumbnails import thumbnails
from bench.report.words import (
    Results,
    Row,
    baseline_name,
    distinct,
    finite,
    higher_is_better,
    kind,
    number,
    places,
    setting,
    setting_key,
)

BUDGET = 4_300_000
"""Characters of the browser's data with its thumbnails; the rest of 5 MB is for the tables and figures around it."""

STATIC = 12
"""Pairs that are shown without a script, and in print."""

WINDOW = 50
"""Pairs that the list holds at a time; as in browser.js."""

SCRIPTS = ("browser.js", "browser.pair.js", "browser.blind.js")


@dataclass(frozen=True)
class Browser:
    """What browser.html.j2 and the page's head need; all but `about` and `static` is safe to set as it is."""

    style: Any
    script: Any
    policy: Any
    """The script's source expression for a Content-Security-Policy."""
    data: Any
    about: dict[str, Any]
    options: dict[str, list[tuple[int, str]]]
    window: int
    static: list[dict[str, Any]]


@dataclass(frozen=True)
class Picture:
    """One image file of a run: the number of its run, its name in the run's folder, and where it lies.

    There is no file where there is none, or where the name is an address or leads out of its run's folder.
    """

    run: int
    name: str
    file: Path | None


def browser(results: Results, folder: Path) -> Browser | None:
    """The browser of a report that is written into `folder`; None where there are no pairs.

    Image files are looked for in the run folders that `results["runs"]` names, relative to `folder`, and are read only
    where they lie inside them.
    """
    from markupsafe import Markup

    pairs = results.get("pairs") or []
    if not pairs:
        return None
    about = _about(results)
    pictures, rows = _rows(results, about, folder)
    text = len(_json(about | {"pairs": rows, "images": [[p.run, p.name, "", 0] for p in pictures]}))
    # The first pairs stand a second time in the page: in <noscript>.
    shown = {index for row in rows[:STATIC] for index in row[6] if index >= 0}
    found = thumbnails([picture.file for picture in pictures], max(0, BUDGET - text), twice=shown)
    images = [
        [picture.run, picture.name if thumb.readable else "", thumb.source, thumb.width]
        for picture, thumb in zip(pictures, found, strict=True)
    ]
    style, script = _parts()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Browser(
        style=Markup(style),
        script=Markup(script),
        policy=Markup(f"'sha256-{digest}'"),
        data=Markup(_json(about | {"images": images, "pairs": rows})),
        about=about,
        options=_options(about),
        window=WINDOW,
        static=[_static(pair, row, about, images) for pair, row in zip(pairs, rows[:STATIC], strict=False)],
    )


@cache
def _parts() -> tuple[str, str]:
    """(style, script): one strict scope for all scripts, so that nothing of theirs is global."""
    here = Path(__file__).parent
    style = (here / "browser.css").read_text(encoding="utf-8")
    scripts = "\n".join((here / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return style, f'(() => {{\n"use strict";\n{scripts}\n}})();'


def _json(value: Any) -> str:
    """JSON in ASCII that no text in it can end: <, > and & are written as escapes, and so is all beyond ASCII."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _about(results: Results) -> dict[str, Any]:
    """What is said once: names that the pairs refer to by number, and how numbers are printed."""
    pairs, arms, suite = results["pairs"], results.get("arms") or [], results.get("suite") or {}
    baseline = baseline_name(results)
    named = distinct([*(arm["method"] for arm in arms), *(name for pair in pairs for name in pair.get("images") or {})])
    methods = [baseline, *(name for name in named if name != baseline)]
    scored = distinct(m for pair in pairs for values in (pair.get("scores") or {}).values() for m in values or {})
    known = results.get("metrics") or {}
    # A set has no value of a single image.
    own = [name for name in known if kind(results, name) != "set"]
    metrics = [*own, *(name for name in scored if name not in known)]
    settings = results.get("settings") or [_setting(row) for row in arms[:1] or [{}]]
    marks = {(setting_key(arm), arm["method"], m) for arm in arms for m in arm.get("optimises") or []}
    near = {(setting_key(arm), arm["method"], one["metric"]) for arm in arms for one in arm.get("siblings") or []}
    return {
        "suite": str(suite.get("id") or ""),
        "run": PurePosixPath(str((results.get("run") or {}).get("folder") or "")).name,
        # What stands before an image's name in its address, by run.
        "roots": [_root(str(run.get("path") or ".")) for run in results.get("runs") or [{}]],
        "total": results.get("pairs_total") or len(pairs),
        "methods": methods,
        "metrics": [_metric(results, name, known.get(name) or {}) for name in metrics],
        "settings": [{"label": f"{row.get('model')}, {setting(row)}", "given": _setting(row)} for row in settings],
        # For every setting and method, the metrics that the method optimises there, and siblings of those.
        "marks": _at(settings, methods, metrics, marks),
        "siblings": _at(settings, methods, metrics, near),
        "sets": distinct(str(pair.get("prompts") or "") for pair in pairs),
        "categories": distinct(str(pair.get("category") or "") for pair in pairs),
    }


def _at(
    settings: list[Row], methods: list[str], metrics: list[str], places: set[tuple[Any, ...]]
) -> list[list[list[int]]]:
    """For every setting and method, the numbers of the metrics of that place."""
    return [
        [[i for i, metric in enumerate(metrics) if (setting_key(row), method, metric) in places] for method in methods]
        for row in settings
    ]


def _options(about: dict[str, Any]) -> dict[str, list[tuple[int, str]]]:
    """(number, name) of everything that the controls offer; the baseline is no choice of method."""
    metrics = [metric["title"] + (" (lower is better)" if metric["sign"] < 0 else "") for metric in about["metrics"]]
    return {
        "sets": list(enumerate(about["sets"])),
        "categories": [(i, name or "(none)") for i, name in enumerate(about["categories"])],
        "settings": [(i, setting["label"]) for i, setting in enumerate(about["settings"])],
        "metrics": list(enumerate(metrics)),
        "methods": list(enumerate(about["methods"]))[1:],
    }


def _setting(row: Row) -> dict[str, Any]:
    return {name: row.get(name) for name in ("model", "sampler", "steps", "guidance")}


def _metric(results: Results, name: str, given: Row) -> dict[str, Any]:
    sign = direction.sign(higher_is_better(results, name))
    title, unit = str(given.get("title") or name), str(given.get("unit") or "")
    return {"name": name, "title": title, "unit": unit, "sign": sign, "digits": places(results, name)}


def _rows(results: Results, about: dict[str, Any], folder: Path) -> tuple[list[Picture], list[list[Any]]]:
    """(image files, one row a pair): [setting, set, category, index, seed, prompt, image numbers, scores].

    Methods may share a file (a best of n that chose the first), which is then held once.
    """
    runs = [str(run.get("path") or ".") for run in results.get("runs") or [{}]]
    names, metrics = about["methods"], [metric["name"] for metric in about["metrics"]]
    sets, categories = ({name: i for i, name in enumerate(about[key])} for key in ("sets", "categories"))
    numbers: dict[tuple[int, str], int] = {}
    rows = []
    for pair in results["pairs"]:
        images, scores = pair.get("images") or {}, pair.get("scores") or {}
        mine = []
        for method in names:
            key = ((pair.get("runs") or {}).get(method) or 0, str(images.get(method) or ""))
            mine.append(numbers.setdefault(key, len(numbers)) if key[1] else -1)
        values = [
            [_short((scores.get(name) or {}).get(m)) for m in metrics] if scores.get(name) else None for name in names
        ]
        place = (sets[str(pair.get("prompts") or "")], categories[str(pair.get("category") or "")])
        named = (pair.get("index"), pair.get("seed"), str(pair.get("prompt") or ""))
        rows.append([pair.get("setting") or 0, *place, *named, mine, values])
    return [Picture(run, name, _file(folder / runs[run], name)) for run, name in numbers], rows


def _short(value: Any) -> float | None:
    """Nine significant digits: they tell any two float32 scores apart, so a tie is a tie and nothing else is."""
    known = finite(value)
    return None if known is None else float(f"{known:.9g}")


def _file(run: Path, name: str) -> Path | None:
    """An image of a run; None where its name is an address, leads out of the run's folder, or names no file."""
    parts = name.replace("\\", "/").split("/")
    if ":" in name or ".." in parts or parts[0] == "":
        return None
    try:
        file = (run / name).resolve()
        return file if file.is_relative_to(run.resolve()) and file.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a NUL, a loop of links, a name that is too long
        return None


def _root(path: str) -> str:
    return "" if path == "." else f"{quote(path, errors='replace').rstrip('/')}/"


# Without a script ----------------------------------------------------------------------------------------------------


def _static(pair: Row, row: list[Any], about: dict[str, Any], images: list[list[Any]]) -> dict[str, Any]:
    """A pair as browser.html.j2 lays it out where no script runs."""
    base = (pair.get("scores") or {}).get(about["methods"][0]) or {}
    cards = []
    for method, image in zip(about["methods"], row[6], strict=True):
        if method not in (pair.get("images") or {}):
            continue
        run, name, source, _ = images[image] if image >= 0 else (0, "", "", 0)
        link = about["roots"][run] + quote(name, errors="replace") if name else ""
        scores = list(_static_scores((pair.get("scores") or {}).get(method) or {}, base, about, method))
        cards.append({"method": method, "link": link, "source": source or link, "scores": scores})
    return {"prompt": row[5], "set": pair.get("prompts"), "index": row[3], "seed": row[4], "cards": cards}


def _static_scores(scores: Row, base: Row, about: dict[str, Any], method: str) -> Iterator[tuple[str, str, str]]:
    """(metric's title, score, delta) for one image; the baseline's own image has no delta."""
    for metric in about["metrics"]:
        if metric["name"] not in scores:
            continue
        score, reference = finite(scores[metric["name"]]), finite(base.get(metric["name"]))
        known = method != about["methods"][0] and score is not None and reference is not None
        delta = number((score or 0.0) - (reference or 0.0), metric["digits"], sign=True) if known else ""
        yield metric["title"], number(score, metric["digits"]), delta
