"""Arms -> the rows of a results table: means, paired deltas, win rates, tests, cost ratios; by set, seed and category.

Every interval and test of a run is asked of one `Asking`, so that they are answered together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench import stats
from bench.analysis import equal_compute
from bench.analysis.arms import POOLED, Floats, Ints, Measured, MeasuredArm
from bench.analysis.costs import calls_of, cost_of, ratios
from bench.analysis.evidence import Siblings, record
from bench.analysis.paired import Asking, adjust, bounds
from bench.analysis.sets import Sets, refusal
from bench.metrics import direction
from bench.metrics.base import MetricEntry
from bench.records import ArmRow, CategoryRow, ComparisonRow, EqualComputeRow, Record, SeedRow, TaskRow
from bench.store.rows import Setting

Row = dict[str, Any]
"""A record while its numbers are still asked for."""
R = TypeVar("R", bound=Record)
Optimised = Callable[[MeasuredArm], Sequence[str]]
"""The metrics that are no evidence for an arm."""


def _records(kind: type[R], rows: Iterable[Row]) -> tuple[R, ...]:
    """Rows that are answered; one with a name or a value that its record has no place for is a mistake here."""
    return tuple(kind.model_validate(row) for row in rows)


def _those(texts: Ints, there: NDArray[np.bool_]) -> Ints:
    """The texts (n,) that are there; the very array where all are, so that metrics with the same pairs share it."""
    return texts if there.all() else texts[there]


@dataclass
class Tables:
    """Every row that `results.json` holds of arms and comparisons."""

    arms: tuple[ArmRow, ...]
    comparisons: tuple[ComparisonRow, ...]
    tasks: tuple[TaskRow, ...]
    seeds: tuple[SeedRow, ...]
    categories: tuple[CategoryRow, ...]
    equal_compute: tuple[EqualComputeRow, ...]


class Tabulation:
    """All rows of some arms against the baseline among them."""

    def __init__(
        self,
        measured: Measured,
        arms: Sequence[MeasuredArm],
        entries: Mapping[str, MetricEntry],
        *,
        baseline: str,
        optimised: Optimised,
        siblings: Siblings,
        plain: frozenset[str] = frozenset(),
    ):
        """`plain` are the labels of arms that are nothing but standard sampling, once or n times."""
        self.plain = plain
        self.measured, self.arms, self.entries = measured, arms, entries
        self.baseline, self.optimised, self.siblings = baseline, optimised, siblings
        self.bases: dict[tuple[Setting, str], MeasuredArm] = {
            (a.setting, a.prompts): a for a in arms if a.method == baseline
        }
        self.seed = np.array([p.seed for p in measured.pairs])
        self.category = np.array([p.category for p in measured.pairs])
        self._judges: dict[str, Any] = {}
        """By metric, whether it judges the prompt of each pair."""
        self.asking, self.sets = Asking(), Sets()

    def tables(self) -> Tables:
        """Ask, answer, fill in."""
        arms = [self._arm(a) for a in self.arms]
        comparisons = [row for a, of in zip(self.arms, arms, strict=True) for row in self._compare(a, of["metrics"])]
        tasks = [row for a in self.arms for m in self.entries if (row := self._tasks(a, m))]
        seeds = list(self._split("seed", self.seed, [a for a in self.arms if a.prompts == POOLED]))
        categories = list(self._split("category", self.category, [a for a in self.arms if a.prompts != POOLED]))
        equal = self._equal_compute()
        self.asking.answer()
        adjust(comparisons)
        return Tables(
            arms=_records(ArmRow, arms),
            comparisons=_records(ComparisonRow, comparisons),
            tasks=_records(TaskRow, tasks),
            seeds=_records(SeedRow, seeds),
            categories=_records(CategoryRow, categories),
            equal_compute=_records(EqualComputeRow, equal),
        )

    def _marks(self, metric: str, *arms: MeasuredArm) -> Row:
        """Whether one of the arms optimises the metric, or else a sibling of it."""
        marked = any(metric in self.optimised(arm) for arm in arms)
        sibling = any(one.metric == metric for arm in arms for one in self.siblings(arm))
        return {"marked": marked, "sibling": sibling and not marked}

    # Arms ------------------------------------------------------------------------------------------------------------

    def _arm(self, arm: MeasuredArm) -> Row:
        texts = self.measured.texts[arm.pair]
        metrics = {
            name: self._set(arm, name) if self.entries[name].kind == "set" else self._mean(name, values, texts)
            for name, values in self._columns(arm)
        }
        base, images = self.bases[arm.setting, arm.prompts], self.measured.images
        return {
            **arm.labels,
            "n_expected": len(arm.pair),
            "n": len(arm.made()),
            "complete": self._complete(arm),
            "is_baseline": arm is base,
            "metrics": metrics,
            "optimises": list(self.optimised(arm)),
            "siblings": record(self.siblings(arm)),
            "cost": cost_of(arm, images) | {"ratios": ratios(arm, base, images)},
        }

    def _columns(self, arm: MeasuredArm) -> Iterable[tuple[str, Floats]]:
        return zip(self.entries, arm.scores, strict=True)

    def _mean(self, metric: str, values: Floats, texts: Ints) -> Row:
        there = ~np.isnan(values)
        row: Row = {"mean": None, "low": None, "high": None, "n": int(there.sum())}
        if there.any():
            self.asking.mean(row, "mean", values[there], _those(texts, there), self.entries[metric].range)
        return row

    def _set(self, arm: MeasuredArm, metric: str) -> Row:
        """The value of the arm's images together, or why there is none."""
        entry, there = self.entries[metric], self._there(arm, metric)
        n = int(there.sum())
        row: Row = {"mean": None, "low": None, "high": None, "n": n}
        if metric not in arm.asked or not self._expected(arm, metric):
            return row
        if why := refusal(entry, n):
            return row | {"refused": why}
        features = self.measured.features[metric].of(arm.unit[there])
        found = self.sets.value(entry, features, self.measured.texts[arm.pair[there]])
        return row | ({"refused": found} if isinstance(found, str) else {"mean": found.estimate, **bounds(found)})

    def _there(self, arm: MeasuredArm, metric: str) -> Any:
        """Which of the arm's images a metric has judged, (n,)."""
        if self.entries[metric].kind == "set":
            return self.measured.features[metric].there(arm.unit)
        return ~np.isnan(arm.scores[self.measured.metrics.index(metric)])

    def _complete(self, arm: MeasuredArm) -> bool:
        if len(arm.made()) != len(arm.pair):
            return False
        return all(
            int(self._there(arm, name).sum()) == self._expected(arm, name) for name in self.entries if name in arm.asked
        )

    def _expected(self, arm: MeasuredArm, metric: str) -> int:
        """How many scores a complete arm has: of the prompts that a metric judges, or of people what they voted on."""
        entry = self.entries[metric]
        if entry.partial:
            return int(self._there(arm, metric).sum())
        return self._judged(arm, metric)

    def _judged(self, arm: MeasuredArm, metric: str) -> int:
        """How many of the arm's pairs have a prompt that a metric judges, by the metadata that it carries."""
        entry = self.entries[metric]
        if not entry.needs_metadata:
            return len(arm.pair)
        if metric not in self._judges:
            carried = (pair.carried for pair in self.measured.pairs)
            self._judges[metric] = np.fromiter(map(entry.judges, carried), bool, len(self.measured.pairs))
        return int(self._judges[metric][arm.pair].sum())

    # Comparisons -----------------------------------------------------------------------------------------------------

    def _compare(self, arm: MeasuredArm, values: dict[str, Row]) -> Iterator[Row]:
        """The arm's rows; where a set metric's code fails here, its `values` say so, for no row of a comparison can."""
        if arm.method == self.baseline:
            return
        base = self.bases[arm.setting, arm.prompts]
        pairs, ours, theirs = equal_compute.shared(arm, base)
        prompts = self.measured.texts[pairs]
        for number, (name, entry) in enumerate(self.entries.items()):
            if name not in arm.asked | base.asked or (entry.needs_metadata and not self._judged(arm, name)):
                continue
            row = {**arm.labels, "baseline": base.method, "metric": name}
            both = self._there(arm, name)[ours] & self._there(base, name)[theirs]
            if entry.kind == "set" and refusal(entry, int(both.sum())):
                continue  # the arms' rows and a note say why; it is nothing that the method lacks
            wanted = max(self._expected(arm, name), self._expected(base, name))
            complete = bool(both.any()) and (int(both.sum()) == wanted or entry.partial)
            row |= {"n": int(both.sum()), "complete": complete, **self._marks(name, arm)}
            texts = _those(prompts, both)
            if entry.kind == "set":
                units = arm.unit[ours][both], base.unit[theirs][both]
                features = [self.measured.features[name].of(some) for some in units]
                row = self.sets.compare(row, entry, features[0], features[1], texts)
                if why := row.pop("refused", None):
                    values[name] |= {"mean": None, "low": None, "high": None, "refused": why}
                yield row
                continue
            treated, control = arm.scores[number][ours][both], base.scores[number][theirs][both]
            yield self.asking.compare(row, entry, treated, control, texts, preferences=entry.kind == "pair")

    def _equal_compute(self) -> list[Row]:
        """Every arm against the plain one with as many denoiser calls."""
        costed = [equal_compute.Costed(a, calls_of(a, self.measured.images)) for a in self.arms]
        return equal_compute.rows(costed, plain=self.plain, baseline=self.baseline, compare=self._against_plain)

    def _against_plain(self, arm: MeasuredArm, plain: MeasuredArm) -> dict[str, Row]:
        """By metric of images, the paired delta; an arm's row of `_compare` says what is complete."""
        pairs, ours, theirs = equal_compute.shared(arm, plain)
        texts, found = self.measured.texts[pairs], {}
        for number, (name, entry) in enumerate(self.entries.items()):
            if entry.kind != "image":
                continue
            treated, control = arm.scores[number][ours], plain.scores[number][theirs]
            both = ~np.isnan(treated) & ~np.isnan(control)
            if not both.any():
                continue
            row: Row = {"delta": None, "low": None, "high": None, "n": int(both.sum())}
            row |= self._marks(name, arm, plain)
            self.asking.delta(row, entry, treated[both], control[both], _those(texts, both))
            found[name] = row
        return found

    # Parts -----------------------------------------------------------------------------------------------------------

    def _split(self, word: str, labels: Any, arms: Sequence[MeasuredArm]) -> Iterator[Row]:
        """Arms by seed or by category, where there is more than one: mean, paired delta and win rate of each part."""
        names, numbers = np.unique(labels, return_inverse=True)
        for arm in arms:
            parts = np.unique(numbers[arm.pair])
            if len(parts) < 2:
                continue
            if word == "seed" and len(parts) == len(arm.pair) and len(np.unique(self.measured.texts[arm.pair])) > 1:
                continue  # prompts with a seed each: the part of a seed would be one image
            base = self.bases[arm.setting, arm.prompts]
            pairs, ours, theirs = equal_compute.shared(arm, base)
            for part in parts.tolist():
                within = numbers[pairs] == part
                texts = self.measured.texts[pairs[within]]
                for number, (name, entry) in enumerate(self.entries.items()):
                    treated, control = arm.scores[number][ours][within], base.scores[number][theirs][within]
                    row = {**arm.labels, word: names[part].item(), "metric": name}
                    if (~np.isnan(treated)).any():
                        yield self._part(row, entry, treated, control if arm is not base else None, texts)

    def _part(self, row: Row, entry: MetricEntry, treated: Floats, control: Floats | None, texts: Ints) -> Row:
        both = ~np.isnan(treated) if control is None else ~np.isnan(treated) & ~np.isnan(control)
        texts = _those(texts, both)
        row |= {"n": int(both.sum()), "n_prompts": self.asking.prompts(texts), "mean": float(np.nanmean(treated))}
        row |= dict.fromkeys(("delta", "low", "high", *stats.RATES))
        if control is not None and both.any():
            deltas = (treated - control)[both]
            self.asking.delta(row, entry, treated[both], control[both], texts)
            self.asking.win_rate(row, direction.gain(deltas, entry), texts, preferences=entry.kind == "pair")
        return row

    def _tasks(self, arm: MeasuredArm, metric: str) -> Row | None:
        """The mean in each category of a metric, and over those means, where that is its overall number."""
        entry = self.entries[metric]
        if entry.overall != "categories" or entry.kind != "image":
            return None
        values = arm.scores[self.measured.metrics.index(metric)]
        of = self._categories(metric)[arm.pair]
        there = ~np.isnan(values) & np.isin(of, entry.categories)
        groups = {name: (of == name) & there for name in entry.categories if ((of == name) & there).any()}
        if not groups:
            return None
        row: Row = {**arm.labels, "metric": metric, "overall": None, "overall_low": None, "overall_high": None}
        row["tasks"] = {name: {"mean": float(values[g].mean()), "n": int(g.sum())} for name, g in groups.items()}
        texts = self.measured.texts[arm.pair[there]]
        self.asking.mean_of_means(row, "overall", values[there], of[there], texts, entry.range)
        return row

    def _categories(self, metric: str) -> Any:
        """Which of a metric's categories each pair is in, as words."""
        entry = self.entries[metric]
        if entry.category is None:
            return self.category
        return np.array([entry.category_of(pair.shown) for pair in self.measured.pairs])
