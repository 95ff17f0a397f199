"""Results of a row or two, for tests of gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resulted import resulted

from bench import gate
from bench.gate import Rule, Verdict

SETTING = {"model": "shapes-sdxl", "prompts": "*", "sampler": "ddim", "steps": 25, "guidance": 5.5}


def comparison(delta: Any, low: Any, high: Any, **given: Any) -> dict[str, Any]:
    """A complete comparison of `npnet` on `preference`."""
    row = {**SETTING, "method": "npnet", "baseline": "standard", "metric": "preference", "n": 400, "n_prompts": 400,
           "delta": delta, "low": low, "high": high, "p": 0.5, "p_holm": 0.5, "win": 180, "tie": 10, "loss": 210,
           "win_rate": 0.4, "win_low": 0.35, "win_high": 0.45, "detectable": 0.05, "complete": True,
           "marked": False}  # fmt: skip
    return row | given


def results(
    *comparisons: dict[str, Any], arms: list[dict[str, Any]] | None = None, higher: bool = True
) -> dict[str, Any]:
    """The least that a gate reads."""
    metric = {"title": "Preference", "unit": "logit", "higher_is_better": higher, "digest": "sha256:aa"}
    suite = {"name": "table2", "id": "ab12", "baseline": "standard"}
    run = {"folder": "table2-ab12"}
    return {"schema": 2, "suite": suite, "metrics": {"preference": metric}, "comparisons": list(comparisons),
            "arms": arms or [], "run": run}  # fmt: skip


def arm(method: str, *, complete: bool = True, **cost: Any) -> dict[str, Any]:
    """An arm of which only the cost counts."""
    return {
        **SETTING,
        "method": method,
        "n": 400,
        "complete": complete,
        "is_baseline": method == "standard",
        "cost": cost,
    }


def one(found: dict[str, Any], **rule: Any) -> gate.Verdict:
    """The only verdict of one rule."""
    verdicts = check(found, [Rule(**{"metric": "preference", **rule})])
    assert len(verdicts) == 1
    return verdicts[0]


def check(found: dict[str, Any], rules: Sequence[Rule]) -> list[Verdict]:
    """The verdicts of rules on results of which a test says a few rows."""
    return gate.check(resulted(found), rules)
