"""The versions of results.json, and a document of an older one in today's form.

A change of the format: raise SCHEMA, write its `update_to_N`, add the new digest to FORMATS, and keep a file of the
version before as a test. Version 2 gained fields without a new number until FORMATS was there to stop it; what
its older files lack is filled in by `_since_2`.

Source of the habit: airspeed velocity's `update_to_N`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

Document = dict[str, Any]
SCHEMA: Final = 4
FORMATS = {2: "b2fa3ac4acf83b3e", 3: "0358561bf6b49a5c", 4: "a6d4ac5599edc2ac"}
"""The digest of each version's names and types (`bench.records.json_schema.digest`), from when it was recorded."""

_RATES = ("win_rate", "win_low", "win_high", "win_strict", "win_strict_low", "win_strict_high")
_RATIOS = ("encode_ms", "noise_ms", "sampling_ms", "decode_ms", "select_ms", "total_ms", "calls_noise",
           "calls_sampling", "calls_total", "peak_bytes")  # fmt: skip
_SETTING = ("model", "sampler", "steps", "guidance")


def update_to_2(old: Document) -> Document:
    """Several runs in one document, ratios of costs, parts by seed and category, and pairs of every setting.

    Version 1 has one run, and pairs of its first setting only. The ratios that its readers computed had no intervals:
    they are left out.
    """
    suite, run = old["suite"], old["run"]
    place = {"folder": run["folder"], "path": ".", "suite": suite["name"], "id": suite["id"]}
    settings = list({tuple(arm[name] for name in _SETTING): None for arm in old["arms"]})
    pairs = [{"setting": 0, "category": "", "runs": dict.fromkeys(pair["images"], 0), **pair} for pair in old["pairs"]]
    arms = [{**arm, "cost": {**arm["cost"], "ratios": dict.fromkeys(_RATIOS)}} for arm in old["arms"]]
    return {
        **old,
        "schema": 2,
        "runs": [{**run, **place}],
        "arms": arms,
        "comparisons": [{"sd": None, **row} for row in old["comparisons"]],
        "seeds": [],
        "categories": [],
        "settings": [dict(zip(_SETTING, one, strict=True)) for one in settings],
        "pairs": pairs,
        "pairs_total": len(pairs),
    }


def update_to_3(old: Document) -> Document:
    """Memory measured apart: fields that are missing where it was not, as it was not in version 2."""
    return {**old, "schema": 3}


def update_to_4(old: Document) -> Document:
    """Sizes of batches, and seconds of compiling: fields that are missing where they were not recorded, as before."""
    return {**old, "schema": 4}


def _since_2(found: Document) -> Document:
    """What files of version 2 lack that were written before it had all of its fields."""
    known = list(dict.fromkeys(row["method"] for row in found["controls"]))
    unmarked = {"sibling": False}
    strict = dict.fromkeys(_RATES)
    return {
        "failed": [],
        **found,
        "suite": {"headline": None, "controls": known, **found["suite"]},
        "metrics": {name: {"kind": "image", "bounds": None, **one} for name, one in found["metrics"].items()},
        "arms": [{"siblings": [], **arm, "cost": _cost(arm["cost"])} for arm in found["arms"]],
        "comparisons": [{**unmarked, **strict, **row} for row in found["comparisons"]],
        "seeds": [{**strict, **row} for row in found["seeds"]],
        "categories": [{**strict, **row} for row in found["categories"]],
        "equal_compute": [_equal(row, unmarked) for row in found.get("equal_compute", [])],
    }


def _cost(cost: Document) -> Document:
    return {"select_ms": None, **cost, "ratios": {"select_ms": None, **cost["ratios"]}}


def _equal(row: Document, unmarked: Document) -> Document:
    return {**row, "metrics": {name: {**unmarked, **one} for name, one in row["metrics"].items()}}


UPDATES: dict[int, Callable[[Document], Document]] = {2: update_to_2, 3: update_to_3, 4: update_to_4}
"""By the version that each makes of the one before it."""


def upgraded(found: Document) -> Document:
    """A document of version 1 to SCHEMA in today's form. KeyError, TypeError, AttributeError: it is none."""
    for version in range(found["schema"] + 1, SCHEMA + 1):
        found = UPDATES[version](found)
    return _since_2(found)
