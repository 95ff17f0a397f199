"""Tables that take the results apart: cost stage by stage, seeds one by one, prompt categories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench.costs import of_means
from bench.measure import PROCESS
from bench.paired import SHORTEST_MS
from bench.report.tables import Cell, Table, has_settings, label_headers, labels_of, metric_header, preferred
from bench.report.words import (
    MISSING,
    Results,
    Row,
    baseline_name,
    distinct,
    finite,
    interval,
    kind,
    mark_of,
    metric_title,
    mixed,
    number,
    percent,
    places,
    pooled,
    prompts_name,
    setting,
    setting_key,
)
from bench.stats import FEWEST_BATCHES

STAGES = ("encode", "noise", "sampling", "decode", "select")
COUNTED = {"backwards": "of them gradients", "networks": "extra networks", "rewards": "images scored"}
"""Columns that stand there where a method has any."""
LONG = 60  # rows; a longer breakdown is folded away

# Cost ----------------------------------------------------------------------------------------------------------------


def cost_table(results: Results) -> Table:
    """What an image costs, stage by stage; a method's cost is a result."""
    arms = pooled(results.get("arms") or [])
    base = {(setting_key(arm), arm["prompts"]): arm.get("cost") or {} for arm in arms if arm.get("is_baseline")}
    costs = [arm.get("cost") or {} for arm in arms]
    stages = [stage for stage in STAGES if stage != "select" or any(finite(c.get("select_ms")) for c in costs)]
    counted = {name: said for name, said in COUNTED.items() if any(finite(c.get(name)) for c in costs)}
    headers = ["calls: noise", "sampling", "total", *counted.values(), *(f"{stage} ms" for stage in stages), "total ms",
               "peak memory", "timed", "from cache"]  # fmt: skip
    several = has_settings(results)
    rows = [
        [
            *labels_of(results, arm, several=several),
            *_cost(arm, base.get((setting_key(arm), arm["prompts"]), {}), stages, list(counted)),
        ]
        for arm in arms
    ]
    kinds = distinct((arm.get("cost") or {}).get("peak_kind") for arm in arms)
    notes = [
        "Per image. Calls are denoiser calls; timed is the number of images that the times are means of; from cache is "
        f"the number taken over from earlier runs. × is against {baseline_name(results)}. {_peak_note(kinds, costs)}"
    ]
    if any(_ratios(arm) for arm in arms):
        notes.append(
            "× with an interval: the ratio of the two means over images that this run made on the same hardware, with "
            f"its 95 % interval over batches, of {FEWEST_BATCHES} or more; no ratio of stages under {SHORTEST_MS:g} ms."
        )
    return Table("Cost", [*label_headers(results), *headers], len(label_headers(results)), rows, notes)


def _peak_note(kinds: Sequence[Any], costs: Sequence[Row]) -> str:
    """What peak memory is of; a process's is said once, beside no method."""
    apart = sorted({c["memory_batch"] for c in costs if finite(c.get("memory_bytes")) is not None})
    if apart:
        images = " or ".join(f"{n} image{'s' * (n > 1)}" for n in apart)
        return (
            "Peak memory: of the noise stage or of sampling, whichever needs more, above the loaded model, for a batch "
            f"of {images} in a process of its own; one batch, so × has no interval."
        )
    of_process = [c["peak_bytes"] for c in costs if c.get("peak_kind") == PROCESS and finite(c.get("peak_bytes"))]
    if not of_process:
        return f"Peak memory: {', '.join(str(name) for name in kinds if name) or MISSING}."
    return (
        f"On a CPU memory is measured of the whole process, {max(of_process) / 2**20:,.0f} MiB at its peak: whatever "
        "ran before a method is in it, so no method's is shown."
    )


def _ratios(arm: Row) -> dict[str, Row]:
    """The ratios that were measured, by the name of what they compare."""
    given = (arm.get("cost") or {}).get("ratios") or {}
    return {name: row for name, row in given.items() if row and finite(row.get("ratio")) is not None}


def _cost(arm: Row, base: Row, stages: Sequence[str], counted: Sequence[str]) -> list[Cell]:
    cost, known = arm.get("cost") or {}, "ratios" in (arm.get("cost") or {})

    def ratio(name: str) -> str:
        if arm.get("is_baseline"):
            return ""
        if row := _ratios(arm).get(name):
            said, bounds = number(row["ratio"], 2), interval(row.get("low"), row.get("high"), 2)
            # A count that every pair agrees on has no interval worth a line.
            return f"× {said} {'' if bounds == f'[{said}, {said}]' else bounds}".rstrip()
        # Results without ratios still tell how the two means of the whole image's time compare.
        plain = of_means(finite(cost.get(name)), finite(base.get(name)))
        return f"× {plain:.2f}" if name == "total_ms" and not known and plain else ""

    return [
        *(Cell(_count(cost.get(name))) for name in ("calls_noise", "calls_sampling")),
        Cell(_count(cost.get("calls_total")), ratio("calls_total")),
        *(Cell(_count(cost.get(name))) for name in counted),
        *(Cell(number(cost.get(f"{stage}_ms"), 1), ratio(f"{stage}_ms")) for stage in stages),
        Cell(number(cost.get("total_ms"), 1), ratio("total_ms")),
        _peak(cost, ratio),
        *(Cell(_count(cost.get(name))) for name in ("n_timed", "from_cache")),
    ]


def _peak(cost: Row, ratio: Callable[[str], str]) -> Cell:
    """The memory measured apart where it was; else the peak of its batches, unless that is the whole process's."""
    if (own := finite(cost.get("memory_bytes"))) is not None:
        return Cell(f"{own / 2**20:,.1f} MiB", ratio("memory_bytes"))
    peak = None if cost.get("peak_kind") == PROCESS else finite(cost.get("peak_bytes"))
    return Cell(MISSING if peak is None else f"{peak / 2**20:,.0f} MiB", ratio("peak_bytes"))


def _count(value: Any) -> str:
    known = finite(value)
    return MISSING if known is None else f"{known:,.4g}" if known < 1000 else f"{known:,.0f}"


# Seeds and categories ------------------------------------------------------------------------------------------------


def seed_table(results: Results) -> Table:
    """Every seed alone, on all prompts: whether an effect hangs on the seeds (the paper's table 14)."""
    rows, names = _parts(results, "seeds", ("model", "sampler", "steps", "guidance", "method", "seed"))
    extra = ["setting"] if has_settings(results) else []
    laid = [
        [Cell(str(key[0])), *([Cell(setting(first))] if extra else []), Cell(str(key[4])), Cell(str(key[5])), *cells]
        for key, first, cells in rows
    ]
    notes = [
        "All prompt sets pooled. Mean; then the paired delta against "
        f"{baseline_name(results)} on the same seed with its 95 % interval. No correction for looking at many seeds: "
        "read the spread, not single rows."
    ]
    headers = ["model", *extra, "method", "seed", *(metric_header(results, name) for name in names)]
    return Table("Seeds", headers, 3 + len(extra), laid, notes, folded=len(laid) > LONG)


def category_table(results: Results) -> Table:
    """Prompt sets by their own categories."""
    rows, names = _parts(
        results, "categories", ("model", "sampler", "steps", "guidance", "prompts", "category", "method")
    )
    extra = ["setting"] if has_settings(results) else []
    laid = [
        [Cell(str(key[0])), *([Cell(setting(first))] if extra else []), Cell(prompts_name(str(key[4]))),
         Cell(str(key[5]) or "no category"), Cell(str(key[6]), f"n {first['n']}" if first.get("n") else ""), *cells]
        for key, first, cells in rows
    ]  # fmt: skip
    notes = [
        f"Mean; then the paired delta against {baseline_name(results)} with its 95 % interval. No correction for "
        "looking at many categories: where one matters, test it in a run of its own."
    ]
    headers = ["model", *extra, "prompts", "category", "method", *(metric_header(results, name) for name in names)]
    return Table("Categories", headers, 4 + len(extra), laid, notes, folded=True)


def mixed_table(results: Results) -> Table:
    """Categories of a metric whose mean over categories is no quantity of its own, side by side; before all means."""
    given = [row for row in results.get("categories") or [] if mixed(str(row["metric"]))]
    metric = str(given[0]["metric"]) if given else ""
    names = distinct(str(row.get("category")) for row in given)
    arms = {(*setting_key(arm), arm["prompts"], arm["method"]): arm for arm in results.get("arms") or []}
    groups: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in given:
        groups.setdefault((*setting_key(row), row["prompts"], row["method"]), {})[str(row.get("category"))] = row
    digits, several = places(results, metric), has_settings(results)
    laid = [
        [*labels_of(results, {**arms.get(key, {}), **next(iter(group.values()))}, several=several),
         *(_part(group.get(name) or {}, digits, mark=mark_of(arms.get(key, {}), metric), pair=False,
                 whole=arms.get(key, {}).get("complete", True)) for name in names)]
        for key, group in groups.items()
    ]  # fmt: skip
    notes = [
        f"Mean; then the paired delta against {baseline_name(results)} with its 95 % interval, not corrected for their "
        "number. Categories have scores of different kinds, shares and a cosine (non_spatial): compare within one."
    ]
    headers = [*label_headers(results), *(name.replace("_", " ") for name in names)]
    return Table(f"{metric_title(results, metric)} by category", headers, len(label_headers(results)), laid, notes)


def _parts(
    results: Results, part: str, columns: tuple[str, ...]
) -> tuple[list[tuple[tuple[Any, ...], Row, list[Cell]]], list[str]]:
    """((key, its first row, one cell a metric) a table row, metrics); rows of one key have one metric each."""
    groups: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in results.get(part) or []:
        groups.setdefault(tuple(row.get(name) for name in columns), {})[str(row["metric"])] = row
    found = {name for group in groups.values() for name in group}
    names = [name for name in results.get("metrics") or {} if name in found]
    digits = {name: places(results, name) for name in names}
    arms = results.get("arms") or []
    marks = {(arm["model"], arm["method"]): arm for arm in arms}
    # An incomplete arm's delta would be over other pairs than its neighbours'.
    lacking = {(*setting_key(arm), arm["prompts"], arm["method"]) for arm in arms if not arm.get("complete", True)}
    laid = []
    for key, group in groups.items():
        first = next(iter(group.values()))
        cells = [
            _part(
                group.get(name) or {},
                digits[name],
                mark=mark_of(marks.get((first.get("model"), first.get("method")), {}), name),
                pair=kind(results, name) == "pair",
                whole=(*setting_key(first), first.get("prompts"), first.get("method")) not in lacking,
            )
            for name in names
        ]
        laid.append((key, first, cells))
    return laid, names


def _part(row: Row, digits: int, *, mark: str, whole: bool, pair: bool) -> Cell:
    mark, known = mark if row else "", whole and finite(row.get("delta")) is not None
    if pair:
        rate = percent(row["win_rate"], row["win_low"], row["win_high"]) if known else MISSING
        return Cell(rate + mark if known or whole else preferred(row.get("mean")) + mark)
    text = number(row.get("mean"), digits) + mark
    if not known:
        return Cell(text)
    bounds = interval(row.get("low"), row.get("high"), digits, sign=True)
    return Cell(text, f"{number(row['delta'], digits, sign=True)} {bounds}".rstrip())
