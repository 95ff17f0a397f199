"""The tables of two runs compared: quality, wins, costs, what was paired, what differs."""

from __future__ import annotations

from typing import Any

from bench.analysis.paired import SHORTEST_MS
from bench.records.two_runs import Calls, DeltaRow, PairedArm, PairedCost, Peak, Step, Times, TimeStep, TwoRuns
from bench.report import tables
from bench.report.tables import Cell, Table
from bench.report.words import (
    MISSING,
    OPTIMISED_NOTE,
    SIBLING_NOTE,
    distinct,
    effect,
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

MEBIBYTE = 2**20
STAGES = ("encode_ms", "noise_ms", "sampling_ms", "decode_ms", "select_ms", "total_ms")


def delta_table(found: TwoRuns) -> Table:
    """B - A of every metric: means of both, the paired delta with its interval, and the adjusted p."""
    at = tables.compared_at(found.comparisons)
    names = list(found.metrics)
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
    if any(row.marked for row in found.comparisons):
        notes.append(OPTIMISED_NOTE)
    if any(row.sibling for row in found.comparisons):
        notes.append(SIBLING_NOTE)
    headers = [*tables.label_headers(found), *(tables.metric_header(found, name) for name in names)]
    return Table("What changed in quality", headers, len(tables.label_headers(found)), body if names else [], notes)


def _delta(found: TwoRuns, row: DeltaRow | None, name: str) -> Cell:
    if row is None or row.delta is None:
        return Cell(MISSING)
    digits, tone = places(found, name), "" if row.marked else effect(found, row)
    delta = f"{number(row.delta, digits, sign=True)} {interval(row.low, row.high, digits, sign=True)}".rstrip()
    means = f"{number(row.mean_a, digits)} → {number(row.mean_b, digits)}"
    glyph = tables.GLYPHS.get(tone, "") + mark(row)
    p = p_value(row.p_holm)
    return Cell(delta + glyph, f"{means}, {p}" if p else means, tone)


def win_table(found: TwoRuns) -> Table:
    """How often B's image has the better score."""
    at = tables.compared_at(found.comparisons)
    names = [name for name in found.metrics if kind(found, name) != "set"]
    body = []
    for arm in _arms(found):
        cells = []
        for name in names:
            row = at.get((tables.place(arm), name))
            known = row is not None and row.win_rate is not None
            text = percent(row.win_rate, row.win_low, row.win_high) if row and known else MISSING
            cells.append(Cell(text, f"{row.win}/{row.tie}/{row.loss}" if row and known else ""))
        body.append([*tables.labels_of(found, arm), *cells])
    notes = ["Share of pairs that B wins, ties counted half, with its 95 % interval; then wins/ties/losses."]
    if any(not higher_is_better(found, name) for name in names):
        notes.append("Where lower is better, the lower score wins.")
    headers = [*tables.label_headers(found), *(metric_title(found, name) for name in names)]
    return Table("How often B wins", headers, len(tables.label_headers(found)), body if names else [], notes)


def coverage_table(found: TwoRuns) -> Table:
    """What was paired, and how much of it is the very same image."""
    headers = ["in both", "both made", "same image", "same start", "only A", "only B", "other prompt"]
    body = []
    for arm in _arms(found):
        numbers = [arm.n_expected, arm.n, arm.identical, arm.same_noise,
                   *(n - arm.n_expected - arm.changed_prompts for n in (arm.n_a, arm.n_b)),
                   arm.changed_prompts]  # fmt: skip
        body.append([*tables.labels_of(found, arm), *(Cell(f"{value:,}") for value in numbers)])
    notes = [
        "Cells (method × prompt × seed). Same image: equal pixels; same start: equal latent after the noise method. "
        "Other prompt: the same place of a set holds another text or other metadata."
    ]
    return Table(
        "What was paired", [*tables.label_headers(found), *headers], len(tables.label_headers(found)), body, notes
    )


def cost_table(found: TwoRuns) -> Table:
    """Time by stage, calls and memory, B beside A."""
    headers = [*(name.replace("_", " ") for name in STAGES), "timed", "calls", "peak memory"]
    body = [[*tables.labels_of(found, arm), *_cost(arm.cost)] for arm in pooled_arms(found) if arm.n]
    peaks = [arm.cost.peak for arm in pooled_arms(found) if arm.cost.peak]
    kinds = distinct(kind for peak in peaks for kind in (peak.kind_a, peak.kind_b))
    notes = [
        "A → B, means an image; × is B as a multiple of A with its 95 % interval, whose clusters are batches (none "
        f"of fewer than {FEWEST_BATCHES}, none of stages under {SHORTEST_MS:g} ms). Timed: pairs of two measurements "
        "on the same hardware."
        + (f" Peak memory: {', '.join(map(str, kinds))}." if kinds else "")
        + (" A process's peak is of all that ran before, so it is not compared." if PROCESS in kinds else "")
    ]
    return Table("Cost", [*tables.label_headers(found), *headers], len(tables.label_headers(found)), body, notes)


def _cost(cost: PairedCost) -> list[Cell]:
    return [
        *([Cell(MISSING)] * len(STAGES) if cost.times is None else map(_time, STAGES, _stages(cost.times))),
        Cell(f"{cost.n_timed:,}", cost.no_times or ""),
        _calls(cost.calls),
        _memory(cost.peak),
    ]


def _memory(peak: Peak | None) -> Cell:
    if peak is None or PROCESS in (peak.kind_a, peak.kind_b):
        return Cell(MISSING)
    return _step(peak.a / MEBIBYTE, peak.b / MEBIBYTE, 0, unit=" MiB", ratio=peak.ratio)


def _stages(times: Times) -> tuple[TimeStep, ...]:
    """By STAGES."""
    return times.encode_ms, times.noise_ms, times.sampling_ms, times.decode_ms, times.select_ms, times.total_ms


def _time(name: str, step: TimeStep) -> Cell:
    digits = 3 if name == "noise_ms" and step.a < 1 else 1
    return _step(step.a, step.b, digits, ratio=step.ratio, bounds=(step.low, step.high))


def _calls(calls: Calls | None) -> Cell:
    total: Step | None = calls.calls_total if calls else None
    return _step(total.a, total.b, 1) if total else Cell(MISSING)


def _step(
    a: float,
    b: float,
    digits: int,
    *,
    unit: str = "",
    ratio: float | None = None,
    bounds: tuple[float | None, float | None] = (None, None),
) -> Cell:
    """`12.0 → 13.1` over `× 1.09 [1.02, 1.17]`."""
    sub = f"× {number(ratio, 2)} {interval(*bounds, 2)}".rstrip() if ratio is not None else ""
    return Cell(f"{number(a, digits)} → {number(b, digits)}{unit}", sub)


def difference_table(found: TwoRuns) -> Table:
    """What the two runs were made with, where that differs."""
    body = [[Cell(row.group), Cell(row.what), Cell(_value(row.a)), Cell(_value(row.b))] for row in found.differences]
    return Table("What differs in how they were made", ["", "what", "A", "B"], 2, body)


def _value(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, list):  # a method's links are applied in order; anything else is a list of choices
        return (" + " if any(isinstance(one, dict) for one in value) else ", ").join(map(_value, value))
    if isinstance(value, dict):
        return " ".join([str(value.get("use")), *(f"{k}={v}" for k, v in value.items() if k != "use")])
    return "yes" if value is True else "no" if value is False else str(value)


def _arms(found: TwoRuns) -> list[PairedArm]:
    """Arms by set with the pooled ones last; only the pooled ones where there is a single set."""
    if len({arm.prompts for arm in found.arms} - {POOLED}) < 2:
        return pooled_arms(found)
    order = distinct((arm.model, setting(arm)) for arm in found.arms)
    sets = [*(name for name in distinct(arm.prompts for arm in found.arms) if name != POOLED), POOLED]
    return sorted(found.arms, key=lambda arm: (order.index((arm.model, setting(arm))), sets.index(arm.prompts)))


def all_tables(found: TwoRuns) -> list[Table]:
    """Every table that has a row."""
    given = (delta_table, win_table, cost_table, coverage_table, difference_table)
    return [table for table in (make(found) for make in given) if table.rows]


def pooled_arms(found: TwoRuns) -> list[PairedArm]:
    """The arms over all prompt sets."""
    return [arm for arm in found.arms if arm.prompts == POOLED]
