"""The tables of two runs compared: quality, wins, costs, what was paired, what differs."""

from __future__ import annotations

from typing import Any

from bench.analysis.paired import SHORTEST_MS
from bench.report import tables
from bench.report.tables import Cell, Table
from bench.report.words import (
    MISSING,
    SIBLING_NOTE,
    distinct,
    effect,
    finite,
    higher_is_better,
    interval,
    kind,
    mark,
    metric_title,
    number,
    p_value,
    percent,
    places,
    setting,
)
from bench.sampling.measure import PROCESS
from bench.stats import FEWEST_BATCHES
from bench.suite import EVERY_PROMPT_SET as POOLED

Comparison = Any
"""What `compare.compare` returns, a dictionary, with its rows as `rows` makes them for `words` and `tables`."""
Row = Any


class _Row(dict[str, Any]):
    """A dictionary whose names are attributes too, as those of records are."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def rows(value: Any) -> Any:
    """A comparison with attributes beside its keys."""
    if isinstance(value, dict):
        return _Row({name: rows(one) for name, one in value.items()})
    return [rows(one) for one in value] if isinstance(value, list | tuple) else value


STAGES = ("encode_ms", "noise_ms", "sampling_ms", "decode_ms", "select_ms", "total_ms")


def delta_table(found: Comparison) -> Table:
    """B - A of every metric: means of both, the paired delta with its interval, and the adjusted p."""
    at = tables.compared_at(found["comparisons"])
    names = list(found["metrics"])
    body = [
        [*tables.labels_of(found, arm), *(_delta(found, at.get((tables.place(arm), name)), name) for name in names)]
        for arm in _arms(found)
    ]
    notes = [
        "Paired delta B - A with its 95 % interval, clustered by prompt; below it the means of A and of B and the "
        "Holm-adjusted p. ▲ B clearly better, ▼ B clearly worse."
    ]
    kinds = {kind(found, name) for name in names}
    if "pair" in kinds:
        of = ", ".join(metric_title(found, name) for name in names if kind(found, name) == "pair")
        notes.append(
            f"{of}: 2p - 1 of each run's images against its own baseline's, p being how far they are preferred."
        )
    if "set" in kinds:
        of = ", ".join(metric_title(found, name) for name in names if kind(found, name) == "set")
        notes.append(f"{of}: one value for all images that both runs have.")
    if any(row["marked"] for row in found["comparisons"]):
        notes.append("† The method optimises this metric: not counted as evidence.")
    if any(row["sibling"] for row in found["comparisons"]):
        notes.append(SIBLING_NOTE)
    headers = [*tables.label_headers(found), *(tables.metric_header(found, name) for name in names)]
    return Table("What changed in quality", headers, len(tables.label_headers(found)), body if names else [], notes)


def _delta(found: Comparison, row: Row | None, name: str) -> Cell:
    if row is None or finite(row["delta"]) is None:
        return Cell(MISSING)
    digits, tone = places(found, name), "" if row["marked"] else effect(found, row)
    delta = f"{number(row['delta'], digits, sign=True)} {interval(row['low'], row['high'], digits, sign=True)}".rstrip()
    means = f"{number(row['mean_a'], digits)} → {number(row['mean_b'], digits)}"
    glyph = tables.GLYPHS.get(tone, "") + mark(row)
    p = p_value(row["p_holm"])
    return Cell(delta + glyph, f"{means}, {p}" if p else means, tone)


def win_table(found: Comparison) -> Table:
    """How often B's image has the better score."""
    at = tables.compared_at(found["comparisons"])
    names = [name for name in found["metrics"] if kind(found, name) != "set"]
    body = []
    for arm in _arms(found):
        cells = []
        for name in names:
            row = at.get((tables.place(arm), name))
            known = row is not None and finite(row["win_rate"]) is not None
            text = percent(row["win_rate"], row["win_low"], row["win_high"]) if row and known else MISSING
            cells.append(Cell(text, f"{row['win']}/{row['tie']}/{row['loss']}" if row and known else ""))
        body.append([*tables.labels_of(found, arm), *cells])
    notes = ["Share of pairs that B wins, ties counted half, with its 95 % interval; then wins/ties/losses."]
    if any(not higher_is_better(found, name) for name in names):
        notes.append("Where lower is better, the lower score wins.")
    headers = [*tables.label_headers(found), *(metric_title(found, name) for name in names)]
    return Table("How often B wins", headers, len(tables.label_headers(found)), body if names else [], notes)


def coverage_table(found: Comparison) -> Table:
    """What was paired, and how much of it is the very same image."""
    headers = ["in both", "both made", "same image", "same start", "only A", "only B", "other prompt"]
    body = []
    for arm in _arms(found):
        numbers = [arm["n_expected"], arm["n"], arm["identical"], arm["same_noise"],
                   *(arm[f"n_{x}"] - arm["n_expected"] - arm["changed_prompts"] for x in "ab"),
                   arm["changed_prompts"]]  # fmt: skip
        body.append([*tables.labels_of(found, arm), *(Cell(f"{value:,}") for value in numbers)])
    notes = [
        "Cells (method × prompt × seed). Same image: equal pixels; same start: equal latent after the noise method. "
        "Other prompt: the same place of a set holds another text or other metadata."
    ]
    return Table(
        "What was paired", [*tables.label_headers(found), *headers], len(tables.label_headers(found)), body, notes
    )


def cost_table(found: Comparison) -> Table:
    """Time by stage, calls and memory, B beside A."""
    headers = [*(name.replace("_", " ") for name in STAGES), "timed", "calls", "peak memory"]
    body = [[*tables.labels_of(found, arm), *_cost(arm["cost"])] for arm in pooled_arms(found) if arm["n"]]
    kinds = distinct(
        kind
        for arm in pooled_arms(found)
        if arm["cost"]["peak"]
        for kind in map(arm["cost"]["peak"].get, ("kind_a", "kind_b"))
    )
    notes = [
        "A → B, means an image; × is B as a multiple of A with its 95 % interval, whose clusters are batches (none "
        f"of fewer than {FEWEST_BATCHES}, none of stages under {SHORTEST_MS:g} ms). Timed: pairs of two measurements "
        "on the same hardware."
        + (f" Peak memory: {', '.join(map(str, kinds))}." if kinds else "")
        + (" A process's peak is of all that ran before, so it is not compared." if PROCESS in kinds else "")
    ]
    return Table("Cost", [*tables.label_headers(found), *headers], len(tables.label_headers(found)), body, notes)


def _cost(cost: Row) -> list[Cell]:
    cells = []
    for name in STAGES:
        row = (cost["times"] or {}).get(name)
        cells.append(_step(row, 3 if name == "noise_ms" and row and row["a"] < 1 else 1) if row else Cell(MISSING))
    reason = cost["no_times"] or ""
    calls, peak = (cost["calls"] or {}).get("calls_total"), cost["peak"]
    own = peak and PROCESS not in (peak["kind_a"], peak["kind_b"])
    memory = {side: peak[side] / 2**20 for side in ("a", "b")} | {"ratio": peak["ratio"]} if own else None
    return [
        *cells,
        Cell(f"{cost['n_timed']:,}", reason),
        _step(calls, 1) if calls else Cell(MISSING),
        _step(memory, 0, unit=" MiB") if memory else Cell(MISSING),
    ]


def _step(row: Row, digits: int, *, unit: str = "") -> Cell:
    """`12.0 → 13.1` over `× 1.09 [1.02, 1.17]`."""
    ratio = finite(row.get("ratio"))
    sub = f"× {number(ratio, 2)} {interval(row.get('low'), row.get('high'), 2)}".rstrip() if ratio is not None else ""
    return Cell(f"{number(row['a'], digits)} → {number(row['b'], digits)}{unit}", sub)


def difference_table(found: Comparison) -> Table:
    """What the two runs were made with, where that differs."""
    body = [
        [Cell(row["group"]), Cell(row["what"]), Cell(_value(row["a"])), Cell(_value(row["b"]))]
        for row in found["differences"]
    ]
    return Table("What differs in how they were made", ["", "what", "A", "B"], 2, body)


def _value(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, list):  # a method's links are applied in order; anything else is a list of choices
        return (" + " if any(isinstance(one, dict) for one in value) else ", ").join(map(_value, value))
    if isinstance(value, dict):
        return " ".join([str(value.get("use")), *(f"{k}={v}" for k, v in value.items() if k != "use")])
    return "yes" if value is True else "no" if value is False else str(value)


def _arms(found: Comparison) -> list[Row]:
    """Arms by set with the pooled ones last; only the pooled ones where there is a single set."""
    if len({arm["prompts"] for arm in found["arms"]} - {POOLED}) < 2:
        return pooled_arms(found)
    order = distinct((arm["model"], setting(arm)) for arm in found["arms"])
    sets = [*(name for name in distinct(arm["prompts"] for arm in found["arms"]) if name != POOLED), POOLED]
    return sorted(
        found["arms"], key=lambda arm: (order.index((arm["model"], setting(arm))), sets.index(arm["prompts"]))
    )


def all_tables(found: Comparison) -> list[Table]:
    """Every table that has a row."""
    found = rows(found)
    given = (delta_table, win_table, cost_table, coverage_table, difference_table)
    return [table for table in (make(found) for make in given) if table.rows]


def pooled_arms(found: Comparison) -> list[Row]:
    """The arms over all prompt sets."""
    return [arm for arm in found["arms"] if arm["prompts"] == POOLED]
