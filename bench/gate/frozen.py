"""A frozen baseline: one run's scores, sample by sample, with all that decides whether another may be paired with it.

Scores stand as one array an arm and metric, in the order of (prompt set, index, seed), rounded to six significant
digits; the prompts themselves are kept as one digest a set. JSON, schema in bench/schemas/baseline.schema.json.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.arms import POOLED, Floats, MeasuredArm
from bench.errors import NotComparable, UserError
from bench.gate.samples import Samples, jobs_of
from bench.gate.verdicts import SETTING, Results, Row, setting_of
from bench.metrics.base import Kind
from bench.store import read_json

SCHEMA = 2
KIND = "noisebench baseline"
DIGITS = 6
IMAGE = 16
"""Hex digits that are kept of an image's digest."""
_COMPARED = (*SETTING, "prompts", "method", "metric", "baseline", "n", "n_prompts", "delta", "low", "high", "p_holm",
             "win_rate", "win_low", "win_high", "marked")  # fmt: skip
_AGAIN = "freeze it again: python -m bench baseline freeze RUN"


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class FrozenSuite(_Part):
    """Which suite was run."""

    name: str
    id: str
    """Digest of all that decides its results."""
    title: str = ""
    baseline: str
    """The method that all others are compared with."""
    twin: bool
    limit: int | None = None


class FrozenMetric(_Part):
    """What a score is."""

    title: str
    unit: str
    higher_is_better: bool
    digest: str
    """Of the scorer: scores of another are another quantity."""
    kind: Kind = "image"
    """What it is a metric of. A score of a pair is 2p - 1; of a set there are values and intervals alone."""


class FrozenSet(_Part):
    """The pairs of one prompt set."""

    n: int = Field(ge=1)
    """Prompts times seeds."""
    digest: str
    """Of every index, seed and prompt text, in order."""
    keys: list[str] | None = None
    """Of each pair its seed and prompt text, and its number among equal ones: they find it in a suite that has grown.
    Baselines from before have none, and are compared with the same pairs only."""


class FrozenArm(_Part):
    """One method under one protocol over all prompt sets."""

    model: str
    sampler: str
    steps: int
    guidance: float
    method: str
    optimises: list[str]
    """Metrics that are no evidence for this method, and are not gated."""
    jobs: str
    """Digest of its job ids: of every weight, version and parameter that decided its images."""
    cost: dict[str, Any]
    metrics: dict[str, dict[str, float | int | None]]
    """Mean, interval and n by metric."""
    scores: dict[str, list[float | None]]
    """By metric that is not one of sets, in the order of the pairs; null where the metric does not judge a prompt."""
    images: list[str] | None = None
    """Digests of its images' pixels in the order of the pairs; baselines from before have none."""


class Frozen(_Part):
    """A whole baseline file."""

    model_config = ConfigDict(title="A frozen baseline of noisebench", populate_by_name=True)

    schema_version: Literal[2] = Field(alias="schema")
    kind: Literal["noisebench baseline"]
    suite: FrozenSuite
    protocol: dict[str, Any]
    """All of the suite that decides results."""
    created: str
    """When the run began."""
    provenance: dict[str, Any]
    """Commit, versions, command, hardware and weights' digests of the run."""
    hardware: list[str]
    """What the times in `cost` were measured on."""
    metrics: dict[str, FrozenMetric]
    tolerance: dict[str, str] = {}
    """How far scores may fall, such as `0.01` or `1%`, by metric and under "" for all others; a command's own win."""
    pairs: dict[str, FrozenSet]
    """By prompt set, in the order of the scores."""
    arms: list[FrozenArm] = Field(min_length=1)
    comparisons: list[dict[str, Any]]
    """The run's paired deltas and win rates over all prompt sets, for a reader; the gate goes by the scores, and by
    these deltas for metrics of sets, which have none."""


def freeze(results: Results, samples: Samples, tolerance: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A finished run as the content of a baseline file; raises NotComparable for an unfinished or empty one."""
    rows = [row for row in results["arms"] if row["prompts"] == POOLED]
    if not rows or not any(row["n"] for row in rows):
        raise NotComparable("nothing to freeze: the run has no images yet; run the suite first")
    for row in rows:
        if not row["complete"]:
            there = f"has {row['n']} of {row['n_expected']} images"
            said = there if row["n"] < row["n_expected"] else "lacks scores"
            raise NotComparable(f"nothing to freeze: {row['method']} {said}; run the suite again to finish it")
    suite, provenance = results["suite"], results["run"]["provenance"]
    asked = [name for name in samples.suite.metrics if name not in samples.partial]
    metrics = {name: {"kind": "image", **results["metrics"][name]} for name in asked}
    content = {
        "schema": SCHEMA,
        "kind": KIND,
        "suite": {key: suite[key] for key in FrozenSuite.model_fields},
        "protocol": json.loads(samples.suite.canonical()),
        "created": results["run"]["created"],
        "provenance": provenance,
        "hardware": sorted({row["cost"]["hardware"] for row in rows if row["cost"].get("hardware")}),
        "metrics": {name: {key: of[key] for key in FrozenMetric.model_fields} for name, of in metrics.items()},
        "tolerance": dict(tolerance or {}),
        "pairs": pairs_of(samples),
        "arms": [_arm(row, samples, {name: of["kind"] for name, of in metrics.items()}) for row in rows],
        "comparisons": [
            {key: _short(row.get(key)) for key in _COMPARED}
            for row in results["comparisons"]
            if row["prompts"] == POOLED and row["metric"] in asked
        ],
    }
    Frozen.model_validate(content)
    return content


def same_pairs(one: FrozenSet, at: int, other: FrozenSet, there: int) -> list[tuple[int, int]]:
    """Numbers of the pairs of one prompt set that both have, where its pairs begin at `at` and `there`.

    Empty where the sets differ and one of them does not say which pairs it holds.
    """
    if one.digest == other.digest:
        return [(at + k, there + k) for k in range(one.n)]
    places = {key: there + k for k, key in enumerate(other.keys or ())}
    return [(at + k, places[key]) for k, key in enumerate(one.keys or ()) if key in places]


def pairs_of(samples: Samples) -> dict[str, dict[str, Any]]:
    """Number and digest of each prompt set's pairs."""
    found = {}
    for prompts, some in groupby(samples.measured.pairs, key=lambda pair: pair.prompts):
        keyed = [[pair.index, pair.seed, pair.text] for pair in some]
        times: Counter[tuple[Any, ...]] = Counter()
        keys = []
        for _, seed, text in keyed:
            keys.append(_digest([seed, text, times[seed, text]])[:12])
            times[seed, text] += 1
        found[prompts] = {"n": len(keyed), "digest": _digest(keyed), "keys": keys}
    return found


def images_of(samples: Samples, arm: MeasuredArm) -> list[str | None]:
    """The digest of each image of an arm, in the order of its pairs; None where there is no image."""
    digests = samples.measured.images.words["digest"]
    return [str(digests[row])[:IMAGE] if row >= 0 else None for row in arm.image]


def rounded(values: Iterable[float]) -> Floats:
    """Values as a baseline holds them, so that the same scores differ by exactly nothing."""
    return np.array([float(f"{value:.{DIGITS}g}") for value in values], dtype=np.float64)


def jobs_digest(samples: Samples, row: Row) -> str | None:
    """Digest of all that decided an arm's images; None where there is no such arm."""
    arm = samples.arm(setting_of(row), row["method"], POOLED)
    return None if arm is None else _digest(list(jobs_of(samples, arm)))


def _arm(row: Row, samples: Samples, kinds: Mapping[str, str]) -> dict[str, Any]:
    arm = samples.arm(setting_of(row), row["method"], POOLED)
    assert arm is not None, "results and samples are of one ledger"
    if len(arm.pair) != len(samples.measured.pairs):
        raise NotComparable(f"nothing to freeze: {row['method']} does not have every pair of its run; run it again")
    scores = {name: rounded(samples.scores(arm, name)) for name, kind in kinds.items() if kind != "set"}
    return {
        **{key: row[key] for key in (*SETTING, "method", "optimises")},
        "jobs": jobs_digest(samples, row),
        "cost": {key: _short(value) for key, value in row["cost"].items() if not isinstance(value, dict)},
        "metrics": {n: {key: _short(row["metrics"][n][key]) for key in ("mean", "low", "high", "n")} for n in kinds},
        "scores": {n: [None if np.isnan(v) else float(v) for v in values] for n, values in scores.items()},
        "images": images_of(samples, arm),
    }


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()[:32]


# The file ------------------------------------------------------------------------------------------------------------


def dump(content: dict[str, Any]) -> str:
    """JSON with a line for every array or mapping of plain values, so that a change can be read in a diff."""
    return "".join(_lines(content, "")) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    inner = list(value.values() if isinstance(value, dict) else value) if isinstance(value, dict | list) else []
    if not any(isinstance(entry, dict | list) for entry in inner):
        yield json.dumps(value, ensure_ascii=False, allow_nan=False)
        return
    named = isinstance(value, dict)
    yield "{" if named else "["
    for number, (key, entry) in enumerate(value.items() if named else enumerate(value)):
        yield f"{',' if number else ''}\n{indent} "
        if named:
            yield f"{json.dumps(key, ensure_ascii=False)}: "
        yield from _lines(entry, indent + " ")
    yield f"\n{indent}{'}' if named else ']'}"


def load(path: Path) -> Frozen:
    """Read a baseline file; UserError for what is none, NotComparable for one of an older schema."""
    try:
        data = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such baseline; {_AGAIN.replace('freeze it again', 'freeze a run')}") from None
    except (OSError, ValueError) as error:
        said = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UserError(f"{path}: not a readable baseline ({said}); {_AGAIN}") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or not ("kind" in data or "suite_id" in data):
        raise UserError(f"{path}: not a baseline; expected a file written by `baseline freeze`")
    if schema < SCHEMA:
        raise NotComparable(f"{path}: an older baseline (schema {schema}) without scores of each sample; {_AGAIN}")
    if schema > SCHEMA:
        raise UserError(f"{path}: written by a newer version (baseline schema {schema}, read up to {SCHEMA}); upgrade")
    try:
        frozen = Frozen.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path}: not a readable baseline ({place}: {first['msg'].lower()}); {_AGAIN}") from None
    _check_lengths(path, frozen)
    return frozen


def _check_lengths(path: Path, frozen: Frozen) -> None:
    n = sum(one.n for one in frozen.pairs.values())
    for arm in frozen.arms:
        counts = {f"scores of {name}": len(values) for name, values in arm.scores.items()}
        counts |= {"images": len(arm.images)} if arm.images is not None else {}
        unknown = arm.scores.keys() - frozen.metrics.keys()
        for name, number in counts.items():
            if number != n or unknown:
                said = f"{arm.method} has {number} {name}, expected {n}"
                raise UserError(f"{path}: not a readable baseline ({said}); {_AGAIN}")
    for name, one in frozen.pairs.items():
        if one.keys is not None and len(one.keys) != one.n:
            raise UserError(f"{path}: not a readable baseline ({len(one.keys)} keys of {name}, not {one.n}); {_AGAIN}")
