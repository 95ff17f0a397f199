"""Scores and rows for tests of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from bench.analysis import results
from bench.records import Results
from bench.records.load import parse

SCHEMA = json.loads((Path(results.__file__).parents[1] / "schemas" / "results.schema.json").read_text())


def valid(found: Results) -> dict[str, Any]:
    """The document, which keeps to the schema and comes back from its file as it was."""
    document = found.document()
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(document, allow_nan=False)))
    assert parse(found.text().encode(), "results.json") == found
    return document


def luck(*parts: int) -> float:
    """A number in [-1, 1) that follows from its parts."""
    return float(np.random.default_rng(parts).uniform(-1, 1))


def fixed(text: str) -> int:
    return sum(ord(c) * 31**i for i, c in enumerate(text)) % 2**32


def noisy(method: str, prompts: str, index: int, seed: int, metric: str) -> float:
    """A prompt's difficulty, a seed's luck, and a gain of 0.5 for every method but the baseline."""
    own = luck(fixed(method), fixed(prompts), index, seed, fixed(metric))
    return luck(fixed(prompts), index) + 0.3 * own + (0.0 if method == "standard" else 0.5)


def row(rows: list[dict[str, Any]], **labels: Any) -> dict[str, Any]:
    found = [r for r in rows if all(r[k] == v for k, v in labels.items())]
    assert len(found) == 1, (labels, len(found))
    return found[0]
