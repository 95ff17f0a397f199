"""Which runs stand in one table, and why others do not: a number is ranked only among those of its own protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields

from bench.metrics import direction
from bench.records import ArmRow, ComparisonRow, MetricRow, Ratio, Results
from bench.report.words import POOLED, effect, interval, number, places, setting
from bench.site.sources import Shown


@dataclass(frozen=True)
class Protocol:
    """What must be the same for two methods to be read beside each other."""

    model: str
    weights: str
    """Digest or commit of the model's weights; empty where no run says it."""
    sampler: str
    steps: int
    guidance: float
    prompts: tuple[str, ...]
    """The prompt sets, pooled."""
    images: int
    """Images of the baseline that the suite asks for: prompts times seeds."""
    baseline: str
    twin: bool
    """Whether the embedded world stands for the real one."""

    @property
    def words(self) -> str:
        """`ddim, 50 steps, g 5.5`."""
        return setting(self)


WORDS = {
    "model": "model",
    "weights": "weights of the model",
    "sampler": "sampler",
    "steps": "steps",
    "guidance": "guidance",
    "prompts": "prompt sets",
    "images": "images an arm",
    "baseline": "baseline",
    "twin": "embedded stand-ins",
}
"""What each field is called where it differs."""


@dataclass(frozen=True)
class Column:
    """A metric by one scorer. Another digest is another column: its numbers are other numbers."""

    metric: str
    digest: str
    row: MetricRow


@dataclass(frozen=True)
class Value:
    """One number of a row, as it is printed."""

    text: str
    sub: str = ""
    tone: str = ""
    sort: float | None = None
    """By which rows are ordered; None stands last."""
    mark: str = ""
    """Why it is no evidence: the method optimises the metric, or was chosen by what it shares with another."""


@dataclass(frozen=True)
class Row:
    """A method of one run."""

    method: str
    run: Shown
    n: int
    is_baseline: bool
    complete: bool
    values: dict[Column, Value]
    calls: Value
    time: Value
    hardware: str


@dataclass
class Board:
    """One table of the leaderboard."""

    protocol: Protocol
    columns: list[Column] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)
    """Tables of the same model that this one is not merged with, and what differs, a line each."""

    @property
    def runs(self) -> list[Shown]:
        return list({row.run.digest: row.run for row in self.rows}.values())


def boards(runs: Sequence[Shown]) -> list[Board]:
    """A table for each protocol, those of most runs first; each says why others of its model are apart."""
    found: dict[Protocol, Board] = {}
    for run in runs:
        for protocol, arms in _arms(run.results):
            board = found.setdefault(protocol, Board(protocol))
            _take(board, run, arms)
    ordered = sorted(found.values(), key=lambda board: -len(board.runs))
    for board in ordered:
        _order(board)
        board.notes += [*_two_scorers(board), *_baselines(board)]
        board.apart += _apart(board, ordered)
    return ordered


def _arms(results: Results) -> Iterator[tuple[Protocol, list[ArmRow]]]:
    """The arms of each protocol, all prompt sets pooled; of a single set its own rows are the pooled ones."""
    sets: dict[tuple[str, str, int, float], list[str]] = {}
    for arm in results.arms:
        names = sets.setdefault(arm.setting, [])
        if arm.prompts != POOLED and arm.prompts not in names:
            names.append(arm.prompts)
    for key, names in sets.items():
        wanted = names[0] if len(names) == 1 else POOLED
        arms = [arm for arm in results.arms if arm.setting == key and arm.prompts == wanted]
        base = [arm for arm in arms if arm.is_baseline]
        if base:
            model, sampler, steps, guidance = key
            yield (
                Protocol(
                    model, _weights(results, model), sampler, steps, guidance, tuple(sorted(names)),
                    base[0].n_expected, results.suite.baseline, results.suite.twin,
                ),
                arms,
            )  # fmt: skip


def _weights(results: Results, model: str) -> str:
    return next((w for run in results.runs if (w := run.provenance.weights.get(model))), "")


def _take(board: Board, run: Shown, arms: Sequence[ArmRow]) -> None:
    results = run.results
    columns = {name: Column(name, row.digest, row) for name, row in results.metrics.items()}
    known = {(c.metric, c.digest): c for c in board.columns}
    for name, column in columns.items():
        columns[name] = known.setdefault((column.metric, column.digest), column)
    board.columns = list(known.values())
    judged = {(row.setting, row.prompts, row.method, row.metric): row for row in results.comparisons}
    for arm in arms:
        values = {
            columns[name]: _value(arm, name, judged.get((arm.setting, arm.prompts, arm.method, name)), results)
            for name in arm.metrics
            if name in columns
        }
        cost = arm.cost
        board.rows.append(
            Row(
                arm.method, run, arm.n, arm.is_baseline, arm.complete, values,
                _cost(cost.calls_total, cost.ratios.calls_total, 0 if (cost.calls_total or 0) >= 100 else 1),
                _cost(cost.total_ms, cost.ratios.total_ms, 1),
                cost.hardware or "",
            )
        )  # fmt: skip


def _value(arm: ArmRow, metric: str, row: ComparisonRow | None, results: Results) -> Value:
    """A method's delta to its own run's baseline with its interval; of the baseline, and without a delta, the mean."""
    mean = arm.metrics[metric]
    digits = places(results, metric)
    if row is None or row.delta is None:
        return Value(number(mean.mean, digits), interval(mean.low, mean.high, digits))
    sign = direction.sign(results.metrics[metric].higher_is_better)
    mark = "†" if row.marked else "‡" if row.sibling else ""
    shown = effect(results, row)
    return Value(
        number(row.delta, digits, sign=True),
        interval(row.low, row.high, digits, sign=True),
        shown if shown in ("better", "worse") and not mark else "",
        None if mark or not row.complete else sign * row.delta,
        mark,
    )


def _cost(value: float | None, ratio: Ratio | None, digits: int) -> Value:
    times = f"× {number(ratio.ratio, 2)} {interval(ratio.low, ratio.high, 2)}".rstrip() if ratio else ""
    return Value(number(value, digits), times, sort=value)


def _order(board: Board) -> None:
    """The baseline first, then by the first metric on which most rows have evidence."""
    counted = {c: sum(c in r.values and r.values[c].sort is not None for r in board.rows) for c in board.columns}
    lead = max(board.columns, key=lambda c: counted[c], default=None)

    def key(row: Row) -> tuple[bool, float]:
        value = row.values.get(lead) if lead else None
        known = value.sort if value else None
        return not row.is_baseline, -(known if known is not None else float("-inf"))

    board.rows.sort(key=key)


# Why not in one table ------------------------------------------------------------------------------------------------


def _two_scorers(board: Board) -> Iterator[str]:
    by_name: dict[str, list[str]] = {}
    for column in board.columns:
        by_name.setdefault(column.metric, []).append(column.digest)
    for name, digests in by_name.items():
        if len(digests) > 1:
            yield (
                f"{name} stands in {len(digests)} columns: its scorers are different ({', '.join(digests)}), and "
                "numbers of different scorers are not comparable."
            )


def _baselines(board: Board) -> Iterator[str]:
    """Runs of one protocol whose baselines do not agree: other seeds, or other code."""
    bases = [row for row in board.rows if row.is_baseline]
    for column in board.columns:
        texts = {row.values[column].text: row.run.slug for row in bases if column in row.values}
        if len(texts) > 1:
            said = ", ".join(f"{text} in {slug}" for text, slug in texts.items())
            yield (
                f"{board.protocol.baseline} has another mean by {column.metric} from run to run ({said}): other seeds "
                "or other code. Each delta is to its own run's baseline."
            )
            return


def _apart(board: Board, others: Sequence[Board]) -> Iterator[str]:
    """Tables of the same model that this one is apart from, and what differs."""
    for other in others:
        if other is not board and other.protocol.model == board.protocol.model:
            said = "; ".join(differences(board.protocol, other.protocol))
            yield f"Not in one table with {_named(other)}: {said}."


def _named(board: Board) -> str:
    return ", ".join(run.slug for run in board.runs)


def differences(a: Protocol, b: Protocol) -> list[str]:
    """What two protocols differ in, a line each: `steps 20 against 50`."""
    found = []
    for one in fields(Protocol):
        mine, theirs = getattr(a, one.name), getattr(b, one.name)
        if mine != theirs:
            found.append(f"{WORDS[one.name]} {_said(mine)} against {_said(theirs)}")
    return found


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value) or "unknown"
