"""Two runs, cell by cell: B - A on the same model, protocol, method, prompt and seed. Imports no torch.

Other protocols are said, never averaged: what only one run has is counted and named, and a metric that two different
scorers judged is not compared. Deltas, win rates and tests are on pairs and clustered by prompt text, as in `results`;
`"*"` in place of a prompt set means all sets pooled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench import registry
from bench.analysis.costs import costs
from bench.analysis.differences import differences, labels, near
from bench.analysis.judged import stacked
from bench.analysis.paired import Asking, adjust
from bench.analysis.pairing import Rows, Source, in_common, joined, same_texts, setting_of
from bench.analysis.sets import Sets, refusal
from bench.errors import NotComparable, UserError
from bench.metrics.base import MetricEntry
from bench.records.two_runs import SCHEMA, TwoRuns
from bench.runner.plan import Arm
from bench.suite import EVERY_PROMPT_SET as POOLED
from bench.suite import seeds as suite_seeds

KIND = "noisebench comparison"
_FIELDS = {"model": "models", "prompts": "prompt sets", "sampler": "samplers", "steps": "steps", "guidance": "guidance",
           "method": "methods"}  # fmt: skip

Row = dict[str, Any]


def compare(a: Path, b: Path) -> TwoRuns:
    """All that two run folders say of each other; unfinished runs by what they have so far.

    Raises UserError where a folder holds no readable run, NotComparable where the runs have no finished cell in common.
    """
    if a.resolve() == b.resolve():
        raise UserError(f"{a} and {b}: the same run folder twice; expected two runs")
    with Source(a) as one, Source(b) as two:
        # The record refuses what the schema does not name.
        return TwoRuns.model_validate(_Comparison(one, two).document())


@dataclass(frozen=True)
class _Both:
    """An arm's rows in A and in B, paired row for row, and how many cells there were to pair."""

    arm: Arm
    a: Rows
    b: Rows
    n_a: int
    n_b: int
    changed: int
    """Places whose prompt, or its metadata, is another one in the other run."""


class _Comparison:
    def __init__(self, a: Source, b: Source):
        self.a, self.b = a, b
        self.asking, self.sets = Asking(), Sets()
        self.entries: dict[str, MetricEntry] = {}
        self.scorers: dict[str, str] = {}
        self.not_compared: list[Row] = []

    def document(self) -> dict[str, Any]:
        shared = self._shared_arms()
        self._choose_metrics()
        arms: list[Row] = []
        comparisons: list[Row] = []
        for both in self._pairs(shared):
            arms.append(self._arm(both))
            comparisons += self._compare(both)
        self._refuse_nothing(arms)
        self.asking.answer()
        adjust(comparisons)
        only_a, only_b = ([arm for arm in x.arms if arm not in y.arms] for x, y in self._directions())
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "a": _about(self.a),
            "b": _about(self.b),
            "metrics": {
                name: _metric(entry, self.scorers[name])
                for name, entry in self.entries.items()
                if entry.kind != "set" or any(row["metric"] == name for row in comparisons)
            },
            "not_compared": self.not_compared,
            "arms": arms,
            "comparisons": comparisons,
            "only_a": [labels(arm) | {"cells": self.a.arms[arm]} for arm in only_a],
            "only_b": [labels(arm) | {"cells": self.b.arms[arm]} for arm in only_b],
            "different_protocol": list(near(only_a, only_b)),
            "differences": differences(self.a, self.b),
            "notes": list(self._notes(arms)),
        }

    def _directions(self) -> tuple[tuple[Source, Source], tuple[Source, Source]]:
        return (self.a, self.b), (self.b, self.a)

    # What is compared ------------------------------------------------------------------------------------------------

    def _shared_arms(self) -> list[Arm]:
        apart = f"{self.a.folder} and {self.b.folder} have nothing in common"
        negative = [run.suite.negative_prompt for run in (self.a, self.b)]
        if negative[0] != negative[1]:
            raise NotComparable(f"{apart}: negative prompt {negative[0]!r} against {negative[1]!r}")
        shared = [arm for arm in self.a.arms if arm in self.b.arms]
        if shared:
            return shared
        said = []
        for field, word in _FIELDS.items():
            values = [dict.fromkeys(getattr(arm, field) for arm in run.arms) for run in (self.a, self.b)]
            if not values[0].keys() & values[1].keys():
                said.append(f"{word} {' against '.join(', '.join(map(str, some)) for some in values)}")
        raise NotComparable(f"{apart}: {'; '.join(said) or 'no model, protocol, prompt set and method are in both'}")

    def _refuse_nothing(self, arms: list[Row]) -> None:
        if any(arm["n"] for arm in arms):
            return
        apart = f"{self.a.folder} and {self.b.folder} have no finished image in common"
        if any(arm["n_expected"] for arm in arms):
            lacking = [str(run.folder) for run in (self.a, self.b) if not run.n_images]
            said = f"{' and '.join(lacking)} has no image yet" if lacking else "they have made other parts so far"
            raise NotComparable(f"{apart}: {said}; finish the runs first")
        if any(arm["changed_prompts"] for arm in arms):
            raise NotComparable(f"{apart}: every prompt is another text; their prompt sets are different versions")
        seeds = [suite_seeds.shown(run.suite.seeds[:8]) for run in (self.a, self.b)]
        raise NotComparable(f"{apart}: seeds {seeds[0]} against {seeds[1]}, or other prompts of their sets")

    def _choose_metrics(self) -> None:
        """The metrics that one scorer judged in both runs; the others are listed with the reason."""
        asked = [run.metrics for run in (self.a, self.b)]
        for name in dict.fromkeys((*asked[0], *asked[1])):
            scorer, reason = self._scorer(name)
            if scorer is None:
                self.not_compared.append({"metric": name, "reason": reason})
                continue
            self.entries[name] = registry.get("metrics", name)
            self.scorers[name] = scorer

    def _scorer(self, metric: str) -> tuple[str | None, str]:
        if metric not in registry.names("metrics"):
            return None, "no plugin of this name is installed here, so its direction is not known"
        for name, run, other in (("A", self.a, self.b), ("B", self.b, self.a)):
            if metric not in run.metrics:
                return None, f"not measured in {name}"
            if run.scorer(metric) is None:
                return None, f"no score in {name} yet" + (" nor in the other" if other.scorer(metric) is None else "")
        bases = [run.suite.baseline for run in (self.a, self.b)]
        if registry.get("metrics", metric).kind == "pair" and bases[0] != bases[1]:
            return None, f"images are judged against those of {bases[0]} in A, of {bases[1]} in B"
        mine, theirs = self.a.scorer(metric), self.b.scorer(metric)
        if mine == theirs:
            return mine, ""
        common = [s for s in self.a.scorers[metric] if s in self.b.scorers[metric]]
        if common:
            return max(common, key=lambda s: min(run.scorers[metric][s] for run in (self.a, self.b))), ""
        return None, f"another scorer: digest {str(mine)[:12]} in A, {str(theirs)[:12]} in B"

    def _pairs(self, shared: list[Arm]) -> Iterator[_Both]:
        """The shared arms, and after the last prompt set of a setting and method all of its sets as one."""
        groups: dict[tuple[Any, ...], list[Arm]] = {}
        for arm in shared:
            groups.setdefault((setting_of(arm), arm.method), []).append(arm)
        for group in groups.values():
            parts = []
            for arm in group:
                a, b = self.a.rows(arm, self.scorers), self.b.rows(arm, self.scorers)
                left, right, changed = in_common(a, b)
                parts.append(_Both(arm, a.take(left), b.take(right), len(a), len(b), changed))
                yield parts[-1]
            n_a, n_b, changed = (sum(getattr(p, name) for p in parts) for name in ("n_a", "n_b", "changed"))
            whole = joined([p.a for p in parts]), joined([p.b for p in parts])
            yield _Both(replace(group[0], prompts=POOLED), *whole, n_a, n_b, changed)

    # Rows of the tables ----------------------------------------------------------------------------------------------

    def _arm(self, both: _Both) -> Row:
        made = both.a.made & both.b.made
        a, b = both.a.take(made), both.b.take(made)
        return labels(both.arm) | {
            "n_a": both.n_a,
            "n_b": both.n_b,
            "n_expected": len(both.a),
            "n": len(a),
            "complete": bool(len(a)) and len(a) == len(both.a),
            "changed_prompts": both.changed,
            "identical": int(same_texts(a.words["digest"], b.words["digest"]).sum()),
            "same_noise": int(same_texts(a.words["latent_digest"], b.words["latent_digest"]).sum()),
            "cost": costs(a, b),
        }

    def _compare(self, both: _Both) -> Iterator[Row]:
        texts = np.unique(both.a.texts, return_inverse=True)[1] if len(both.a) else np.empty(0, np.int64)
        marked = {*self.a.marked(both.arm), *self.b.marked(both.arm)}
        kin = {name for run in (self.a, self.b) for name in run.siblings(both.arm, self.entries.values())} - marked
        for name, entry in self.entries.items():
            expected = sum(map(entry.judges, both.a.carried)) if entry.needs_metadata else len(both.a.carried)
            # The baseline beside itself is no comparison.
            if not expected or (entry.kind == "pair" and both.arm.method == self.a.suite.baseline):
                continue
            if entry.kind == "set":
                features = zip(both.a.features[name], both.b.features[name], strict=True)
                there = np.array([one is not None and other is not None for one, other in features], dtype=bool)
            else:
                there = ~np.isnan(both.a.scores[name]) & ~np.isnan(both.b.scores[name])
            n = int(there.sum())
            if entry.kind == "set" and (why := refusal(entry, n)):
                self._refuse(name, why)
                continue
            row = labels(both.arm) | {"metric": name, "n": n, "n_expected": expected}
            row |= {"complete": bool(n) and (n == expected or entry.partial)}
            row |= {"marked": name in marked, "sibling": name in kin}
            if entry.kind == "set":
                yield from self._compare_sets(row, entry, both.a.take(there), both.b.take(there))
                continue
            a, b = both.a.scores[name][there], both.b.scores[name][there]
            row |= {"mean_a": float(a.mean()) if n else None, "mean_b": float(b.mean()) if n else None}
            yield self.asking.compare(row, entry, b, a, texts[there])

    def _compare_sets(self, row: Row, entry: MetricEntry, a: Rows, b: Rows) -> Iterator[Row]:
        features = [stacked(entry.name, dict(enumerate(rows.features[entry.name])), len(rows)) for rows in (a, b)]
        texts, sets = np.unique(a.texts, return_inverse=True)[1], [some.of(np.arange(len(a))) for some in features]
        values = [self.sets.value(entry, some, texts) for some in sets]
        row |= {f"mean_{x}": v.estimate for x, v in zip("ab", values, strict=True) if not isinstance(v, str)}
        row = self.sets.compare(row, entry, sets[1], sets[0], texts)
        why = next((one for one in (*values, row.pop("refused", None)) if isinstance(one, str)), None)
        if why:
            self._refuse(entry.name, why)
        else:
            yield row

    def _refuse(self, metric: str, why: str) -> None:
        if all(row["metric"] != metric for row in self.not_compared):
            self.not_compared.append({"metric": metric, "reason": f"{why} in both runs"})

    # Words -----------------------------------------------------------------------------------------------------------

    def _notes(self, arms: list[Row]) -> Iterator[str]:
        for name, run in (("A", self.a), ("B", self.b)):
            if not run.finished:
                yield f"{name} is not finished ({run.n_images} of {run.n_cells} images): this is what it has so far."
            if len(run.sessions) > 1:
                yield f"{name} was made in {len(run.sessions)} sessions; its provenance is the last one's."
            if run.provenance.get("dirty"):
                yield f"{name} was made by code with uncommitted changes."
        pooled = [arm for arm in arms if arm["prompts"] == POOLED]
        for name, run in (("a", self.a), ("b", self.b)):
            lost = run.lost()
            if lost:
                yield (
                    f"{lost} image files of {name.upper()} are gone from its folder; their scores, digests and times "
                    "are still in its ledger."
                )
            cached = sum(arm["cost"][f"from_cache_{name}"] for arm in pooled)
            if cached:
                yield (
                    f"{cached} of {sum(arm['n'] for arm in pooled)} images of {name.upper()} came from the cache "
                    "and keep the times they were made with."
                )
        shared = sum(arm["cost"]["n_shared"] for arm in pooled)
        if shared:
            yield f"{shared} pairs are one image, timed once: they say nothing of speed and are left out of times."
        sizes = [sorted({n for arm in pooled for n in arm["cost"][f"batches_{x}"]}) for x in "ab"]
        if sizes[0] != sizes[1] and all(sizes):
            said = " against ".join(", ".join(map(str, some)) for some in sizes)
            yield (
                f"Images were made in batches of {said}; an image's time is its share of the batch's, and low bits of "
                "its pixels depend on the batch."
            )


def _about(run: Source) -> Row:
    return {
        "folder": run.folder.name,
        "path": run.folder.as_posix(),
        "suite": run.suite.name,
        "id": run.suite.id,
        "title": run.suite.title,
        "baseline": run.suite.baseline,
        "created": run.sessions[0].started if run.sessions else None,
        "sessions": len(run.sessions),
        "finished": run.finished,
        "cells": run.n_cells,
        "images": run.n_images,
        "provenance": run.provenance,
    }


def _metric(entry: MetricEntry, scorer: str) -> Row:
    facts = {name: getattr(entry, name) for name in ("title", "kind", "unit", "higher_is_better", "scale")}
    return facts | {"digest": scorer}
