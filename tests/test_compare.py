"""Two runs, cell by cell: what is paired, what is told and not averaged, and what cannot be compared."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import TINY, Bench, Plug, Run
from handmade import PROVENANCE, SUITE, Spot, image, make
from hypothesis import given, settings
from hypothesis import strategies as st

import bench
from bench.analysis.compare import compare
from bench.errors import NotComparable
from bench.records.two_runs import Difference, NotCompared, Step, TwoRuns
from bench.report import comparison
from bench.store import SCHEMA, Ledger

METRIC = "shapes-preference"
TWO_METRICS = SUITE.replace("metrics: [shapes-preference]", "metrics: [shapes-preference, shapes-clipscore]")


def rows(found: TwoRuns, name: str, **where: Any) -> list[Any]:
    return [row for row in getattr(found, name) if all(getattr(row, key) == value for key, value in where.items())]


def one(found: TwoRuns, name: str, **where: Any) -> Any:
    (row,) = rows(found, name, **where)
    return row


# Numbers ------------------------------------------------------------------------------------------------------------


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
    suite = SUITE.replace("[shapes-pickapic]", "[shapes-pickapic, shapes-drawbench]")
    texts = lambda prompts, index: f"prompt {index}" if index else "the same in both"  # noqa: E731
    a, b = (make(tmp_path / name, lambda s: s.index + s.steps, suite=suite, n=2, texts=texts) for name in ("a", "b"))
    found = compare(a, b)
    pooled = one(found, "comparisons", method="inversion", prompts="*")
    assert (pooled.n, pooled.n_prompts) == (4, 2)
    assert [row.n for row in rows(found, "comparisons", method="inversion")] == [2, 2, 4]


def test_only_the_same_prompt_and_seed_is_a_pair(tmp_path: Path) -> None:
    a = make(tmp_path / "a", lambda s: 1.0, suite=SUITE.replace("[0]", "[0, 1, 2]"), n=3)
    b = make(
        tmp_path / "b",
        lambda s: 2.0,
        suite=SUITE.replace("[0]", "[1, 2, 3]"),
        n=2,
        texts=lambda prompts, index: f"{prompts} {index}" if index == 0 else "rewritten",
    )
    found = compare(a, b)
    arm = one(found, "arms", method="standard", prompts="*")
    # Seeds 1 and 2 are in both, of prompt 0 and 1; prompt 1 is another text.
    assert (arm.n_a, arm.n_b, arm.n_expected, arm.n, arm.changed_prompts) == (9, 6, 2, 2, 2)
    said = comparison.sentences(found)
    assert "Only in A: 10 cells of arms that both have (other prompts or seeds)." in said
    assert "4 cells have another prompt in B than in A at the same place: not compared." in said


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


# Images, times and calls --------------------------------------------------------------------------------------------


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
    assert "4 of 8 images of B came from the cache and keep the times they were made with." in found.notes


# What is told and not averaged --------------------------------------------------------------------------------------


def test_another_protocol_is_told_and_not_averaged(tmp_path: Path) -> None:
    a = make(tmp_path / "a", lambda s: s.steps, suite=SUITE.replace("steps: 4", "steps: [4, 6]"))
    b = make(tmp_path / "b", lambda s: s.steps, suite=SUITE.replace("steps: 4", "steps: [4, 8]"))
    found = compare(a, b)
    assert {row.steps for row in found.comparisons} == {4}
    assert [(row.steps, row.cells) for row in found.only_a] == [(6, 4), (6, 4)]
    assert [(d.differs, d.a.steps, d.b.steps) for d in found.different_protocol] == [
        ("steps", 6, 8),
        ("steps", 6, 8),
    ]
    said = "\n".join(comparison.sentences(found))
    assert "Different protocol, not compared: 2 pairs of arms differ in steps (6 in A, 8 in B)." in said
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
    assert (refused.metric, refused.reason) == (METRIC, "another scorer: digest old000000000 in A, new000000000 in B")
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


def test_a_metric_of_one_run_is_told(tmp_path: Path) -> None:
    a = make(tmp_path / "a", lambda s: 1.0)
    b = make(tmp_path / "b", lambda s: {"shapes-preference": 1.0, "shapes-clipscore": 2.0}, suite=TWO_METRICS)
    assert compare(a, b).not_compared == (NotCompared(metric="shapes-clipscore", reason="not measured in A"),)


def test_what_the_runs_were_made_with_is_told_where_it_differs(tmp_path: Path) -> None:
    changed = PROVENANCE | {"commit": "decade", "dirty": True, "packages": {"torch": "2.7"}, "hardware": "a gpu"}
    changed["weights"] = {"shapes-sdxl": "m1", METRIC: "s0"}
    a = make(tmp_path / "a", lambda s: 1.0)
    b = make(tmp_path / "b", lambda s: 1.0, provenance=changed, suite=SUITE.replace("seeds: [0]", "seeds: [0, 1]"))
    found = compare(a, b)
    told = {(d.group, d.what): (d.a, d.b) for d in found.differences}
    ids = told.pop(("suite", "id")), told.pop(("suite", "text (sha256)"))
    assert all(one != other for one, other in ids)
    assert told == {
        ("suite", "seeds"): ("0", "0, 1"),
        ("code", "commit"): ("c0ffee", "decade"),
        ("code", "dirty"): (False, True),
        ("machine", "hardware"): ("a cpu", "a gpu"),
        ("packages", "torch"): ("2.6", "2.7"),
        ("weights", "shapes-sdxl"): ("m0", "m1"),
    }
    assert "B was made by code with uncommitted changes." in found.notes


def test_runs_of_other_suites_and_baselines_are_compared_by_what_they_share(tmp_path: Path) -> None:
    """Cells are paired across runs, not with a baseline: another one is told and changes no delta."""
    other = SUITE.replace("name: made", "name: other").replace("baseline: standard", "baseline: inversion")
    found = compare(make(tmp_path / "a", lambda s: 1.0), make(tmp_path / "b", lambda s: 3.0, suite=other))
    assert one(found, "comparisons", method="standard", prompts="*").delta == 2.0
    told = {d.what: (d.a, d.b) for d in found.differences}
    assert told["baseline"] == ("standard", "inversion")
    assert told["name"] == ("made", "other")


def test_a_method_of_one_name_and_two_meanings_is_told(tmp_path: Path) -> None:
    named = "[standard, {{use: best_of_n, name: best, n: {}, selection_metric: shapes-geneval}}]"
    a, b = (
        make(tmp_path / f"n{n}", lambda s: 1.0, suite=SUITE.replace("[standard, inversion]", named.format(n)))
        for n in (2, 3)
    )
    (told,) = [d for d in compare(a, b).differences if d.what == "method best"]
    assert (told.a[0]["n"], told.b[0]["n"]) == (2, 3)


# Nothing to compare, and bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("steps: 4", "steps: 8"), "have nothing in common: steps 4 against 8"),
        (("guidance: 5.0", "guidance: 6.0"), "have nothing in common: guidance 5.0 against 6.0"),
        (("[shapes-pickapic]", "[shapes-hpd]"), "prompt sets shapes-pickapic against shapes-hpd"),
        (("baseline: standard", "baseline: standard\nnegative_prompt: blurry"), "negative prompt '' against 'blurry'"),
        (("seeds: [0]", "seeds: [1]"), "have no finished image in common: seeds 0 against 1"),
    ],
)
def test_runs_without_a_common_cell_are_not_comparable(
    bench: Bench, tmp_path: Path, changed: tuple[str, str], said: str
) -> None:
    a = make(tmp_path / "a", lambda s: 1.0)
    b = make(tmp_path / "b", lambda s: 1.0, suite=SUITE.replace(*changed))
    done = bench("compare", a, b)
    assert done.code == 3
    assert said in done.error


def test_other_prompt_texts_are_not_comparable(bench: Bench, tmp_path: Path) -> None:
    a = make(tmp_path / "a", lambda s: 1.0)
    b = make(tmp_path / "b", lambda s: 1.0, texts=lambda p, i: f"other {i}")
    assert "every prompt is another text; their prompt sets are different versions" in bench("compare", a, b).error


def test_no_metric_in_common_is_not_comparable_but_images_and_times_are_written(bench: Bench, tmp_path: Path) -> None:
    a, b = (make(tmp_path / name, lambda s: 1.0, scorers={METRIC: name * 12}) for name in "ab")
    done = bench("compare", a, b, "--out", tmp_path / "out")
    assert done.code == 3
    assert "no metric could be compared (shapes-preference: another scorer: digest" in done.error
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["arms"]


def test_an_unfinished_run_is_compared_by_what_it_has(bench: Bench, tmp_path: Path) -> None:
    a = make(tmp_path / "a", lambda s: 1.0)
    b = make(tmp_path / "b", lambda s: 2.0, images=lambda s: image() if s.index < 3 else None, finished=False)
    found = compare(a, b)
    row = one(found, "comparisons", method="standard", prompts="*")
    assert (row.n, row.n_expected, row.complete, row.p) == (3, 4, False, None)
    assert "B is not finished (6 of 8 images): this is what it has so far." in found.notes
    done = bench("compare", a, b)
    assert done.code == 0
    assert "standard in B against standard in A: incomplete, not judged." in done.out


def test_a_run_without_an_image_yet_is_not_comparable(tmp_path: Path) -> None:
    a = make(tmp_path / "a", lambda s: 1.0)
    b = make(tmp_path / "b", lambda s: None, images=lambda s: None, finished=False)
    with pytest.raises(NotComparable, match=r"/b has no image yet; finish the runs first"):
        compare(a, b)


def test_deleted_images_are_told_and_their_scores_compared(tmp_path: Path) -> None:
    a, b = (make(tmp_path / name, lambda s: 1.0) for name in "ab")
    shutil.rmtree(b / "images")
    found = compare(a, b)
    assert one(found, "comparisons", method="standard", prompts="*").n == 4
    assert any(note.startswith("8 image files of B are gone from its folder") for note in found.notes)


def no_folder(folder: Path) -> tuple[int, str]:
    shutil.rmtree(folder)
    return 2, "no run there (no ledger.sqlite)"


def no_suite(folder: Path) -> tuple[int, str]:
    ledger = Ledger(folder)
    ledger.db.execute("DELETE FROM meta WHERE key = 'suite'")
    ledger.close()
    return 2, "its run was stopped before it began; run the suite again"


def no_cells(folder: Path) -> tuple[int, str]:
    ledger = Ledger(folder)
    ledger.put_cells([])
    ledger.close()
    return 3, "an empty run (its ledger has no cell); run the suite first"


def no_table(folder: Path) -> tuple[int, str]:
    for path in folder.glob("ledger.sqlite*"):
        path.write_bytes(b"")
    return 2, "an empty ledger; run the suite first"


def newer(folder: Path) -> tuple[int, str]:
    ledger = Ledger(folder)
    ledger.set("schema", SCHEMA + 1)
    ledger.close()
    return 2, f"written by a newer version (ledger schema {SCHEMA + 1}"


def junk(folder: Path) -> tuple[int, str]:
    (folder / "ledger.sqlite").write_bytes(b"no database " * 100)
    return 2, "not a readable ledger (file is not a database)"


@pytest.mark.parametrize("harm", [no_folder, no_suite, no_cells, no_table, newer, junk])
@pytest.mark.parametrize("command", ["compare", "power"])
def test_a_run_that_cannot_be_read_is_one_line(bench: Bench, tmp_path: Path, harm: Any, command: str) -> None:
    a, b = (make(tmp_path / name, lambda s: 1.0) for name in "ab")
    code, said = harm(b)
    done = bench("compare", a, b) if command == "compare" else bench("power", b, "--delta", "1")
    if command == "power" and harm is no_folder:
        said = "no such file"
    assert done.code == code, done.err
    assert said in done.error


def test_a_run_with_itself_is_a_mistake(bench: Bench, tmp_path: Path) -> None:
    a = make(tmp_path / "a", lambda s: 1.0)
    done = bench("compare", a, tmp_path / "." / "a")
    assert done.code == 2
    assert "the same run folder twice; expected two runs" in done.error


def test_a_place_that_cannot_be_written_is_one_line(bench: Bench, tmp_path: Path) -> None:
    a, b = (make(tmp_path / name, lambda s: 1.0) for name in "ab")
    done = bench("compare", a, b, "--json", a / "ledger.sqlite" / "x.json")
    assert done.code == 2
    assert "cannot be written" in done.error


# Forms --------------------------------------------------------------------------------------------------------------


def test_hostile_names_are_inert_in_every_form(tmp_path: Path) -> None:
    """A method's label and a prompt are the suite author's free text."""
    hostile = "<script>alert(1)</script>|[x](javascript:alert(1))"
    suite = SUITE.replace("inversion]", f"{{use: inversion, name: {json.dumps(hostile)}}}]")
    a, b = (make(tmp_path / name, lambda s, x=x: x + s.index, suite=suite) for x, name in enumerate("ab"))
    found = compare(a, b)
    page, text = comparison.html(found), comparison.markdown(found)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in text
    assert "](javascript:" not in text
    assert not re.search(r"(?<!\\)\|\[x", text), "a cell's end inside a label"


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    a, b = (make(tmp_path / name, lambda s, x=x: x + s.index) for x, name in enumerate("ab"))
    page = comparison.html(compare(a, b))
    assert "default-src 'none'" in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "<script" not in page


def test_what_the_command_writes_and_prints(bench: Bench, tmp_path: Path) -> None:
    a, b = (make(tmp_path / name, lambda s, x=x: x + 0.1 * s.index, n=20) for x, name in enumerate("ab"))
    done = bench("compare", a, b, "--out", tmp_path / "out", "--html", tmp_path / "one" / "page.html")
    assert done.code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"comparison.json", "comparison.md", "comparison.html"}
    assert (tmp_path / "one" / "page.html").read_text() == (tmp_path / "out" / "comparison.html").read_text()
    lines = done.out.splitlines()
    assert lines[0] == "0 of the 40 images that both runs have are the same, byte for byte."
    assert lines[1].startswith("standard in B against standard in A on Preference: +1")
    assert "adjusted p < 0.001" in lines[1]
    assert lines[1].endswith("a clear improvement.")
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (written["kind"], written["schema"]) == ("noisebench comparison", 2)
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "| shapes-sdxl | all sets | inversion | +1.000 [+1.000, +1.000] ▲<br>0.950 → 1.950, p &lt; 0.001 |" in text


def test_identical_runs_are_one_sentence(bench: Bench, tmp_path: Path) -> None:
    def made(name: str, **given: Any) -> Path:
        values = given.pop("values", lambda s: 1.0 + s.index)
        return make(tmp_path / name, values, images=lambda s: image(digest=f"{s.method} {s.index}"), **given)

    a, b = made("a"), made("b")
    assert bench("compare", a, b).out.splitlines() == [
        "The two runs are identical: all 8 images and all their scores by 1 metric are the same; "
        "an image took 1.00 times as long in B."
    ]
    for other in (made("c", values=lambda s: 1.0 + s.index + (s.index == 3)), made("d", n=3)):
        assert "identical" not in comparison.sentences(compare(a, other))[0]


def test_the_markdown_stays_below_githubs_limit(tmp_path: Path) -> None:
    many = ", ".join(["standard", *(f"{{use: inversion, name: {'m' * 195}{i}}}" for i in range(90))])
    a, b = (
        make(tmp_path / name, lambda s: 1.0, n=2, suite=SUITE.replace("standard, inversion", many)) for name in "ab"
    )
    text = comparison.markdown(compare(a, b))
    assert 40_000 < len(text) < 65_000
    assert "(Cut here for length; the JSON and the HTML hold everything.)" in text


def test_two_real_runs_that_share_a_cache(bench: Bench, finished: Run, tmp_path: Path) -> None:
    """Half of the prompts, taken from the first run's cache: the same images, one measurement, other cells told."""
    suite = tmp_path / "tiny.yaml"
    suite.write_text(TINY)
    done = bench("run", suite, "--limit", 2, "--runs", tmp_path / "runs", "--cache", finished.cache, "--device", "cpu")
    assert done.code == 0, done.err
    (other,) = (tmp_path / "runs").iterdir()
    found = compare(finished.folder, other)
    assert all(arm.identical == arm.n == 2 for arm in found.arms)
    assert all(row.delta == 0 for row in found.comparisons)
    standard = one(found, "arms", method="standard", prompts="*")
    assert standard.cost.no_times == "the images are the same ones, timed once"
    assert comparison.sentences(found)[0] == "All 8 images that both runs have are the same, byte for byte."
    assert {d.what for d in found.differences if d.group == "suite"} == {"id", "limit"}


def test_nothing_is_written_into_the_runs(finished: Run, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path / "one")
    other = make_copy_of_half(finished, tmp_path / "two")

    def kept() -> dict[Path, bytes]:
        # SQLite's lock file (-shm) is how readers tell writers that they are there.
        files = [p for p in copy.folder.rglob("*") if p.is_file() and not p.name.endswith(("-wal", "-shm"))]
        return {path: path.read_bytes() for path in files}

    before = kept()
    assert len(before) > 15
    compare(copy.folder, other)
    assert kept() == before


def make_copy_of_half(finished: Run, to: Path) -> Path:
    """The run without the scores of its first prompt."""
    copy = finished.copy(to)
    ledger = Ledger(copy.folder)
    ledger.db.execute("DELETE FROM cells WHERE prompt_index = 0")
    ledger.close()
    return copy.folder


def test_compare_and_power_import_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from bench.cli import main; code = main(sys.argv[1:]); "
        "print([m for m in ('torch', 'diffusers', 'transformers', 'pandas', 'matplotlib') if m in sys.modules], code)"
    )
    a, b = (make(tmp_path / name, lambda s, x=x: x + s.index) for x, name in enumerate("ab"))
    for arguments in (["compare", a, b, "--out", tmp_path / "out"], ["power", a, "--delta", "0.1"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, env=os.environ
        )
        assert done.stdout.splitlines()[-1] == "[] 0", done.stderr
