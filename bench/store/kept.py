"""The record of an image in the cache: JSON with its own digest, and refused where a value is none that it can have."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, fields
from typing import Any

from bench.store.rows import Image

_SUM = "sha256"
"""The key of the digest; records from before it have none, and are checked against the ranges alone."""
_HEX = re.compile(r"[0-9a-f]{16,64}")
_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "str": (str,),
    "int | None": (int, type(None)), "str | None": (str, type(None)),
}  # fmt: skip
_MOST = 1e15


def text_of(image: Image) -> str:
    """The record as it is written."""
    content = asdict(image)
    return json.dumps({**content, _SUM: _digest(content)})


def record_of(text: bytes) -> Image:
    """The image of a record; ValueError where it is cut short, altered, of another version, or holds absurd values."""
    given: Any = json.loads(text)
    if not isinstance(given, dict):
        raise ValueError("no record")
    expected = given.pop(_SUM, None)
    if expected is not None and expected != _digest(given):
        raise ValueError("its digest is another one")
    try:
        image = Image(**given)
    except TypeError as error:
        raise ValueError(str(error)) from None
    for field in fields(Image):
        _check(field.name, str(field.type), getattr(image, field.name))
    for name in ("cost", "facts"):
        if not isinstance(json.loads(getattr(image, name)), dict):
            raise ValueError(f"{name} is no JSON object")
    if not _HEX.fullmatch(image.job_id) or not _HEX.fullmatch(image.digest):
        raise ValueError("its job or its digest is no hash")
    return image


def _check(name: str, kind: str, value: Any) -> None:
    if not isinstance(value, _KINDS[kind]) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, expected {kind}")
    if isinstance(value, int | float) and not (math.isfinite(value) and 0 <= value <= _MOST):
        raise ValueError(f"{name} is {value!r}, expected a number from 0")


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
