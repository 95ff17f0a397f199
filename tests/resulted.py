"""Results for a test that is about a few rows: what it does not say of them is filled in."""

from __future__ import annotations

from typing import Any

from bench.records import SCHEMA, ArmRow, ComparisonRow, MetricRow, Results
from bench.records.arm_rows import Cost, Ratios

Row = dict[str, Any]
SETTING = {"model": "shapes-sdxl", "sampler": "ddim", "steps": 25, "guidance": 5.5}
SUITE = {"name": "table2", "title": "", "id": "ab12", "reproduces": None, "twin": True, "baseline": "standard",
         "limit": None, "headline": None, "controls": [], "command": None}  # fmt: skip
RUN: Row = {"folder": "table2-ab12", "created": "2026-01-01T00:00:00Z", "provenance": {}, "sessions": 1, "stages": {},
            "finished": True}  # fmt: skip


def resulted(given: Row) -> Results:
    """Valid results from what a test says of their suite, run, metrics, arms and comparisons; rows of JSON."""
    metrics = {name: _metric(one) for name, one in given.get("metrics", {}).items()}
    arms = [_arm(row) for row in given.get("arms", [])]
    for arm in arms:
        base = next((one for one in arms if one["is_baseline"]), arm)
        arm["cost"]["ratios"] = _ratios(arm["cost"], base["cost"]) | arm["cost"]["ratios"]
    return Results.model_validate({
        "schema": SCHEMA,
        "suite": SUITE | given.get("suite", {}),
        "run": RUN | given.get("run", {}),
        "runs": [RUN | given.get("run", {}) | {"path": ".", "suite": "table2", "id": "ab12"}],
        "metrics": metrics,
        "arms": arms,
        "comparisons": [_comparison(row) for row in given.get("comparisons", [])],
        **dict.fromkeys(("notes", "equal_compute", "tasks", "controls", "seeds", "categories", "settings", "failed",
                         "pairs"), ()),
        "pairs_total": 0,
    })  # fmt: skip


def _metric(given: Row) -> Row:
    plain = dict.fromkeys(MetricRow.model_fields, "") | {"kind": "image", "higher_is_better": True, "bounds": None}
    return plain | {"twin_of": [], "score_ms": None} | given


def _comparison(given: Row) -> Row:
    plain: Row = dict.fromkeys(ComparisonRow.model_fields)
    plain |= {**SETTING, "prompts": "*", "baseline": "standard", "n": 1}
    return plain | {"complete": True, "marked": False, "sibling": False} | given


def _arm(given: Row) -> Row:
    plain: Row = dict.fromkeys(ArmRow.model_fields)
    plain |= {**SETTING, "prompts": "*", "n": 1, "complete": True, "is_baseline": False}
    plain |= {"metrics": {}, "optimises": [], "siblings": []} | given
    plain.setdefault("n_expected", plain["n"])
    cost: Row = dict.fromkeys(Cost.model_fields) | {"from_cache": 0, "n_timed": 0, "ratios": {}}
    expected = plain["n_expected"] if plain["n_expected"] is not None else plain["n"] + (not plain["complete"])
    return plain | {"n_expected": expected, "cost": cost | given.get("cost", {})}


def _ratios(ours: Row, theirs: Row) -> Row:
    """Of calls and memory, which have no interval; times have no ratio unless a test gives one."""
    found: Row = dict.fromkeys(Ratios.model_fields)
    for name in found:
        if name.startswith(("calls_", "peak_")) and ours[name] and theirs[name]:
            value = ours[name] / theirs[name]
            bound = value if name.startswith("calls_") else None
            found[name] = {"ratio": value, "low": bound, "high": bound}
    return found
