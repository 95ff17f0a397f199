"""Votes that people cast in the report's blind mode -> pair scores of the metric `human`.

A vote is about one pair: a method's image against the baseline's. `human` is a metric of pairs, so its value is the
share of votes by which the method's image was preferred, a tie being half a vote. From there on it is treated as any
other: the paired delta is wins less losses as a share of votes.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench import registry
from bench.errors import NotComparable, UserError
from bench.metrics.human import NAME
from bench.store import Ledger, read_json


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Setting(_Record):
    model: str
    sampler: str
    steps: int
    guidance: float


class Vote(_Record):
    """One choice between the images of two methods."""

    setting: Setting
    prompts: str
    index: int
    seed: int
    prompt: str
    left: str
    right: str
    choice: Literal["left", "right", "tie"]
    images: dict[str, str] = {}
    """The file that was looked at, by method; where given it must still be the run's."""


class VotesFile(_Record):
    """What the browser's export holds."""

    schema_: Literal[1]
    kind: Literal["noisebench votes"]
    voter: str = ""
    votes: tuple[Vote, ...]


@dataclass(frozen=True)
class Counted:
    """What became of the votes."""

    used: int
    pairs: int
    elsewhere: int
    """Votes on cells that this run does not have."""
    aside: int
    """Votes between two methods neither of which is the baseline."""


def read_votes(path: Path) -> VotesFile:
    """A votes file; UserError in one line where it is none."""
    try:
        given = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable votes file ({error}); export it from report.html again") from error
    if isinstance(given, dict):
        given = {**given, "schema_": given.get("schema")}
    try:
        return VotesFile.model_validate_json(json.dumps(given))
    except RecursionError as error:
        raise UserError(f"{path}: not a votes file: nested too deeply; export it from report.html again") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])).replace("schema_", "schema") or "the file"
        raise UserError(
            f"{path}: not a votes file: {where}: {first['msg']}; export it from report.html again"
        ) from error


def add_votes(ledger: Ledger, paths: Sequence[Path], *, baseline: str) -> Counted:
    """Keep the votes of these files with the run, each file once, and score all that were ever given to it.

    Raises NotComparable where a vote was cast on another image or prompt than the run now has, or where none of the
    votes is about this run.
    """
    kept: dict[str, Any] = dict(ledger.get("votes") or {})
    for path in paths:
        read = read_votes(path)
        text = read.model_dump_json()
        kept[hashlib.sha256(text.encode()).hexdigest()[:16]] = json.loads(text)["votes"]
    votes = [Vote.model_validate_json(json.dumps(v)) for some in kept.values() for v in some]
    rows, counted = _rows(ledger, votes, baseline)
    if votes and not counted.used:
        raise NotComparable(
            f"{ledger.folder}: none of {len(votes)} votes is about a pair of this run ({counted.elsewhere} on other "
            f"cells, {counted.aside} without {baseline}); give the run whose report they were cast in"
        )
    scorer = registry.get("metrics", NAME).digest()
    with ledger.transaction():
        ledger.forget_scores(NAME)
        ledger.put_pair_scores(
            (*key, NAME, scorer, sum(found) / len(found), json.dumps({"votes": len(found)}), None)
            for key, found in rows.items()
        )
        ledger.set("votes", kept)
        ledger.set("added_metrics", list(dict.fromkeys([*(ledger.get("added_metrics") or []), NAME])))
    return counted


def _rows(
    ledger: Ledger, votes: Iterable[Vote], baseline: str
) -> tuple[dict[tuple[str, str, str], list[float]], Counted]:
    """Outcomes, 1 for a win and 0 for a loss, by (image digest, baseline's digest, prompt key)."""
    cells = _cells(ledger)
    rows: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    used = elsewhere = aside = 0
    pairs = set()
    for vote in votes:
        sides = {"left": vote.left, "right": vote.right}
        if baseline not in sides.values() or vote.left == vote.right:
            aside += 1
            continue
        method = vote.right if vote.left == baseline else vote.left
        place = (vote.setting.model, vote.setting.sampler, vote.setting.steps, vote.setting.guidance)
        ours, theirs = (cells.get((*place, vote.prompts, vote.index, vote.seed, m)) for m in (method, baseline))
        if ours is None or theirs is None:
            elsewhere += 1
            continue
        _check(ledger, vote, {method: ours, baseline: theirs})
        used += 1
        pairs.add((ours, theirs))
        tie = vote.choice == "tie" or ours.digest == theirs.digest
        won = 0.5 if tie else float(sides[vote.choice] == method)
        rows[ours.digest, theirs.digest, ours.prompt].append(won)
    return rows, Counted(used, len(pairs), elsewhere, aside)


@dataclass(frozen=True)
class _Cell:
    text: str
    file: str
    digest: str
    prompt: str
    """The prompt's key."""


def _cells(ledger: Ledger) -> dict[tuple[Any, ...], _Cell]:
    found: dict[tuple[Any, ...], _Cell] = {}
    for cell, file, digest in ledger.made_cells():
        place = (*cell.setting, cell.prompts, cell.prompt_index, cell.seed, cell.method)
        found[place] = _Cell(cell.prompt, file, digest, cell.key)
    return found


def _check(ledger: Ledger, vote: Vote, cells: dict[str, _Cell]) -> None:
    for method, cell in cells.items():
        where = f"{ledger.folder}: a vote on {vote.prompts} {vote.index}, seed {vote.seed}"
        if cell.text != vote.prompt:
            raise NotComparable(f"{where} was cast on another prompt than the run has there; it is of another run")
        if method in vote.images and vote.images[method] != cell.file:
            raise NotComparable(f"{where} was cast on another image of {method} than the run has now; vote again")
