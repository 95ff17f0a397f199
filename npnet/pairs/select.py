"""Which noise pairs to learn from: s0 + m < s0' for one scorer, or for several (paper section 3.1 and D.1).

s0 and s0' are the scores of the images from the source and from the target noise, m the threshold. One pass over a
collection reads every score; all thresholds are then judged from memory, and nothing is generated again. Imports no
torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from bench import registry
from bench.errors import UserError, nearest
from bench.store import full_disk_is_said, write_atomically
from npnet.pairs.scores import Scores, read_scores, sign_of

SCHEMA = 1
Mode = Literal["all", "any"]


class Rule(BaseModel):
    """Keep a pair when s0 + threshold < s0' by this metric, or s0 - threshold > s0' where less is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    threshold: float = 0.0
    """m: by how much the target's score has to be better, in the metric's own unit."""


class Selection(BaseModel):
    """The pairs of one collection that rules keep; a JSON file both ways."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    """Digest of the collection's protocol."""
    rules: tuple[Rule, ...]
    mode: Mode
    """Whether all rules have to hold, or one of them."""
    scorers: dict[str, str]
    """Digest of each scorer that the rules name."""
    seen: int
    """Pairs that the collection had."""
    planned: int
    """Pairs that the collection will have when it is complete."""
    not_finite: int
    """Pairs dropped because of NaN or infinity in a noise or a score; not part of the filter rate."""
    filter_rate: float
    """Share of the finite pairs that the rules discard; the paper's is 0.2388 for HPSv2 and m = 0 on SDXL."""
    kept: tuple[int, ...]
    """Numbers of the kept pairs, rising."""


def select(collection: Path | Scores, rules: Sequence[Rule], mode: Mode = "all") -> Selection:
    """The pairs that all rules (or any of them) keep; those that are not finite are dropped first.

    UserError for unknown metrics, and where no pair is left, with the threshold that would keep some.
    """
    scores = read_scores(collection) if isinstance(collection, Path) else collection
    metrics = list(dict.fromkeys(rule.metric for rule in rules))
    if not rules:
        raise UserError(f"no rule to select by{nearest('', scores.values)}; name at least one metric")
    scores.check(metrics)
    usable = scores.usable(metrics)
    kept = _kept(scores, rules, mode) & usable
    if not kept.any():
        raise UserError(_nothing_left(scores, rules, mode, usable))
    return Selection(
        protocol=scores.protocol.digest(),
        rules=tuple(rules),
        mode=mode,
        scorers={metric: next(iter(scores.scorers[metric])) for metric in metrics},
        seen=len(scores),
        planned=scores.protocol.pairs,
        not_finite=int((~usable).sum()),
        filter_rate=1.0 - float(kept.sum()) / float(usable.sum()),
        kept=tuple(scores.index[kept].tolist()),
    )


def _kept(scores: Scores, rules: Sequence[Rule], mode: Mode) -> np.ndarray:
    kept = np.stack([scores.better(rule.metric, rule.threshold) for rule in rules])
    return np.asarray(kept.all(0) if mode == "all" else kept.any(0))


def _nothing_left(scores: Scores, rules: Sequence[Rule], mode: Mode, usable: np.ndarray) -> str:
    """Says how many pairs there were and how far the thresholds would have to fall."""
    asked = describe(rules, mode)
    if not usable.any():
        return f"{scores.folder}: none of its {len(scores)} pairs is finite; collect again"
    signs = [sign_of(rule.metric) for rule in rules]
    gains = [sign * np.diff(scores.values[r.metric][usable])[:, 0] for r, sign in zip(rules, signs, strict=True)]
    margins = np.stack([gain - rule.threshold for gain, rule in zip(gains, rules, strict=True)])
    margin = margins.min(0) if mode == "all" else margins.max(0)
    some, half = float(margin.max()), float(np.median(margin))
    if len(rules) == 1:
        m = rules[0].threshold
        hint = f"a threshold below {m + some:.6g} keeps some, one of {m + half:.6g} about half"
    else:
        hint = f"thresholds lower by more than {-some:.6g} keep some, lower by {-half:.6g} about half"
    return f"{scores.folder}: no pair of {int(usable.sum())} is left after selection by {asked}; {hint}"


def describe(rules: Sequence[Rule], mode: Mode) -> str:
    """Rules as a person would say them: `all of hpsv2 > +0, pickscore > +0.1`; `<` where less is better."""
    said = ", ".join(
        f"{rule.metric} < {0.0 - rule.threshold:+g}"
        if sign_of(rule.metric) < 0
        else f"{rule.metric} > {rule.threshold:+g}"
        for rule in rules
    )
    return said if len(rules) == 1 else f"{mode} of {said}"


def table(scores: Scores, metrics: Sequence[str], thresholds: Sequence[float]) -> str:
    """Filter rates, the share of finite pairs discarded: scorers x thresholds, and several scorers together.

    Each is the rate of a selection by that row's scorers alone: a pair counts where their scores are finite. Rows of
    scorers that judged only some of the shards have none.
    """
    partly = [metric for metric in metrics if metric in scores.values and scores.lacking(metric)]
    scores.check([metric for metric in metrics if metric not in partly])
    rows: list[tuple[str, list[Rule], Mode]] = [(metric, [Rule(metric=metric)], "all") for metric in metrics]
    if len(metrics) > 1:
        together = [Rule(metric=metric) for metric in metrics]
        rows += [("all of them", together, "all"), ("any of them", together, "any")]
    cells = [["discarded by", *(f"m = {m:g}" for m in thresholds)]]
    left_out: dict[str, int] = {}
    for label, rules, mode in rows:
        if any(rule.metric in partly for rule in rules):
            cells.append([label, *("-" for _ in thresholds)])
            continue
        usable = scores.usable([rule.metric for rule in rules])
        left_out[label] = int((~usable).sum())
        at = ([rule.model_copy(update={"threshold": m}) for rule in rules] for m in thresholds)
        cells.append([label, *(_percent(_kept(scores, one, mode)[usable]) for one in at)])
    notes = [*_counts(scores, left_out), *(str(scores.lacking(metric)) for metric in partly)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
    unknown = [metric for metric in metrics if metric not in registry.names("metrics")]
    if unknown:
        notes.append(f"not installed here: {', '.join(unknown)}; more is taken to be better")
    return "\n".join([*lines, *notes])


def _percent(kept: np.ndarray) -> str:
    return f"{100 * (1 - kept.mean()):.2f} %" if len(kept) else "-"


def _counts(scores: Scores, left_out: Mapping[str, int]) -> list[str]:
    lines = [f"{len(scores)} pairs read"]
    if len(scores) < scores.protocol.pairs:
        lines[0] += f" of {scores.protocol.pairs} planned: the collection is not complete yet"
    if len(set(left_out.values())) > 1:
        each = ", ".join(f"{label} {n}" for label, n in left_out.items() if n)
        lines.append(f"pairs with NaN or infinity left out: {each}")
    elif any(left_out.values()):
        lines.append(f"{max(left_out.values())} pairs with NaN or infinity left out")
    return lines


def write_selection(path: Path, selection: Selection) -> None:
    """Write a selection as JSON, whole or not at all."""
    text = json.dumps({"schema": SCHEMA, "selection": selection.model_dump(mode="json")}) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with full_disk_is_said(path.parent):
            write_atomically(path, text.encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); name another place") from error


def read_selection(path: Path) -> Selection:
    """A selection file; UserError where it is none."""
    try:
        data = json.loads(path.read_text())
        if data["schema"] != SCHEMA:
            raise UserError(f"{path}: schema {data['schema']}, this version reads {SCHEMA}; select again")
        return Selection.model_validate(data["selection"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such selection file; make one with npnet select --out") from None
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a selection file ({reason}); make one with npnet select --out") from None


def run(
    folder: Path,
    *,
    metrics: Sequence[str],
    thresholds: Sequence[float],
    mode: Mode = "all",
    out: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """`npnet select`: print the table of filter rates, and with `out` write the selection.

    Without metrics all that the collection has; without thresholds m = 0. A selection that is written needs one
    threshold, for every metric, or as many as there are metrics, in their order.
    """
    thresholds = list(thresholds) or [0.0]
    scores = read_scores(folder)
    metrics = list(dict.fromkeys(metrics)) or sorted(scores.values)
    if not metrics:
        raise UserError(f"{folder}: its pairs have no scores; collect with metrics, or train with selection: none")
    say(table(scores, metrics, sorted(set(thresholds))))
    if out is None:
        return
    if len(thresholds) not in (1, len(metrics)):
        raise UserError(
            f"{len(thresholds)} thresholds for {len(metrics)} metrics: a selection that is written needs one "
            "threshold, or one for each metric; leave --out away to see the table only"
        )
    each = thresholds * len(metrics) if len(thresholds) == 1 else thresholds
    rules = [Rule(metric=metric, threshold=m) for metric, m in zip(metrics, each, strict=True)]
    selection = select(scores, rules, mode)
    write_selection(out, selection)
    say(f"kept {len(selection.kept)} of {selection.seen} pairs by {describe(rules, mode)}: {out}")
