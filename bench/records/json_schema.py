"""The JSON schema of results.json, made from its records."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from bench.records.document import Results

FILE = Path(__file__).parents[1] / "schemas" / "results.schema.json"


def schema() -> dict[str, Any]:
    """The schema of a file as it is written today."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Results.model_json_schema(mode="serialization", by_alias=True),
    }


def text() -> str:
    """What `schemas/results.schema.json` holds."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def digest() -> str:
    """Of the names and types alone: words that describe them may change within a version of the format."""
    return hashlib.sha256(json.dumps(_bare(schema()), sort_keys=True).encode()).hexdigest()[:16]


def _bare(part: Any, *, names: bool = False) -> Any:
    """Without descriptions, titles and defaults; within `names` a key is a field, whatever it is called."""
    if isinstance(part, list):
        return [_bare(one) for one in part]
    if not isinstance(part, dict):
        return part
    kept = part if names else {k: v for k, v in part.items() if k not in ("description", "title", "default")}
    return {key: _bare(value, names=key in ("properties", "$defs") and not names) for key, value in kept.items()}
