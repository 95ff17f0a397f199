"""Networks of one recipe as one trained method: what their mean gains in a run.

A network is one draw of its training; another seed gives another. So the mean over several is compared, on the run's
own pairs, with the baseline and with other methods, and the interval holds networks and prompts (`stats.crossed`).
Of other methods against the baseline the interval is the report's own.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import stats
from bench.errors import UserError, nearest
from bench.stats.crossed import crossed_delta
from bench.stats.intervals import FEW, UNBOUNDED, range_of_deltas

if TYPE_CHECKING:
    import pandas as pd

HEAD = ("metric", "question", "mean delta", "each network", "error of networks", "error of prompts")
_ABOUT = (
    "Mean over {networks} networks and {prompts} prompts [95 % interval over both]; a question without a network has "
    "the interval over prompts. Errors are standard errors of the mean. † the training went by this metric, or by one "
    "that shares its weights."
)


@dataclass(frozen=True)
class Answer:
    """What one question has for an answer on one metric, in the metric's unit."""

    metric: str
    question: str
    estimate: float
    low: float
    high: float
    each: tuple[float, ...] = ()
    """The delta of each network."""
    errors: tuple[float, float] | None = None
    """Standard errors that networks and prompts add."""
    optimised: bool = False
    """Whether a network's training went by the metric."""
    prompts: int = 0
    """How many prompts it rests on."""

    def cells(self) -> list[str]:
        """As a row of the table."""
        shown = f"{self.estimate:+.3f} [{self.low:+.3f}, {self.high:+.3f}]{' †' if self.optimised else ''}"
        errors = [f"{one:.3f}" for one in self.errors] if self.errors else ["", ""]
        return [self.metric, self.question, shown, ", ".join(f"{one:+.3f}" for one in self.each), *errors]


def answers(folder: Path, networks: Sequence[str], against: Sequence[str] = ()) -> list[Answer]:
    """Every question on every metric of images of a run: others > baseline, networks > baseline, networks > others.

    UserError where the run lacks a method, or a pair of one, has several settings or fewer than 30 prompts, and for
    fewer than two networks.
    """
    import bench

    if len(networks) < 2:
        raise UserError(f"--network was given {len(networks)} time; the training's own spread needs at least two")
    run = bench.read(folder)
    baseline, scores = run.results.suite.baseline, run.scores
    there = list(dict.fromkeys(scores["method"]))
    for name in (*networks, *against):
        if name not in there:
            raise UserError(f"{folder}: no method {name!r} in this run{nearest(name, there)}")
    settings = scores[["model", "sampler", "steps", "guidance"]].drop_duplicates()
    if len(settings) > 1:
        raise UserError(f"{folder}: {len(settings)} settings (model, sampler, steps, guidance); expected a run of one")
    marked = {(row.method, row.metric) for row in run.results.comparisons if row.marked}
    found = []
    for metric, rows in scores.groupby("metric", sort=False):
        of = run.results.metrics[str(metric)]
        if of.kind != "image":
            continue
        sign = 1 if of.higher_is_better else -1
        value = {name: sign * _by_prompt(rows, name, baseline, folder) for name in (baseline, *networks, *against)}
        treated = np.stack([value[name] for name in networks])
        if treated.shape[1] < FEW:
            raise UserError(f"{folder}: {treated.shape[1]} prompts with {metric}; fewer than {FEW} decide nothing here")
        optimised = any((name, metric) in marked for name in networks)
        bounds = range_of_deltas(of.bounds)
        for other in against:
            delta = stats.paired_delta(value[other], value[baseline], range(treated.shape[1]), bounds or UNBOUNDED)
            question = f"{other} > {baseline}"
            found.append(Answer(str(metric), question, delta.estimate, delta.low, delta.high, prompts=len(treated[0])))
        for other in (baseline, *against):
            crossed = crossed_delta(treated - value[other])
            mean, each = crossed.interval, tuple((treated - value[other]).mean(axis=1).tolist())
            question, errors = f"networks > {other}", (crossed.networks, crossed.prompts)
            found.append(
                Answer(
                    str(metric), question, mean.estimate, mean.low, mean.high, each, errors, optimised, len(treated[0])
                )
            )
    return found


def _by_prompt(rows: pd.DataFrame, method: str, baseline: str, folder: Path) -> np.ndarray:
    """A method's mean score of each prompt over its seeds, (prompts,), in the order of sets and prompts."""
    pair = ["prompts", "index", "seed"]
    own, pairs = (rows[rows["method"] == name].sort_values(pair) for name in (method, baseline))
    if own[pair].to_numpy().tolist() != pairs[pair].to_numpy().tolist():
        raise UserError(
            f"{folder}: {method} has {len(own)} scores of {rows['metric'].iloc[0]}, {baseline} {len(pairs)}; run the "
            "suite again, which makes what is missing"
        )
    means: np.ndarray = own.groupby(["prompts", "index"])["value"].mean().to_numpy()
    return means


def run(
    folder: Path,
    networks: Sequence[str],
    against: Sequence[str] = (),
    *,
    out: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """`npnet trainings`: print the table as Markdown; with `out` also as CSV."""
    found = answers(folder, networks, against)
    rows = [one.cells() for one in found]
    rule = ["---"] * 4 + ["---:"] * 2
    say("\n".join(f"| {' | '.join(row)} |" for row in (HEAD, rule, *rows)))
    say("\n" + _ABOUT.format(networks=len(networks), prompts=max((one.prompts for one in found), default=0)))
    if out is not None:
        with out.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([HEAD, *rows])
