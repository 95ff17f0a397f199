"""The JSON schemas of stored documents, made from their records."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from bench.records.base import Record
from bench.records.baseline import Frozen
from bench.records.document import Results
from bench.records.two_runs import TwoRuns

FOLDER = Path(__file__).parents[1] / "schemas"
FILES: dict[Path, type[Record]] = {
    FOLDER / "results.schema.json": Results,
    FOLDER / "baseline.schema.json": Frozen,
    FOLDER / "comparison.schema.json": TwoRuns,
}
"""Which record each committed schema is of."""


def schema(of: type[Record] = Results) -> dict[str, Any]:
    """The schema of a file as it is written today."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **of.model_json_schema(mode="serialization", by_alias=True),
    }


def text(of: type[Record] = Results) -> str:
    """What a file of `FILES` holds."""
    return json.dumps(schema(of), indent=1, ensure_ascii=False) + "\n"


def digest(of: type[Record] = Results) -> str:
    """Of the names and types alone: words that describe them may change within a version of the format."""
    return hashlib.sha256(json.dumps(_bare(schema(of)), sort_keys=True).encode()).hexdigest()[:16]


def _bare(part: Any, *, names: bool = False) -> Any:
    """Without descriptions, titles and defaults; within `names` a key is a field, whatever it is called."""
    if isinstance(part, list):
        return [_bare(one) for one in part]
    if not isinstance(part, dict):
        return part
    kept = part if names else {k: v for k, v in part.items() if k not in ("description", "title", "default")}
    return {key: _bare(value, names=key in ("properties", "$defs") and not names) for key, value in kept.items()}
