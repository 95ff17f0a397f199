"""Two runs, cell by cell: what is paired, what is reported and not averaged, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import Plug
from facts import missing
from handmade import PROVENANCE, Spot, image, make
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_texts import TWO_ARMS, suite_text
from two_runs import METRIC, one, rows

import bench
from bench.analysis.compare import compare
from bench.records.two_runs import Difference, NotCompared, Step
from bench.report import comparison
from bench.store import Ledger

TWO_METRICS = suite_text(TWO_ARMS, metrics=["shapes-preference", "shapes-clipscore"])


# Numbers --------------------------------------------------------------------------------------------------------------


def test_deltas_are_b_less_a_on_the_same_cells(tmp_path: Path) -> None:
    """Deltas 1, 2, 3 on three prompts: mean 2, three wins, and 2 of 8 sign patterns as extreme: p = 0.25."""
    a = make(tmp_path / "a", lambda s: 10.0 * s.index, n=3)
    b = make(tmp_path / "b", lambda s: 10.0 * s.index + (1 + s.index if s.method == "inversion" else 0), n=3)
    found = compare(a, b)
    row = one(found, "comparisons", method="inversion", prompts="*")
    assert (row.n, row.n_prompts, row.complete) == (3, 3, True)
    assert (row.mean_a, row.mean_b, row.delta) == (10.0, 12.0, 2.0)
    assert (row.win, row.tie, row.loss, row.win_rate) == (3, 0, 0, 1.0)
    assert row.p == 0.25
    assert row.p_holm == 0.5, "two methods are tested on all sets pooled"
    still = one(found, "comparisons", method="standard", prompts="*")
    assert (still.delta, still.low, still.high, still.tie, still.p) == (0.0, 0.0, 0.0, 3, 1.0)


def test_a_comparison_keeps_to_its_schema(tmp_path: Path) -> None:
    a, b = (make(tmp_path / name, lambda s, x=x: x + s.index) for x, name in enumerate("ab"))
    schema = json.loads((Path(bench.__file__).parent / "schemas" / "comparison.schema.json").read_text())
    found = compare(a, b).document()
    jsonschema.Draft202012Validator(schema).validate(found)
    with pytest.raises(jsonschema.ValidationError, match="'verdict' was unexpected"):
        jsonschema.Draft202012Validator(schema).validate({**found, "verdict": "good"})


def test_a_text_that_two_sets_share_is_one_cluster_when_sets_are_pooled(tmp_path: Path) -> None:
    suite = suite_text(TWO_ARMS, prompts=["shapes-pickapic", "shapes-drawbench"])
    texts = lambda prompts, index: f"prompt {index}" if index else "the same in both"  # noqa: E731
    a, b = (make(tmp_path / name, lambda s: s.index + s.steps, suite=suite, n=2, texts=texts) for name in ("a", "b"))
    found = compare(a, b)
    pooled = one(found, "comparisons", method="inversion", prompts="*")
    assert (pooled.n, pooled.n_prompts) == (4, 2)
    assert [row.n for row in rows(found, "comparisons", method="inversion")] == [2, 2, 4]


def test_only_the_same_prompt_and_seed_is_a_pair(tmp_path: Path) -> None:
    a = make(tmp_path / "a", lambda s: 1.0, suite=suite_text(TWO_ARMS, seeds=[0, 1, 2]), n=3)
    b = make(
        tmp_path / "b",
        lambda s: 2.0,
        suite=suite_text(TWO_ARMS, seeds=[1, 2, 3]),
        n=2,
        texts=lambda prompts, index: f"{prompts} {index}" if index == 0 else "rewritten",
    )
    found = compare(a, b)
    arm = one(found, "arms", method="standard", prompts="*")
    # Seeds 1 and 2 are in both, of prompt 0 and 1; prompt 1 is another text.
    assert (arm.n_a, arm.n_b, arm.n_expected, arm.n, arm.changed_prompts) == (9, 6, 2, 2, 2)
    said = comparison.sentences(found)
    assert "Only in A: 10 cells of arms that both have (other prompts or seeds)." in said
    assert any(not missing(line, "4 cells", "another prompt in B", "not compared") for line in said), said


def test_a_prompt_with_other_metadata_is_another_prompt(tmp_path: Path) -> None:
    a, b = (
        make(tmp_path / str(count), lambda s: 1.0, n=2, metadata=lambda p, i, c=count: {"count": c if i else 1})
        for count in (1, 2)
    )
    assert one(compare(a, b), "arms", method="standard", prompts="*").changed_prompts == 1


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=8))
def test_the_other_way_round_every_delta_has_the_other_sign(values: list[tuple[float, float]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        a = make(folder / "a", lambda s: values[s.index][0], n=len(values))
        b = make(folder / "b", lambda s: values[s.index][1], n=len(values))
        there, back = (one(f, "comparisons", method="standard", prompts="*") for f in (compare(a, b), compare(b, a)))
    assert there.delta == pytest.approx(-back.delta, abs=1e-9)
    assert there.low == pytest.approx(-back.high, abs=1e-6)
    assert there.win_rate == pytest.approx(1 - back.win_rate)
    assert there.p == back.p


def test_lower_is_better_turns_wins_but_not_the_delta(tmp_path: Path, plug: Plug) -> None:
    from dataclasses import replace

    from bench import registry

    entry = registry.get("metrics", METRIC)
    plug("metrics", **{METRIC: replace(entry, higher_is_better=False)})
    a, b = make(tmp_path / "a", lambda s: 2.0), make(tmp_path / "b", lambda s: 1.0)
    row = one(compare(a, b), "comparisons", method="standard", prompts="*")
    assert (row.delta, row.win, row.win_rate) == (-1.0, 4, 1.0)


def test_what_a_method_optimises_is_marked_and_not_tested_with_the_others(tmp_path: Path) -> None:
    a, b = (make(tmp_path / name, lambda s, x=x: x + s.index) for x, name in enumerate("ab"))
    for folder in (a, b):
        ledger = Ledger(folder)
        ledger.set("optimises", {"inversion": {"shapes-sdxl": [METRIC]}})
        ledger.close()
    found = compare(a, b)
    assert one(found, "comparisons", method="inversion", prompts="*").p_holm is None
    plain = one(found, "comparisons", method="standard", prompts="*")
    assert plain.p_holm == plain.p, "alone in its family"


# Images, times and calls ----------------------------------------------------------------------------------------------


def test_images_of_equal_digest_are_counted_as_the_same(tmp_path: Path) -> None:
    def digest(spot: Spot) -> str:
        return f"{spot.method} {spot.index}"

    a = make(tmp_path / "a", lambda s: 1.0, images=lambda s: image(digest=digest(s)))
    b = make(tmp_path / "b", lambda s: 1.0, images=lambda s: image(digest=digest(s) + ("!" if s.index == 3 else "")))
    found = compare(a, b)
    assert [arm.identical for arm in rows(found, "arms", prompts="*")] == [3, 3]
    assert comparison.sentences(found)[0] == "6 of the 8 images that both runs have are the same, byte for byte."


def test_times_are_a_ratio_on_the_same_hardware_only(tmp_path: Path) -> None:
    def took(factor: float, hardware: str = "a cpu") -> Any:
        # Two batches of two images: a ratio, and too few for an interval.
        def one_image(s: Any) -> Any:
            own = 0.1 * (factor == 2) * (2 * (s.index // 2) - 1)
            return image(
                sampling_ms=factor * (10 + s.index // 2) + own, encode_ms=factor, noise_ms=factor, decode_ms=factor,
                hardware=hardware, calls_sampling=int(4 * factor),
            )  # fmt: skip

        return one_image

    a = make(tmp_path / "a", lambda s: 1.0, images=took(1))
    b = make(tmp_path / "b", lambda s: 1.0, images=took(2))
    c = make(tmp_path / "c", lambda s: 1.0, images=took(2, "a gpu"))
    cost = one(compare(a, b), "arms", method="standard", prompts="*").cost
    assert cost.times.sampling_ms.ratio == pytest.approx(2.0, rel=0.001)
    assert (cost.times.sampling_ms.low, cost.times.sampling_ms.high) == (None, None)
    assert cost.peak.ratio is None, "a process's peak compares nothing"
    assert cost.times.total_ms.a == pytest.approx(13.5)
    assert (cost.n_timed, cost.calls.calls_total) == (4, Step(a=4.0, b=8.0))
    found = compare(a, c)
    other = one(found, "arms", method="standard", prompts="*").cost
    assert (other.times, other.no_times, other.peak.ratio) == (None, "different hardware", None)
    assert any("different hardware, not compared (a cpu against a gpu)" in s for s in comparison.sentences(found))


def test_one_image_in_both_runs_is_one_measurement(tmp_path: Path) -> None:
    """B took two of its images from the cache, where A had put them: their times are A's, and say nothing."""
    a = make(tmp_path / "a", lambda s: 1.0, images=lambda s: image(sampling_ms=10.0 + s.index))
    b = make(
        tmp_path / "b",
        lambda s: 1.0,
        images=lambda s: image(sampling_ms=10.0 + s.index, from_cache=1) if s.index < 2 else image(sampling_ms=30.0),
    )
    found = compare(a, b)
    cost = one(found, "arms", method="standard", prompts="*").cost
    assert (cost.n_timed, cost.n_shared, cost.from_cache_b) == (2, 2, 2)
    assert cost.times.sampling_ms.a == 12.5
    assert any(not missing(note, "4 of 8 images of B", "the cache", "times") for note in found.notes), found.notes


# What is reported and not averaged -----------------------------------------------------------------------------------


def test_another_protocol_is_reported_and_not_averaged(tmp_path: Path) -> None:
    a = make(tmp_path / "a", lambda s: s.steps, suite=suite_text(TWO_ARMS, steps=[4, 6]))
    b = make(tmp_path / "b", lambda s: s.steps, suite=suite_text(TWO_ARMS, steps=[4, 8]))
    found = compare(a, b)
    assert {row.steps for row in found.comparisons} == {4}
    assert [(row.steps, row.cells) for row in found.only_a] == [(6, 4), (6, 4)]
    assert [(d.differs, d.a.steps, d.b.steps) for d in found.different_protocol] == [
        ("steps", 6, 8),
        ("steps", 6, 8),
    ]
    said = "\n".join(comparison.sentences(found))
    different = ("protocol", "not compared", "2 pairs of arms", "steps (6 in A, 8 in B)")
    assert any(not missing(line, *different) for line in said.splitlines()), said
    assert "Only in A: 8 cells of 2 arms (standard on shapes-sdxl, ddim, 6 steps, g 5.0; inversion" in said


def test_a_metric_of_another_scorer_is_not_compared(tmp_path: Path) -> None:
    both = lambda s: {"shapes-preference": 1.0, "shapes-clipscore": 2.0}  # noqa: E731
    a = make(
        tmp_path / "a", both, suite=TWO_METRICS, scorers={"shapes-preference": "old0000000000", "shapes-clipscore": "c"}
    )
    b = make(
        tmp_path / "b", both, suite=TWO_METRICS, scorers={"shapes-preference": "new0000000000", "shapes-clipscore": "c"}
    )
    found = compare(a, b)
    assert list(found.metrics) == ["shapes-clipscore"]
    (refused,) = found.not_compared
    assert refused.metric == METRIC
    assert missing(refused.reason, "scorer", "old000000000 in A", "new000000000 in B") == []
    assert Difference(group="scorers", what=METRIC, a="old0000000000", b="new0000000000") in found.differences


def test_of_several_scorers_the_one_that_both_have_is_taken(tmp_path: Path) -> None:
    a = make(tmp_path / "a", lambda s: 1.0, scorers={METRIC: "old"})
    b = make(tmp_path / "b", lambda s: 3.0, scorers={METRIC: "new"})
    ledger = Ledger(a)
    judged = ledger.db.execute("SELECT digest, prompt FROM scores").fetchall()
    ledger.put_scores((digest, prompt, METRIC, "new", 2.5, "{}", 1.0) for digest, prompt in judged)
    ledger.close()
    found = compare(a, b)
    assert found.metrics[METRIC].digest == "new"
    assert one(found, "comparisons", method="standard", prompts="*").delta == 0.5


def test_a_metric_of_one_run_is_reported(tmp_path: Path) -> None:
    a = make(tmp_path / "a", lambda s: 1.0)
    b = make(tmp_path / "b", lambda s: {"shapes-preference": 1.0, "shapes-clipscore": 2.0}, suite=TWO_METRICS)
    assert compare(a, b).not_compared == (NotCompared(metric="shapes-clipscore", reason="not measured in A"),)


def test_what_the_runs_were_made_with_is_reported_where_it_differs(tmp_path: Path) -> None:
    changed = PROVENANCE | {"commit": "decade", "dirty": True, "packages": {"torch": "2.7"}, "hardware": "a gpu"}
    changed["weights"] = {"shapes-sdxl": "m1", METRIC: "s0"}
    a = make(tmp_path / "a", lambda s: 1.0)
    b = make(tmp_path / "b", lambda s: 1.0, provenance=changed, suite=suite_text(TWO_ARMS, seeds=[0, 1]))
    found = compare(a, b)
    differing = {(d.group, d.what): (d.a, d.b) for d in found.differences}
    ids = differing.pop(("suite", "id")), differing.pop(("suite", "text (sha256)"))
    assert all(one != other for one, other in ids)
    assert differing == {
        ("suite", "seeds"): ("0", "0, 1"),
        ("code", "commit"): ("c0ffee", "decade"),
        ("code", "dirty"): (False, True),
        ("machine", "hardware"): ("a cpu", "a gpu"),
        ("packages", "torch"): ("2.6", "2.7"),
        ("weights", "shapes-sdxl"): ("m0", "m1"),
    }
    assert "B was made by code with uncommitted changes." in found.notes


def test_runs_of_other_suites_and_baselines_are_compared_by_what_they_share(tmp_path: Path) -> None:
    """Cells are paired across runs, not with a baseline: another one is reported and changes no delta."""
    other = suite_text(TWO_ARMS, name="other", baseline="inversion")
    found = compare(make(tmp_path / "a", lambda s: 1.0), make(tmp_path / "b", lambda s: 3.0, suite=other))
    assert one(found, "comparisons", method="standard", prompts="*").delta == 2.0
    differing = {d.what: (d.a, d.b) for d in found.differences}
    assert differing["baseline"] == ("standard", "inversion")
    assert differing["name"] == ("made", "other")


def test_a_method_of_one_name_and_two_meanings_is_reported(tmp_path: Path) -> None:
    best = {"use": "best_of_n", "name": "best", "selection_metric": "shapes-geneval"}
    a, b = (
        make(tmp_path / f"n{n}", lambda s: 1.0, suite=suite_text(TWO_ARMS, methods=["standard", best | {"n": n}]))
        for n in (2, 3)
    )
    (one,) = [d for d in compare(a, b).differences if d.what == "method best"]
    assert (one.a[0]["n"], one.b[0]["n"]) == (2, 3)
