"""The report as one self-contained page: no request leaves it, no script runs in it."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

from bench.report import (
    Results,
    Row,
    baseline_name,
    distinct,
    figures,
    finite,
    number,
    places,
    pooled,
    prompts_name,
    setting,
    setting_key,
    trust,
)
from bench.report import markdown as tables

BUDGET = 4_500_000  # characters of embedded images; a mail or an artifact viewer still opens such a page
LONGEST = 320  # embedded copies of larger images are reduced to this; 64 px images stay as they are
PANELS = 24


def render(results: Results, folder: Path) -> str:
    """The whole page; `folder` is where the images of `results["pairs"]` lie."""
    methods = _methods(results)
    found = [tables.metric_table(results), tables.win_table(results), tables.cost_table(results)]
    quality, wins, cost = (table if table.rows else None for table in found)
    tasks = tables.task_table(results) if results.get("tasks") else None
    suite = results.get("suite", {})
    page: str = _template().render(
        title=suite.get("title") or suite.get("name") or "Results",
        compared=tables.compared(results),
        verdict=tables.verdict(results),
        trust=trust(results),
        quality=quality,
        wins=wins,
        tasks=tasks,
        cost=cost,
        bars=_bar_panels(results, methods),
        scatters=_scatter_panels(results, methods),
        legend=[(name, _safe(figures.key(index))) for name, index in methods.items()],
        pairs=_pairs(results, folder),
        notes=results.get("notes") or [],
        provenance=tables.provenance(results),
    )
    return page


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("bench.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html.j2")


def _safe(svg: str) -> Any:
    """Our own drawing, whose texts `figures` has escaped."""
    from markupsafe import Markup

    return Markup(svg)


def _methods(results: Results) -> dict[str, int]:
    """Every method with its colour's index, the baseline first as 0."""
    names = distinct(arm["method"] for arm in results.get("arms") or [])
    others = [name for name in names if name != baseline_name(results)]
    return {name: index for index, name in enumerate([baseline_name(results), *others])}


# Figures -------------------------------------------------------------------------------------------------------------


def _panels(results: Results) -> list[tuple[str, str, list[Row]]]:
    """(title, metric, complete comparisons) of every setting and metric on pooled prompts."""
    rows = [row for row in pooled(results.get("comparisons") or []) if row.get("complete")]
    heads = distinct((setting_key(row), row["prompts"]) for row in rows)
    panels = []
    for name, metric in (results.get("metrics") or {}).items():
        for head in heads:
            mine = [row for row in rows if (setting_key(row), row["prompts"]) == head and row["metric"] == name]
            if mine:
                where = f", {mine[0]['model']}, {setting(mine[0])}, {prompts_name(head[1])}" if len(heads) > 1 else ""
                panels.append((f"{metric.get('title') or name}{where}", name, mine))
    return panels[:PANELS]


def _bar_panels(results: Results, methods: dict[str, int]) -> list[Any]:
    panels = []
    for title, _, rows in _panels(results):
        bars = [
            figures.Bar(row["method"], methods.get(row["method"], 1), *known, marked=bool(row.get("marked")))
            for row in rows
            if (known := _known(row, "win_rate", "win_low", "win_high"))
        ]
        if bars:
            panels.append(_safe(figures.win_bars(title, bars)))
    return panels


def _scatter_panels(results: Results, methods: dict[str, int]) -> list[Any]:
    arms = {(setting_key(arm), arm["prompts"], arm["method"]): arm for arm in results.get("arms") or []}
    panels = []
    for title, _, rows in _panels(results):
        head = (setting_key(rows[0]), rows[0]["prompts"])
        mine = {name: arms.get((*head, name), {}).get("cost") or {} for name in methods}
        compared = [row for row in rows if _known(row, "delta", "low", "high")]
        used = [baseline_name(results), *(row["method"] for row in compared)]
        # Calls where times are missing: with images from the cache nothing was timed, but calls are known.
        timed = all(finite(mine.get(name, {}).get("total_ms")) is not None for name in used)
        column, axis = ("total_ms", "ms per image") if timed else ("calls_total", "denoiser calls per image")
        cost = {name: value for name in used if (value := finite(mine.get(name, {}).get(column))) is not None}
        points = [figures.Point(name, 0, cost[name], 0.0, 0.0, 0.0) for name in used[:1] if name in cost]
        points += [
            figures.Point(row["method"], methods.get(row["method"], 1), cost[row["method"]], row["delta"], row["low"],
                          row["high"], marked=bool(row.get("marked")))
            for row in compared if row["method"] in cost
        ]  # fmt: skip
        if len(points) > 1:
            panels.append(_safe(figures.scatter(title, axis, points)))
    return panels


def _known(row: Row, *names: str) -> tuple[float, float, float] | None:
    """Three numbers of a row, or None where one was not measured."""
    first, second, third = (finite(row.get(name)) for name in names)
    return None if first is None or second is None or third is None else (first, second, third)


# Image pairs ---------------------------------------------------------------------------------------------------------


def _pairs(results: Results, folder: Path) -> list[dict[str, Any]]:
    """What the grid shows: a prompt, one image a method, its scores and their deltas against the baseline's image."""
    left, shown = BUDGET, []
    for pair in results.get("pairs") or []:
        cards = []
        for method, path in (pair.get("images") or {}).items():
            link = tables.safe_path(path)
            source = _embedded(folder, str(path), left) if link else ""
            left -= len(source)
            cards.append({"method": method, "link": link, "source": source, "scores": _scores(results, pair, method)})
        shown.append({"prompt": pair.get("prompt"), "cards": cards, "seed": pair.get("seed"),
                      "set": pair.get("prompts"), "index": pair.get("index")})  # fmt: skip
    return shown


def _scores(results: Results, pair: Row, method: str) -> list[tuple[str, str, str]]:
    """(metric's title, score, delta) for one image; the baseline's own image has no delta."""
    given = pair.get("scores") or {}
    base = given.get(baseline_name(results)) or {}
    rows = []
    for metric, value in (given.get(method) or {}).items():
        digits, score, reference = places(results, metric), finite(value), finite(base.get(metric))
        known = method != baseline_name(results) and score is not None and reference is not None
        delta = number((score or 0.0) - (reference or 0.0), digits, sign=True) if known else ""
        title = ((results.get("metrics") or {}).get(metric) or {}).get("title") or metric
        rows.append((title, number(value, digits), delta))
    return rows


def _embedded(folder: Path, path: str, left: int) -> str:
    """The image as a data URI; nothing where it is missing, unreadable, outside the folder or over the budget."""
    file = (folder / path).resolve()
    if not file.is_relative_to(folder.resolve()) or not file.is_file():
        return ""
    kind, data = _picture(file)
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}" if data else ""
    return source if len(source) <= left else ""


def _picture(file: Path) -> tuple[str, bytes]:
    """(kind, bytes): a small PNG, JPEG or WebP as it is, anything larger reduced; no bytes where it is no image."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            kind = str(image.format).lower()
            if max(image.size) <= LONGEST and kind in ("png", "jpeg", "webp"):
                image.load()  # a truncated file must not become a broken picture
                return kind, file.read_bytes()
            small = image.convert("RGB")
            small.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=88)
            return "jpeg", buffer.getvalue()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "", b""
