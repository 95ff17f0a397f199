"""`compare`: what cannot be compared, mistakes, and what it prints and writes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Bench, Run
from handmade import image, make
from suite_texts import TWO_ARMS, suite_text
from two_runs import METRIC, one

from bench.analysis.compare import compare
from bench.errors import NotComparable
from bench.report import comparison
from bench.store import SCHEMA, Ledger

# Nothing to compare, and bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"steps": 8}, "have nothing in common: steps 4 against 8"),
        ({"guidance": 6.0}, "have nothing in common: guidance 5.0 against 6.0"),
        ({"prompts": ["shapes-hpd"]}, "prompt sets shapes-pickapic against shapes-hpd"),
        ({"negative_prompt": "blurry"}, "negative prompt '' against 'blurry'"),
        ({"seeds": [1]}, "have no finished image in common: seeds 0 against 1"),
    ],
)
def test_runs_without_a_common_cell_are_not_comparable(
    bench: Bench, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    a = make(tmp_path / "a", lambda s: 1.0)
    b = make(tmp_path / "b", lambda s: 1.0, suite=suite_text(TWO_ARMS, **changed))
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


def test_deleted_images_are_reported_and_their_scores_compared(tmp_path: Path) -> None:
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


# Forms ----------------------------------------------------------------------------------------------------------------


def test_hostile_names_are_inert_in_every_form(tmp_path: Path) -> None:
    """A method's label and a prompt are the suite author's free text."""
    hostile = "<script>alert(1)</script>|[x](javascript:alert(1))"
    suite = suite_text(TWO_ARMS, methods=["standard", {"use": "inversion", "name": hostile}])
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
    many = suite_text(
        TWO_ARMS, methods=["standard", *({"use": "inversion", "name": f"{'m' * 195}{i}"} for i in range(60))]
    )
    a, b = (make(tmp_path / name, lambda s: 1.0, n=2, suite=many) for name in "ab")
    text = comparison.markdown(compare(a, b))
    assert 40_000 < len(text) < 65_000
    assert "(Cut here for length; the JSON and the HTML hold everything.)" in text


def test_two_real_runs_that_share_a_cache(bench: Bench, finished: Run, tmp_path: Path) -> None:
    """Half of the prompts, taken from the first run's cache: the same images, one measurement, other cells reported."""
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
        "import json, sys; from bench.cli import main; codes = [main(one) for one in json.loads(sys.argv[1])]; "
        "print([m for m in ('torch', 'diffusers', 'transformers', 'pandas', 'matplotlib') if m in sys.modules], codes)"
    )
    a, b = (make(tmp_path / name, lambda s, x=x: x + s.index) for x, name in enumerate("ab"))
    compared = ["compare", a, b, "--out", tmp_path / "out"]
    commands = [[str(word) for word in words] for words in (compared, ["power", a, "--delta", "0.1"])]
    done = subprocess.run([sys.executable, "-c", script, json.dumps(commands)], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[] [0, 0]", done.stderr
