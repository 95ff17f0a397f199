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
from typing import Any, Final, TypeVar

import numpy as np
from pydantic import ValidationError

from bench.analysis.arms import POOLED, Floats, MeasuredArm
from bench.errors import NotComparable, UserError
from bench.gate.samples import Samples, jobs_of
from bench.records import ArmRow, Mean, Record, Results
from bench.records.baseline import (
    Frozen,
    FrozenArm,
    FrozenComparison,
    FrozenCost,
    FrozenMetric,
    FrozenSet,
    FrozenSuite,
)
from bench.records.baseline_upgrades import OLDEST, SCHEMA, upgraded
from bench.records.load import first_fault
from bench.store import read_json
from bench.store.rows import Setting

R = TypeVar("R", bound=Record)

KIND: Final = "noisebench baseline"
DIGITS = 6
IMAGE = 16
"""Hex digits that are kept of an image's digest."""
_AGAIN = "freeze it again: python -m bench baseline freeze RUN"


def freeze(results: Results, samples: Samples, tolerance: Mapping[str, str] | None = None) -> Frozen:
    """A finished run as a baseline; raises NotComparable for an unfinished or empty one."""
    rows = [row for row in results.arms if row.prompts == POOLED]
    if not rows or not any(row.n for row in rows):
        raise NotComparable("nothing to freeze: the run has no images yet; run the suite first")
    for row in rows:
        if not row.complete:
            said = f"has {row.n} of {row.n_expected} images" if row.n < row.n_expected else "lacks scores"
            raise NotComparable(f"nothing to freeze: {row.method} {said}; run the suite again to finish it")
    asked = [name for name in samples.suite.metrics if name not in samples.partial]
    metrics = {name: _taken(results.metrics[name], FrozenMetric) for name in asked}
    compared = (row for row in results.comparisons if row.prompts == POOLED and row.metric in asked)
    return Frozen(
        schema=SCHEMA,
        kind=KIND,
        suite=_taken(results.suite, FrozenSuite),
        protocol=json.loads(samples.suite.canonical()),
        created=results.run.created,
        provenance=results.run.provenance,
        hardware=tuple(sorted({row.cost.hardware for row in rows if row.cost.hardware})),
        metrics=metrics,
        tolerance=dict(tolerance or {}),
        pairs=pairs_of(samples),
        arms=tuple(_arm(row, samples, metrics) for row in rows),
        comparisons=tuple(_taken(row, FrozenComparison) for row in compared),
    )


def _taken(row: Record, kind: type[R]) -> R:
    """Those fields of a row that another kind of record has, and that the row was given, at DIGITS digits."""
    return kind(**{name: _short(getattr(row, name)) for name in kind.model_fields if name in row.model_fields_set})


def same_pairs(one: FrozenSet, at: int, other: FrozenSet, there: int) -> list[tuple[int, int]]:
    """Numbers of the pairs of one prompt set that both have, where its pairs begin at `at` and `there`.

    Empty where the sets differ and one of them does not say which pairs it holds.
    """
    if one.digest == other.digest:
        return [(at + k, there + k) for k in range(one.n)]
    places = {key: there + k for k, key in enumerate(other.keys or ())}
    return [(at + k, places[key]) for k, key in enumerate(one.keys or ()) if key in places]


def pairs_of(samples: Samples) -> dict[str, FrozenSet]:
    """Number and digest of each prompt set's pairs."""
    found = {}
    for prompts, some in groupby(samples.measured.pairs, key=lambda pair: pair.prompts):
        keyed = [[pair.index, pair.seed, pair.text] for pair in some]
        times: Counter[tuple[Any, ...]] = Counter()
        keys = []
        for _, seed, text in keyed:
            keys.append(_digest([seed, text, times[seed, text]])[:12])
            times[seed, text] += 1
        found[prompts] = FrozenSet(n=len(keyed), digest=_digest(keyed), keys=tuple(keys))
    return found


def images_of(samples: Samples, arm: MeasuredArm) -> list[str | None]:
    """The digest of each image of an arm, in the order of its pairs; None where there is no image."""
    digests = samples.measured.images.words["digest"]
    return [str(digests[row])[:IMAGE] if row >= 0 else None for row in arm.image]


def rounded(values: Iterable[float]) -> Floats:
    """Values as a baseline holds them, so that the same scores differ by exactly nothing."""
    return np.array([float(f"{value:.{DIGITS}g}") for value in values], dtype=np.float64)


def jobs_digest(samples: Samples, setting: Setting, method: str) -> str | None:
    """Digest of all that decided an arm's images; None where there is no such arm."""
    arm = samples.arm(setting, method, POOLED)
    return None if arm is None else _digest(list(jobs_of(samples, arm)))


def _arm(row: ArmRow, samples: Samples, metrics: Mapping[str, FrozenMetric]) -> FrozenArm:
    arm, jobs = samples.arm(row.setting, row.method, POOLED), jobs_digest(samples, row.setting, row.method)
    assert arm is not None, "results and samples are of one ledger"
    assert jobs is not None, "results and samples are of one ledger"
    if len(arm.pair) != len(samples.measured.pairs):
        raise NotComparable(f"nothing to freeze: {row.method} does not have every pair of its run; run it again")
    scores = {name: rounded(samples.scores(arm, name)) for name, of in metrics.items() if of.kind != "set"}
    means = {name: row.metrics[name] for name in metrics}
    return FrozenArm(
        model=row.model,
        sampler=row.sampler,
        steps=row.steps,
        guidance=row.guidance,
        method=row.method,
        optimises=row.optimises,
        jobs=jobs,
        cost=_taken(row.cost, FrozenCost),
        metrics={n: Mean(mean=_short(m.mean), low=_short(m.low), high=_short(m.high), n=m.n) for n, m in means.items()},
        scores={n: tuple(None if np.isnan(v) else float(v) for v in values) for n, values in scores.items()},
        images=tuple(images_of(samples, arm)),
    )


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()[:32]


# The file ------------------------------------------------------------------------------------------------------------


def dump(frozen: Frozen) -> str:
    """JSON with a line for every array or mapping of plain values, so that a change can be read in a diff."""
    return "".join(_lines(frozen.document(), "")) + "\n"


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
    """Read a baseline file of any version; UserError for what is none, NotComparable for one without scores."""
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
    if data.get("kind", KIND) != KIND:
        raise UserError(f"{path}: a {data['kind']!r} file, not a baseline; expected one written by `baseline freeze`")
    if schema < OLDEST:
        raise NotComparable(f"{path}: an older baseline (schema {schema}) without scores of each sample; {_AGAIN}")
    if schema > SCHEMA:
        raise UserError(f"{path}: written by a newer version (baseline schema {schema}, read up to {SCHEMA}); upgrade")
    try:
        # As JSON, a string is no number and 1 is no truth value.
        frozen = Frozen.model_validate_json(json.dumps(upgraded(data)), strict=True)
    except ValidationError as error:
        raise UserError(f"{path}: not a readable baseline ({first_fault(error, 'the file')}); {_AGAIN}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        lacks = f"lacks {error}" if isinstance(error, KeyError) else "another form than any version has"
        raise UserError(f"{path}: not a readable baseline ({lacks}); {_AGAIN}") from None
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
