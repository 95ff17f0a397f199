"""The report's tables, and the report as Markdown (GitHub's dialect, under 65,000 characters)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from bench.report import (
    MISSING,
    Results,
    Row,
    baseline_name,
    distinct,
    effect,
    finite,
    higher_is_better,
    interval,
    number,
    p_value,
    percent,
    places,
    pooled,
    prompts_name,
    sentences,
    setting,
    setting_key,
    trust,
)
from bench.suite import EVERY_PROMPT_SET as POOLED

LIMIT = 65_000  # GitHub cuts a comment or a job summary's step at about this length
PAIRS_SHOWN = 12
GENEVAL_TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
GLYPHS = {"better": " ▲", "worse": " ▼"}


@dataclass(frozen=True)
class Cell:
    """One cell: a value, a smaller second line, and how both are to be read."""

    text: str
    sub: str = ""
    tone: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table that both forms of the report lay out: `labels` columns of words first, then numbers."""

    title: str
    headers: list[str]
    labels: int
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)


# Tables --------------------------------------------------------------------------------------------------------------


def metric_table(results: Results, *, detail: bool = True) -> Table:
    """The paper's layout: model, prompt set and method in rows, metrics in columns."""
    arms, names = _rows(results, "arms", detail=detail), list(results.get("metrics") or {})
    comparisons = _comparisons(results)
    best = _best(results, arms, comparisons)
    rows = []
    for arm in arms:
        cells = [_mean(results, arm, name, comparisons.get((*_place(arm), name)), best=best) for name in names]
        rows.append([*_labels(results, arm), *cells])
    notes = [
        f"Mean with its 95 % interval for {baseline_name(results)}; for the others the mean, then the paired delta "
        f"against {baseline_name(results)} with its 95 % interval. ▲ clearly better, ▼ clearly worse.",
        "Bold: the best complete method in its column, only where it is clearly better than the baseline; "
        "methods are not tested against each other.",
    ]
    if any(row.get("marked") for row in results.get("comparisons") or []):
        notes.append("† The method optimises this metric: not ranked, not counted as evidence.")
    return Table("Quality", [*_label_headers(results), *(_metric_header(results, name) for name in names)],
                 _width(results), rows, notes)  # fmt: skip


def win_table(results: Results, *, detail: bool = True) -> Table:
    """Win rates against the baseline, with wins, ties and losses and the adjusted p-value of the delta."""
    arms = [arm for arm in _rows(results, "arms", detail=detail) if not arm.get("is_baseline")]
    names, comparisons = list(results.get("metrics") or {}), _comparisons(results)
    rows = [
        [*_labels(results, arm), *(_win(arm, comparisons.get((*_place(arm), name))) for name in names)] for arm in arms
    ]
    notes = ["Share of pairs won, ties counted half, with its 95 % interval; then wins/ties/losses and the "
             "Holm-adjusted p of the delta."]  # fmt: skip
    headers = [*_label_headers(results), *(_title(results, name) for name in names)]
    return Table(f"Win rate against {baseline_name(results)}", headers, _width(results), rows, notes)


def cost_table(results: Results) -> Table:
    """What an image costs, stage by stage; a method's cost is a result."""
    arms = pooled(results.get("arms") or [])
    base = {(setting_key(arm), arm["prompts"]): arm.get("cost") or {} for arm in arms if arm.get("is_baseline")}
    headers = ["calls: noise", "sampling", "total", "encode ms", "noise ms", "sampling ms", "decode ms", "total ms",
               "peak memory", "timed", "from cache"]  # fmt: skip
    rows = [[*_labels(results, arm), *_cost(arm, base.get((setting_key(arm), arm["prompts"]), {}))] for arm in arms]
    kinds = distinct((arm.get("cost") or {}).get("peak_kind") for arm in arms)
    kind = ", ".join(str(name) for name in kinds if name) or MISSING
    notes = [
        "Per image. Calls are denoiser calls; timed is the number of images that the times are means of; from cache is "
        f"the number taken over from earlier runs. × is against {baseline_name(results)}. Peak memory: {kind}."
    ]
    return Table("Cost", [*_label_headers(results), *headers], _width(results), rows, notes)


def task_table(results: Results) -> Table:
    """GenEval: the share of images that pass, task by task, and the mean over the tasks."""
    given = _rows(results, "tasks", detail=True)
    seen = distinct(name for row in given for name in row.get("tasks") or {})
    tasks = [name for name in GENEVAL_TASKS if name in seen] + [name for name in seen if name not in GENEVAL_TASKS]
    arms = {_place(arm): arm for arm in results.get("arms") or []}
    rows = []
    for row in given:
        scores = [(row.get("tasks") or {}).get(name) or {} for name in tasks]
        overall = Cell(number(row.get("overall"), 3), interval(row.get("overall_low"), row.get("overall_high"), 3))
        marked = row.get("metric") in (arms.get(_place(row), {}).get("optimises") or [])
        cells = [Cell(number(score.get("mean"), 2), f"n {score['n']}" if score.get("n") else "") for score in scores]
        rows.append([*_labels(results, {**arms.get(_place(row), {}), **row}, marked=marked), overall, *cells])
    notes = ["Overall is the mean over the task means, with its 95 % interval."]
    headers = [*_label_headers(results), "overall", *(name.replace("_", " ") for name in tasks)]
    return Table("GenEval tasks", headers, _width(results), rows, notes)


def _place(row: Row) -> tuple[Any, ...]:
    return (*setting_key(row), row.get("prompts"), row.get("method"))


def _comparisons(results: Results) -> dict[tuple[Any, ...], Row]:
    return {(*_place(row), row["metric"]): row for row in results.get("comparisons") or []}


def _rows(results: Results, key: str, *, detail: bool) -> list[Row]:
    """Rows of every set with the pooled ones last; only the pooled ones without `detail` or with a single set."""
    rows = results.get(key) or []
    if not detail or len({row["prompts"] for row in rows} - {POOLED}) < 2:
        return pooled(rows)
    return [row for place in distinct(map(setting_key, rows)) for row in _sets_in_order(rows, place)]


def _sets_in_order(rows: list[Row], place: tuple[Any, ...]) -> list[Row]:
    mine = [row for row in rows if setting_key(row) == place]
    sets = sorted(distinct(row["prompts"] for row in mine), key=lambda name: name == POOLED)
    return [row for name in sets for row in mine if row["prompts"] == name]


def _has_settings(results: Results) -> bool:
    return len({setting(row) for row in results.get("arms") or []}) > 1


def _label_headers(results: Results) -> list[str]:
    return ["model", *(["setting"] if _has_settings(results) else []), "prompts", "method"]


def _width(results: Results) -> int:
    return len(_label_headers(results))


def _labels(results: Results, row: Row, *, marked: bool = False) -> list[Cell]:
    state = "" if row.get("complete", True) else f"incomplete: {row.get('n')} of {row.get('n_expected')}"
    extra = [Cell(setting(row))] if _has_settings(results) else []
    method = Cell(row["method"] + (" †" if marked else ""), state, "incomplete" if state else "")
    return [Cell(row["model"]), *extra, Cell(prompts_name(row["prompts"])), method]


def _title(results: Results, name: str) -> str:
    return str(results["metrics"][name].get("title") or name)


def _metric_header(results: Results, name: str) -> str:
    unit = results["metrics"][name].get("unit")
    return f"{_title(results, name)}{f' ({unit})' if unit else ''}{'' if higher_is_better(results, name) else ' ↓'}"


def _best(results: Results, arms: list[Row], comparisons: dict[tuple[Any, ...], Row]) -> set[tuple[Any, ...]]:
    """Places in bold: of the complete, unmarked arms of a setting and set the best one, if it is clearly better."""
    found = set()
    for name in results.get("metrics") or {}:
        sign = 1 if higher_is_better(results, name) else -1
        groups: dict[tuple[Any, ...], list[tuple[float, tuple[Any, ...]]]] = {}
        for arm in arms:
            key, mean = (*_place(arm), name), finite(((arm.get("metrics") or {}).get(name) or {}).get("mean"))
            ranked = arm.get("complete") and name not in (arm.get("optimises") or [])
            if ranked and mean is not None and not comparisons.get(key, {}).get("marked"):
                groups.setdefault(key[:-2], []).append((sign * mean, key))
        for group in groups.values():
            top = max(group, key=lambda pair: pair[0])[1]
            if top in comparisons and effect(results, comparisons[top]) == "better":
                found.add(top)
    return found


def _mean(results: Results, arm: Row, name: str, row: Row | None, *, best: set[tuple[Any, ...]]) -> Cell:
    value, digits = (arm.get("metrics") or {}).get(name) or {}, places(results, name)
    marked = name in (arm.get("optimises") or []) or bool(row and row.get("marked"))
    text = number(value.get("mean"), digits) + (" †" if marked else "")
    if arm.get("is_baseline"):
        return Cell(text, interval(value.get("low"), value.get("high"), digits))
    # An incomplete arm's delta would be over other pairs than its neighbours': its mean is shown, nothing is ranked.
    if not row or not row.get("complete") or not arm.get("complete") or finite(row.get("delta")) is None:
        return Cell(text)
    tone = "" if marked else effect(results, row)
    delta = f"{number(row['delta'], digits, sign=True)} {interval(row['low'], row['high'], digits, sign=True)}"
    return Cell(text, delta.strip() + GLYPHS.get(tone, ""), tone, strong=(*_place(arm), name) in best)


def _win(arm: Row, row: Row | None) -> Cell:
    if not row or not row.get("complete") or not arm.get("complete") or finite(row.get("win_rate")) is None:
        return Cell(MISSING)
    text = percent(row["win_rate"], row.get("win_low"), row.get("win_high")) + (" †" if row.get("marked") else "")
    counts = f"{row.get('win')}/{row.get('tie')}/{row.get('loss')}"
    p = p_value(row.get("p_holm"))
    return Cell(text, f"{counts}, {p}" if p else counts)


def _cost(arm: Row, base: Row) -> list[Cell]:
    cost = arm.get("cost") or {}
    stages = [Cell(number(cost.get(name), 1)) for name in ("encode_ms", "noise_ms", "sampling_ms", "decode_ms")]
    total, reference = finite(cost.get("total_ms")), finite(base.get("total_ms"))
    ratio = f"× {total / reference:.2f}" if total is not None and reference and not arm.get("is_baseline") else ""
    peak = finite(cost.get("peak_bytes"))
    memory = Cell(MISSING if peak is None else f"{peak / 2**20:,.0f} MiB")
    counts = [cost.get("n_timed"), cost.get("from_cache")]
    return [
        *(Cell(_count(cost.get(f"calls_{name}"))) for name in ("noise", "sampling", "total")),
        *stages,
        Cell(number(total, 1), ratio),
        memory,
        *(Cell(_count(value)) for value in counts),
    ]


def _count(value: Any) -> str:
    known = finite(value)
    return MISSING if known is None else f"{known:,.4g}" if known < 1000 else f"{known:,.0f}"


# Markdown ------------------------------------------------------------------------------------------------------------

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
    line = re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", str(text)).strip()
    line = line.translate(_SPECIAL)
    # Only what would act is escaped, so that intervals and method names stay readable in the source.
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)
    line = re.sub(r"\](?=[(\[:])", r"\\]", line)
    # GitHub links bare addresses by their scheme or by www.
    line = re.sub(r"(?i)\b(javascript|vbscript|data|mailto|xmpp|\w+(?=://)):", r"\1&#58;", line)
    return re.sub(r"(?i)\b(www)\.", r"\1&#46;", line)


def render(results: Results) -> str:
    """The whole report as Markdown; long reports lose the single prompt sets first, then their end."""
    text = ""
    for detail in (True, False):
        text = _document(results, detail=detail)
        if len(text) < LIMIT:
            return text
    notice = "\n\n(Cut here for length; report.html and results.json hold everything.)\n"
    return text[: text.rfind("\n", 0, LIMIT - len(notice) - 1)] + notice


def _document(results: Results, *, detail: bool) -> str:
    suite = results.get("suite", {})
    items = [(f"**{text}**" if level == "alarm" else text) for level, text in
             ((level, escape(text)) for level, text in trust(results))]  # fmt: skip
    parts = [
        f"# {escape(suite.get('title') or suite.get('name') or 'Results')}",
        "\n\n".join(compared(results, escape=escape)),
        "## Verdict",
        _bullets(map(escape, verdict(results))),
        "## How far to trust this",
        _bullets(items),
        *_table(metric_table(results, detail=detail)),
        *_table(win_table(results, detail=detail)),
        *(_table(task_table(results)) if results.get("tasks") else []),
        *_table(cost_table(results)),
        *_pairs(results),
        *(["## Notes", _bullets(map(escape, results["notes"]))] if results.get("notes") else []),
        "## Provenance",
        _bullets(f"{escape(name)}: {escape(value)}" for name, value in provenance(results)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict(results: Results) -> list[str]:
    """The verdicts that the results carry, else our own sentences; never nothing."""
    return list(results.get("verdicts") or []) or sentences(results) or ["Nothing was compared."]


def compared(results: Results, *, escape: Any = str) -> list[str]:
    """What was compared, in a few sentences."""
    suite, arms = results.get("suite", {}), results.get("arms") or []
    methods = [name for name in distinct(arm["method"] for arm in arms) if name != baseline_name(results)]
    sets = [name for name in distinct(arm["prompts"] for arm in arms) if name != POOLED]
    models, settings = distinct(arm["model"] for arm in arms), distinct(map(setting, arms))
    said = [f"Suite {escape(suite.get('name'))} ({escape(suite.get('id'))})."]
    if suite.get("reproduces"):
        said[0] += f" Reproduces {escape(suite['reproduces'])}."
    if not arms:
        return [*said, "No arm was measured."]
    said.append(
        f"{escape(', '.join(methods) or 'No method')} against {escape(baseline_name(results))}, each on the same "
        f"prompts, seeds and starting noise; model {escape(', '.join(models))}; "
        f"prompts {escape(', '.join(sets) or 'all sets')}; {escape('; '.join(settings))}."
    )
    return said


def provenance(results: Results) -> list[tuple[str, str]]:
    """Name and value of everything that decided these numbers."""
    run, suite = results.get("run", {}), results.get("suite", {})
    known = run.get("provenance") or {}
    commit = f"{known.get('commit')}{' (with uncommitted changes)' if known.get('dirty') else ''}"
    rows = [("run", run.get("folder")), ("created", run.get("created")), ("suite id", suite.get("id")),
            ("command", suite.get("command") or known.get("command")), ("commit", commit)]  # fmt: skip
    rows += [(name, known.get(name)) for name in ("python", "hardware", "cpu", "gpu", "threads")]
    rows += [("packages", ", ".join(f"{name} {version}" for name, version in (known.get("packages") or {}).items()))]
    rows += [(f"weights of {name}", digest) for name, digest in (known.get("weights") or {}).items()]
    for name, metric in (results.get("metrics") or {}).items():
        twins = ", ".join(metric.get("twin_of") or [])
        parts = [metric.get("digest"), metric.get("scale"), f"twin of {twins}" if twins else ""]
        rows.append((f"metric {name}", "; ".join(str(part) for part in parts if part)))
    return [(name, str(value)) for name, value in rows if value not in (None, "", "None")]


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(table: Table) -> list[str]:
    if not table.rows:
        return []
    rule = ["---"] * table.labels + ["---:"] * (len(table.headers) - table.labels)
    lines = [[escape(name) for name in table.headers], rule, *([_cell(cell) for cell in row] for row in table.rows)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return [f"## {escape(table.title)}", body, "\n".join(f"{escape(note)}  " for note in table.notes).rstrip()]


def _cell(cell: Cell) -> str:
    text = f"**{escape(cell.text)}**" if cell.strong else escape(cell.text)
    return f"{text}<br>{escape(cell.sub)}" if cell.sub else text


def safe_path(path: Any) -> str:
    """A relative path inside the run folder as a quoted link; nothing for an address or a way out of the folder."""
    parts = str(path).replace("\\", "/").split("/")
    inside = bool(path) and ":" not in str(path) and ".." not in parts and parts[0] != ""
    return quote("/".join(parts)) if inside else ""


def _pairs(results: Results) -> list[str]:
    pairs = (results.get("pairs") or [])[:PAIRS_SHOWN]
    methods = distinct(name for pair in pairs for name in pair.get("images") or {})
    if not pairs:
        return []
    lines = [["prompt", "set", "seed", *map(escape, methods)], ["---"] * (3 + len(methods))]
    for pair in pairs:
        links = [_link(results, pair, name) for name in methods]
        lines.append([escape(pair["prompt"]), escape(pair.get("prompts")), escape(pair.get("seed")), *links])
    more = len(results["pairs"]) - len(pairs)
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return ["## Image pairs", body, f"{more} more in report.html." if more else ""]


def _link(results: Results, pair: Row, name: str) -> str:
    scores = (pair.get("scores") or {}).get(name) or {}
    text = ", ".join(f"{metric} {number(value, places(results, metric))}" for metric, value in scores.items())
    path = safe_path((pair.get("images") or {}).get(name))
    return f"{f'[image]({path})' if path else MISSING}<br>{escape(text)}"
