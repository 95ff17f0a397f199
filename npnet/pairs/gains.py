"""Teachers side by side: what their targets gain over the source noise, at the same cost of collection. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import registry, stats
from bench.errors import NotComparable, UserError, nearest
from npnet.pairs.scores import Scores, read_scores
from npnet.teachers.base import TEACHERS, choosers

_SAME = ("model_digest", "sampler", "sampler_identity", "steps", "guidance", "prompts_digest", "seeds")
"""What two collections' protocols must have in common: then their pairs begin with the same noises."""
_ABOUT = (
    "Gain of the target noise over the source noise [95 % interval, clustered by prompt], and the share of pairs kept "
    "at m = 0. † the teacher goes by this metric."
)


@dataclass(frozen=True)
class Middling:
    """Captions of middling difficulty: pairs whose prompt's other pairs have source scores of `low` to `high`, mean.

    A pair's own images take no part, so what it gains is not selected for. A prompt with a single pair is left out.
    """

    metric: str
    low: float
    high: float

    def of(self, scores: Scores) -> np.ndarray:
        """Whether each pair counts (n,)."""
        scores.check([self.metric])
        source = scores.values[self.metric][:, 0]
        number: dict[str, int] = {}
        code = np.array([number.setdefault(prompt, len(number)) for prompt in scores.prompts])
        others = np.bincount(code)[code] - 1
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (np.bincount(code, weights=source)[code] - source) / others
        found: np.ndarray = (others > 0) & (mean >= self.low) & (mean <= self.high)
        return found


def run(
    folders: Sequence[Path],
    *,
    calls: float | None = None,
    metrics: Sequence[str] = (),
    middling: Middling | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """`npnet teachers`: print a Markdown table with a row a collection, each cut to the pairs that `calls` buy.

    Without `calls` each has what the cheapest of them cost in all; without `metrics` those that every collection has.
    UserError for unknown metrics and a collection that is too small, NotComparable for collections of other settings
    or scorers.
    """
    collections = [read_scores(folder) for folder in folders]
    costs = [_cost(scores) for scores in collections]
    _check_same(collections)
    shared = sorted(set.intersection(*(set(scores.values) for scores in collections)))
    names = list(dict.fromkeys(metrics)) or shared
    if not names:
        raise UserError("the collections have no scores in common; add some with npnet score")
    for name in names:
        if name not in shared:
            raise UserError(f"no scores by {name!r} in every collection{nearest(name, shared)}")
        _check_scorer(collections, name)
    counted = [middling.of(scores) if middling else np.ones(len(scores), bool) for scores in collections]
    have = [int(mask.sum()) * cost for mask, cost in zip(counted, costs, strict=True)]
    spent = min(have) if calls is None else calls
    titles = [_title(name) for name in names]
    rows = [["teacher", "calls a pair", "pairs", *titles]]
    for scores, cost, mask, available in zip(collections, costs, counted, have, strict=True):
        if spent > available:
            raise UserError(
                f"{scores.folder}: its pairs cost {available:g} denoiser calls, and {spent:g} are asked for; "
                f"collect more, or give --calls {min(have):g} at the most"
            )
        taken = np.flatnonzero(mask)[: int(spent / cost)]
        if not len(taken):
            raise UserError(f"{scores.folder}: {spent:g} denoiser calls buy no pair of {cost:g}; give more --calls")
        own = set(choosers(list(scores.protocol.teacher)))
        cells = [_cell(scores, name, taken) + (" †" if name in own else "") for name in names]
        rows.append([described(scores.protocol.teacher), f"{cost:g}", f"{len(taken):,}", *cells])
    say(_markdown(rows))
    say(f"\n{_ABOUT} {spent:,.0f} denoiser calls each" + (_restricted(middling) if middling else "."))


def described(teacher: Sequence[dict[str, Any]]) -> str:
    """A teacher as a person would write it: `best_of_n (n 4)`; parameters at their defaults are left out."""
    return " + ".join(_link(link) for link in teacher)


def _link(link: dict[str, Any]) -> str:
    use = str(link["use"])
    kind = TEACHERS.get(use) or (registry.get("methods", use) if use in registry.names("methods") else None)
    said = [
        f"{key} {link[key]:g}" if isinstance(link[key], float) else f"{key} {link[key]}"
        for key, field in (kind.model_fields if kind else {}).items()
        if key in link and link[key] != field.default and not isinstance(link[key], str)
    ]
    return f"{use} ({', '.join(said)})" if said else use


def _cost(scores: Scores) -> float:
    if scores.calls is None:
        raise UserError(f"{scores.folder}: its shards do not say what they cost; collect it again with this version")
    return scores.calls


def _check_same(collections: Sequence[Scores]) -> None:
    first = collections[0]
    for other in collections[1:]:
        a, b = vars(first.protocol), vars(other.protocol)
        differing = [key for key in _SAME if a[key] != b[key]]
        if differing:
            key = differing[0]
            raise NotComparable(
                f"{first.folder} and {other.folder}: {key} is {a[key]!r} there and {b[key]!r} here; teachers are "
                "compared on the same prompts, model and sampling"
            )


def _check_scorer(collections: Sequence[Scores], metric: str) -> None:
    for scores in collections:
        scores.check([metric])
    digests = {next(iter(scores.scorers[metric])): scores.folder for scores in collections}
    if len(digests) > 1:
        each = ", ".join(f"{digest} in {folder}" for digest, folder in sorted(digests.items()))
        raise NotComparable(f"{metric!r} is by different scorers ({each}); run npnet score --metric {metric} on all")


def _cell(scores: Scores, metric: str, taken: np.ndarray) -> str:
    """Gain with its interval and the share kept; pairs that are not finite count in neither."""
    usable = taken[scores.usable([metric])[taken]]
    if not len(usable):
        return "-"
    source, target = scores.values[metric][usable].T
    gain = stats.paired_delta(target, source, [scores.prompts[i] for i in usable])
    kept = float(scores.better(metric, 0.0)[usable].mean())
    return f"{gain.estimate:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], {100 * kept:.1f} %"


def _title(metric: str) -> str:
    return registry.get("metrics", metric).title if metric in registry.names("metrics") else metric


def _restricted(middling: Middling) -> str:
    return (
        f", on captions whose other pairs score {middling.low:g} to {middling.high:g} by {middling.metric}; finding "
        "them is not counted."
    )


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---", "---:", "---:", *("---" for _ in rows[0][3:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (escaped[0], rule, *escaped[1:]))
