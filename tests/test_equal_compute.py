"""What plain sampling gives for as many calls: which arm is the reference, its deltas, and how a report says them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import Spot, image, make
from suite_texts import TWO_ARMS, suite_text

from bench import registry, stats
from bench.analysis import results
from bench.analysis.arms import MeasuredArm
from bench.analysis.equal_compute import Costed, plain_labels, reference, steps_to_add
from bench.records import load
from bench.report.tables import metric_table
from bench.store import Ledger
from bench.suite import parse

HALVES = {
    "use": "best_of_n",
    "name": "two_halves",
    "n": 2,
    "equal_compute": True,
    "selection_metric": "shapes-preference",
}
SEVERAL = {
    **TWO_ARMS,
    "steps": [4, 8],
    "seeds": [0, 1],
    "methods": ["standard", "inversion", "repaint_every", "reseed", HALVES],
    "metrics": ["shapes-aesthetic", "shapes-preference"],
}
CALLS = {"inversion": 2, "repaint_every": 3}
GAINS = {"standard": 0.0, "inversion": 0.5, "repaint_every": 1.0, "reseed": 0.0, "two_halves": 0.25}


def score(spot: Spot) -> dict[str, float]:
    """A prompt's difficulty, the method's gain, a unit for each of the steps, and luck of the method and prompt."""
    luck = float(np.random.default_rng([len(spot.method), spot.steps, spot.index, spot.seed]).normal())
    value = spot.index + GAINS[spot.method] + spot.steps + luck
    return {"shapes-aesthetic": value, "shapes-preference": -value}


def compute(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    def costed(spot: Spot) -> Any:
        return image(calls_sampling=spot.steps, calls_noise=CALLS.get(spot.method, 0))

    scorers = {name: registry.get("metrics", name).digest() for name in ("shapes-aesthetic", "shapes-preference")}
    run = make(tmp_path / "run", score, suite=suite_text(SEVERAL, **changes), n=6, images=costed, scorers=scorers)
    return results.compute(Ledger(run)).document()


def found(results: dict[str, Any], method: str, steps: int, prompts: str = "*") -> dict[str, Any]:
    rows = [r for r in results["equal_compute"] if (r["method"], r["steps"], r["prompts"]) == (method, steps, prompts)]
    assert len(rows) == 1
    return dict(rows[0])


def costed(method: str, steps: int, calls: float, *, guidance: float = 5.0, prompts: str = "*") -> Costed:
    empty: Any = np.array([], int)
    arm = MeasuredArm(("m", "ddim", steps, guidance), method, prompts, empty, empty, empty, empty, frozenset())
    return Costed(arm, calls)


# Which arm is the reference ------------------------------------------------------------------------------------------


def test_plain_is_standard_sampling_once_or_several_times() -> None:
    suite = parse(
        suite_text(
            TWO_ARMS,
            methods=[
                "standard",
                "reseed",
                "inversion",
                {"use": "best_of_n", "name": "two", "n": 2},
                ["inversion", "best_of_n"],
                {"name": "four", "chain": ["standard", "best_of_n"]},
            ],
        ),
        file="s.yaml",
    )
    assert plain_labels(suite.methods) == {"standard", "two", "four"}


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        (20, ("two_halves", 20)),  # as near as the baseline, whose delta the table has already
        (22, ("two_halves", 20)),
        (26, ("standard", 28)),  # nearest, and below 1.1 times
        (36, None),  # 40 is more than 1.1 times, 28 less than 0.8 times
        (37, ("two", 40)),
        (49, ("two", 40)),
        (51, None),
    ],
)
def test_the_reference_has_the_nearest_calls_up_to_a_tenth_more(calls: float, expected: Any) -> None:
    plain = [
        costed("standard", 20, 20),
        costed("standard", 28, 28),
        costed("two", 20, 40),
        costed("two_halves", 20, 20),
    ]
    one = reference(costed("mine", 20, calls), plain, baseline="standard")
    assert (one and (one.arm.method, one.calls)) == expected


def test_the_reference_is_of_the_same_model_guidance_and_prompts_and_not_the_arm_itself() -> None:
    mine = costed("two", 20, 40)
    others = [mine, costed("standard", 40, 40, guidance=2.0), costed("standard", 40, 40, prompts="hpd")]
    assert reference(mine, others, baseline="standard") is None
    assert reference(mine, [*others, costed("standard", 40, 40)], baseline="standard") is not None


def test_steps_to_add_make_as_many_calls() -> None:
    assert steps_to_add(costed("mine", 20, 35), costed("standard", 20, 20)) == 35
    assert steps_to_add(costed("mine", 10, 57), costed("standard", 10, 19)) == 30  # a sampler of two calls a step
    assert steps_to_add(costed("mine", 20, 35), None) is None
    assert steps_to_add(costed("mine", 20, 3500), costed("standard", 20, 20)) is None


# Numbers -------------------------------------------------------------------------------------------------------------


def test_an_arm_without_a_comparable_one_is_given_what_to_add(tmp_path: Path) -> None:
    row = found(compute(tmp_path), "repaint_every", 8)
    assert (row["calls"], row["reference"], row["add_steps"], row["metrics"]) == (11, None, 11, {})


def test_the_reference_at_another_step_count_is_paired_by_prompt_and_seed(tmp_path: Path) -> None:
    row = found(compute(tmp_path, steps=[4, 7]), "repaint_every", 4)
    label = row["reference"]["method"]
    assert (row["reference"]["steps"], row["reference"]["calls"], label) in [(7, 7, "standard"), (7, 7, "two_halves")]
    keys = [(i, s) for i in range(6) for s in (0, 1)]
    ours, theirs = (
        [score(Spot(m, "shapes-pickapic", n, i, s))["shapes-aesthetic"] for i, s in keys]
        for m, n in (("repaint_every", 4), (label, 7))
    )
    expected = stats.paired_delta(ours, theirs, [f"shapes-pickapic {i}" for i, _ in keys])
    delta = row["metrics"]["shapes-aesthetic"]
    assert delta["delta"] == pytest.approx(np.mean(np.subtract(ours, theirs)), rel=1e-12)
    assert (delta["low"], delta["high"]) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert delta["n"] == 12


def test_a_metric_that_the_reference_chooses_by_is_marked(tmp_path: Path) -> None:
    row = found(compute(tmp_path), "reseed", 4)
    assert row["reference"]["method"] == "two_halves"
    assert {name: one["marked"] for name, one in row["metrics"].items()} == {
        "shapes-aesthetic": False,
        "shapes-preference": True,
    }


def test_a_control_is_no_reference(tmp_path: Path) -> None:
    document = compute(tmp_path, controls={"two_halves": {"effect": "positive", "metric": "shapes-preference"}})
    assert found(document, "reseed", 4)["reference"]["method"] == "standard"


def test_baselines_have_no_row(tmp_path: Path) -> None:
    assert "standard" not in {row["method"] for row in compute(tmp_path)["equal_compute"]}


# The column ----------------------------------------------------------------------------------------------------------


def test_the_quality_table_says_the_reference_or_what_to_add(tmp_path: Path) -> None:
    document = compute(tmp_path)
    found = load.parse(json.dumps(document).encode(), "document")
    table = metric_table(found)
    assert table.headers[-1] == "against plain sampling at equal calls"
    last = {(row[1].text, row[3].text.split(" †")[0]): row[-1] for row in table.rows}
    assert last["ddim, 4 steps, g 5.0", "standard"].text == "n/a"
    assert last["ddim, 4 steps, g 5.0", "two_halves"].sub == "the deltas beside"
    near = last["ddim, 4 steps, g 5.0", "reseed"]
    assert near.text == "two_halves, 4 calls"
    assert near.sub.count(";") == 1
    assert "Preference †" in near.sub
    far = last["ddim, 8 steps, g 5.0", "repaint_every"]
    assert (far.text, far.sub) == ("none near 11 calls", "add 11 to steps")
    assert metric_table(found, equal=False).headers == table.headers[:-1]
