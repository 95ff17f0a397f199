"""Every pair of a run, fifty a page, straight from the ledger: one prompt and seed, all methods side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import registry
from bench.analysis.pairing import Source, setting_of
from bench.errors import UserError
from bench.metrics import direction
from bench.store.rows import Cell, Setting, Shown

PAGE = 50


@dataclass(frozen=True)
class Wanted:
    """What to show; empty is everything."""

    prompts: str = ""
    method: str = ""
    setting: int | None = None
    """Number of one setting in the run's own order."""
    text: str = ""
    """Part of the prompt, in either case."""
    page: int = 1


@dataclass(frozen=True)
class Score:
    """A metric of an image; `delta` is against the baseline's image of the same pair."""

    metric: str
    value: float
    delta: float | None = None
    tone: str = ""
    """`better` or `worse` than the baseline's; empty where it is neither."""


@dataclass(frozen=True)
class Card:
    """One method's image of a pair."""

    method: str
    job_id: str
    state: str
    """`there`, `gone` (its file was deleted) or `not made yet`."""
    scores: list[Score]


@dataclass(frozen=True)
class Pair:
    """One prompt and seed under one setting."""

    setting: str
    prompts: str
    index: int
    seed: int
    text: str
    category: str
    cards: list[Card]


@dataclass(frozen=True)
class Page:
    """One page of pairs, and what may be chosen from."""

    pairs: list[Pair]
    total: int
    number: int
    pages: int
    sets: list[str]
    methods: list[str]
    settings: list[str]
    wanted: Wanted


def page(folder: Path, wanted: Wanted) -> Page:
    """The page that is wanted, the last one where there are fewer; UserError for a set or method not in the run."""
    with Source(folder) as run:
        baseline = run.suite.baseline
        settings = list(dict.fromkeys(map(setting_of, run.arms)))
        sets = list(dict.fromkeys(arm.prompts for arm in run.arms))
        methods = list(dict.fromkeys(arm.method for arm in run.arms))
        for word, value, known in (("prompt set", wanted.prompts, sets), ("method", wanted.method, methods)):
            if value and value not in known:
                raise UserError(f"no {word} {value!r} in this run; it has {', '.join(known)}")
        if wanted.setting is not None and not 0 <= wanted.setting < len(settings):
            raise UserError(f"no setting {wanted.setting} in this run; it has {len(settings)}, from 0")
        asked: dict[str, Any] = {"prompts": wanted.prompts, "text": wanted.text}
        asked["setting"] = None if wanted.setting is None else settings[wanted.setting]
        # The baseline's cells stand for the pairs: every pair has one.
        total = run.ledger.count(baseline, **asked)
        pages = max(1, -(-total // PAGE))
        number = min(max(1, wanted.page), pages)
        cells = run.ledger.page(baseline, **asked, start=(number - 1) * PAGE, most=PAGE)
        shown = [m for m in methods if wanted.method in ("", m) or m == baseline]
        shown.sort(key=lambda m: m != baseline)
        pairs = [_pair(run, cell, shown) for cell in cells]
        return Page(pairs, total, number, pages, sets, methods, list(map(_said, settings)), wanted)


def _pair(run: Source, cell: Cell, methods: list[str]) -> Pair:
    found = {one.method: one for one in run.ledger.shown(cell, methods)}
    base = found.get(methods[0])
    theirs = base.digest if base else None
    scores = {method: _scores(run, one.digest, cell.key, theirs) for method, one in found.items()}
    beside = scores.get(methods[0], {})
    cards = []
    for one in (found[method] for method in methods if method in found):
        values = [_score(name, value, beside.get(name) if one is not base else None)
                  for name, value in scores[one.method].items()]  # fmt: skip
        cards.append(Card(one.method, one.job_id, _state(run.folder, one), values))
    place = cell.prompts, cell.prompt_index, cell.seed
    return Pair(_said(cell.setting), *place, cell.prompt, cell.category or "", cards)


def _state(folder: Path, one: Shown) -> str:
    if one.file is None:
        return "not made yet"
    return "there" if (folder / one.file).is_file() else "gone"


def _scores(run: Source, digest: str | None, key: str, baseline: str | None) -> dict[str, float]:
    """The image's values by metric, in the run's order; of several scorers the last session's counts.

    A metric of pairs tells how far the image is preferred over the baseline's, 2p - 1; one of sets has none to tell.
    """
    last = run.provenance.get("weights") or {}
    found: dict[str, float] = {}
    for metric, scorer, value in run.ledger.scores_of_image(digest, key, baseline):
        if metric not in found or scorer == last.get(metric):
            found[metric] = value
    order = {name: i for i, name in enumerate(run.metrics)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def _score(metric: str, value: float, base: float | None) -> Score:
    if base is None:
        return Score(metric, value)
    change = value - base
    better = direction.gain(change, registry.get("metrics", metric)) if metric in registry.names("metrics") else 0.0
    return Score(metric, value, change, "better" if better > 0 else "worse" if better < 0 else "")


def _said(setting: Setting) -> str:
    model, sampler, steps, guidance = setting
    return f"{model}, {sampler}, {steps} steps, g {guidance:g}"
