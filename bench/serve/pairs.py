"""Every pair of a run, fifty a page, straight from the ledger: one prompt and seed, all methods side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import registry
from bench.errors import UserError
from bench.pairing import Source, setting_of
from bench.prompts.base import Prompt
from bench.score import prompt_key

PAGE = 50
_SETTING = ("model", "sampler", "steps", "guidance")


@dataclass(frozen=True)
class Wanted:
    """What to show; empty is everything."""

    prompts: str = ""
    method: str = ""
    setting: int | None = None
    """Number of one setting in the run's own order."""
    text: str = ""
    """Part of the prompt, upper and lower case alike."""
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
        where, values = _where(wanted, settings, baseline)
        total = int(run.db.execute(f"SELECT COUNT(*) FROM cells WHERE {where}", values).fetchone()[0])
        pages = max(1, -(-total // PAGE))
        number = min(max(1, wanted.page), pages)
        places = run.db.execute(
            f"SELECT {', '.join(_SETTING)}, prompts, prompt_index, seed, prompt, category, metadata FROM cells "
            f"WHERE {where} ORDER BY {', '.join(_SETTING)}, prompts, prompt_index, seed LIMIT ? OFFSET ?",
            [*values, PAGE, (number - 1) * PAGE],
        ).fetchall()
        shown = [m for m in methods if wanted.method in ("", m) or m == baseline]
        shown.sort(key=lambda m: m != baseline)
        pairs = [_pair(run, place, shown) for place in places]
        return Page(pairs, total, number, pages, sets, methods, list(map(_said, settings)), wanted)


def _where(wanted: Wanted, settings: list[tuple[str, str, int, float]], baseline: str) -> tuple[str, list[Any]]:
    """The baseline's cells stand for the pairs: every pair has one."""
    terms, values = ["method = ?"], [baseline]
    told: list[Any] = list(values)
    if wanted.prompts:
        terms.append("prompts = ?")
        told.append(wanted.prompts)
    if wanted.setting is not None:
        terms += [f"{name} = ?" for name in _SETTING]
        told += settings[wanted.setting]
    if wanted.text:
        escaped = wanted.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        terms.append("prompt LIKE ? ESCAPE '\\'")
        told.append(f"%{escaped}%")
    return " AND ".join(terms), told


def _pair(run: Source, place: tuple[Any, ...], methods: list[str]) -> Pair:
    *setting, prompts, index, seed, text, category, metadata = place
    key = prompt_key(Prompt(index, text, category, json.loads(metadata) if metadata else None))
    cells = run.db.execute(
        "SELECT method, job_id, digest, file FROM cells LEFT JOIN images USING (job_id) WHERE method IN "
        f"({', '.join('?' * len(methods))}) AND model = ? AND sampler = ? AND steps = ? AND guidance = ? "
        "AND prompts = ? AND prompt_index = ? AND seed = ?",
        [*methods, *place[:7]],
    ).fetchall()
    found = {method: (job_id, digest, file) for method, job_id, digest, file in cells}
    theirs = found.get(methods[0], (None, None, None))[1]
    scores = {method: _scores(run, digest, key, theirs) for method, (_, digest, _) in found.items()}
    base = scores.get(methods[0], {})
    cards = []
    for method in methods:
        if method not in found:
            continue
        job_id, digest, file = found[method]
        state = "not made yet" if digest is None else "there" if (run.folder / file).is_file() else "gone"
        told = [_score(name, value, base.get(name) if method != methods[0] else None)
                for name, value in scores[method].items()]  # fmt: skip
        cards.append(Card(method, job_id, state, told))
    return Pair(_said(tuple(setting)), prompts, index, seed, text, category or "", cards)


def _scores(run: Source, digest: str | None, key: str, baseline: str | None) -> dict[str, float]:
    """The image's values by metric, in the run's order; of several scorers the last session's counts.

    A metric of pairs tells how far the image is preferred over the baseline's, 2p - 1; one of sets has none to tell.
    """
    last = run.provenance.get("weights") or {}
    rows = run.db.execute(
        "SELECT metric, scorer, value FROM scores WHERE digest = ? AND prompt = ? UNION ALL SELECT metric, scorer, "
        "2 * value - 1 FROM pair_scores WHERE digest = ? AND baseline = ? AND prompt = ? ORDER BY metric, scorer",
        (digest, key, digest, baseline, key),
    ).fetchall()
    found: dict[str, float] = {}
    for metric, scorer, value in rows:
        if metric not in found or scorer == last.get(metric):
            found[metric] = value
    order = {name: i for i, name in enumerate(run.metrics)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def _score(metric: str, value: float, base: float | None) -> Score:
    if base is None:
        return Score(metric, value)
    known = metric in registry.names("metrics")
    better = (value - base) * (1 if not known or registry.get("metrics", metric).higher_is_better else -1)
    tone = "" if not known or better == 0 else "better" if better > 0 else "worse"
    return Score(metric, value, value - base, tone)


def _said(setting: tuple[Any, ...]) -> str:
    model, sampler, steps, guidance = setting
    return f"{model}, {sampler}, {steps} steps, g {guidance:g}"
