"""Four prompts by every method, side by side, for the first screen: chosen by a rule that is said beside them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from bench.metrics import direction
from bench.records import ComparisonRow, PairRow, Results
from bench.report.panels import methods as every_method
from bench.report.strongest import controls, leading
from bench.report.words import kind, metric_title, number, places, setting_key

COLUMNS = 6
"""Methods that are shown, the baseline among them."""
SEED = 0
"""Of the one that is drawn at random."""
ROWS = 4


@dataclass(frozen=True)
class Shown:
    """One prompt of the strip, and why it is there."""

    pair: PairRow
    why: str
    change: str
    """The method's delta on it, as text; empty where it was not chosen by a score."""


@dataclass(frozen=True)
class Strip:
    """What the first screen shows of the images."""

    methods: list[str]
    rows: list[Shown]
    rule: str
    """How the rows were chosen, in one sentence."""


def strip(results: Results) -> Strip | None:
    """The strip of results; None where they have no pair with images."""
    names = _columns(results)
    pairs = [pair for pair in results.pairs if sum(name in pair.images for name in names) > 1]
    if not pairs or len(names) < 2:
        return None
    found = _by_score(results, pairs, names[1])
    if found is None:
        rows = [Shown(pair, "", "") for pair in _spaced(pairs)]
        return Strip(
            names, rows, f"Evenly spaced over the {len(pairs):,} pairs of this report, for no score orders them."
        )
    return Strip(names, *found)


def _columns(results: Results) -> list[str]:
    """The baseline, the method of the headline, then the others but controls, in the suite's order."""
    baseline, out, first = results.suite.baseline, controls(results), leading(results)
    known = [name for name in every_method(results) if name != baseline]
    others = [name for name in known if name not in out] or known
    ahead = [first.method] if first else []
    return [baseline, *ahead, *(name for name in others if name not in ahead)][:COLUMNS]


def _by_score(results: Results, pairs: Sequence[PairRow], method: str) -> tuple[list[Shown], str] | None:
    """The rows by one method's deltas, with the rule; None where no metric has scored it and the baseline."""
    row = leading(results)
    for metric in _metrics(results, row):
        known = _deltas(results, pairs, method, metric, row)
        if known:
            return _chosen(results, known, method, metric)
    return None


def _metrics(results: Results, row: ComparisonRow | None) -> list[str]:
    """Metrics that score an image, the headline's first."""
    names = [name for name in results.metrics if kind(results, name) != "set"]
    return sorted(names, key=lambda name: row is None or name != row.metric)


def _deltas(
    results: Results, pairs: Sequence[PairRow], method: str, metric: str, row: ComparisonRow | None
) -> list[tuple[float, PairRow]]:
    """(delta, pair) of the pairs of the headline's setting, best for the method first, equal ones as they come."""
    sign = direction.sign(results.metrics[metric].higher_is_better)
    baseline, known = results.suite.baseline, []
    for pair in pairs:
        if row is not None and setting_key(results.settings[pair.setting]) != setting_key(row):
            continue
        mine, base = (pair.scores.get(name, {}).get(metric) for name in (method, baseline))
        if mine is not None and base is not None and {method, baseline} <= pair.images.keys():
            known.append((mine - base, pair))
    return sorted(known, key=lambda one: -sign * one[0])


def _chosen(
    results: Results, known: Sequence[tuple[float, PairRow]], method: str, metric: str
) -> tuple[list[Shown], str]:
    places_ = {"largest gain": 0, "median": (len(known) - 1) // 2, "largest loss": len(known) - 1}
    rest = [place for place in range(len(known)) if place not in places_.values()]
    if rest:
        places_["random"] = random.Random(SEED).choice(rest)
    rows, used = [], set()
    for why, place in places_.items():
        if place in used:
            continue
        used.add(place)
        delta, pair = known[place]
        said = f"{metric_title(results, metric)} {number(delta, places(results, metric), sign=True)}"
        rows.append(Shown(pair, why, said))
    listed = "the largest gain, the median, the largest loss" + (f", and one at random (seed {SEED})" if rest else "")
    by = f"{metric_title(results, metric)} of {method} against {results.suite.baseline}"
    return rows, f"Chosen by {by}, of {len(known):,} pairs: {listed}."


def _spaced(pairs: Sequence[PairRow]) -> list[PairRow]:
    """Up to ROWS of them, the first and the last among them."""
    if len(pairs) <= ROWS:
        return list(pairs)
    return [pairs[round(place * (len(pairs) - 1) / (ROWS - 1))] for place in range(ROWS)]
