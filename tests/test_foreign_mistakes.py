"""Images of others: what is asked wrongly, and what is asked again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from conftest import Bench
from foreign_images import Given, N
from foreign_scores import given as given
from foreign_scores import metrics as metrics
from foreign_scores import results_of, table_of
from fork_server import Forked

from bench.store import Ledger

pytestmark = pytest.mark.usefixtures("one_thread")


# What is asked wrongly ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("score right --metric bright", "right: no run there; to score a folder of images give their prompts as"),
        ("score right --prompts prompts.jsonl", "--metric: expected at least one metric"),
        ("score right --prompts prompts.jsonl --metric brigth", "unknown metric 'brigth'; did you mean 'bright'?"),
        ("score gone --prompts prompts.jsonl --metric bright", "gone: no such folder"),
        ("score right --prompts gone.csv --metric bright", "gone.csv: no such file"),
        ("score right --prompts prompts.jsonl:tga --metric bright", "no column 'tga'; did you mean 'tag'?"),
        ("score empty --prompts prompts.jsonl --metric bright", "empty: no images (expected files ending in"),
        (
            "score right --prompts few.txt --metric bright",
            "right: 6 images and 2 prompts; give --images-per-prompt 3, or",
        ),
        ("score right --prompts many.txt --metric bright", "right: 6 images and 7 prompts; match them with"),
        (
            "score right --prompts six.txt --metric shapes-geneval",
            "metric 'shapes-geneval' judges prompts with metadata",
        ),
        (
            "score right --prompts prompts.jsonl --metric brighter",
            "compares two images of a prompt; give the others as",
        ),
        ("score right --prompts prompts.jsonl --metric bright=", "--metric bright=: expected a folder"),
        ("score right --prompts prompts.jsonl --metric bright --against right", "the same folder as --against"),
        ("score right --prompts prompts.jsonl --metric bright --against gone", "gone: no such folder"),
        ("score right --prompts prompts.jsonl --metric bright --votes v.json", "--votes: are of a run's images"),
        ("score right --prompts prompts.jsonl --metric bright --reference wrong", "none of bright compares with a ref"),
        ("score right --metric bright --against wrong", "--against: is for a folder of images; give its prompts"),
        ("score right --prompts prompts.jsonl --metric bright --out prompts.jsonl", "a file is in the way"),
        ("score right --prompts lost.csv --metric bright", "right/nine.png: no such file, and it is given as an image"),
    ],
)
def test_a_mistake_is_one_line(bench: Bench, given: Given, arguments: str, said: str) -> None:
    Path("empty").mkdir()
    for name, n in (("few", 2), ("six", 6), ("many", 7)):
        Path(f"{name}.txt").write_text("".join(f"prompt {i}\n" for i in range(n)))
    Path("lost.csv").write_text("path,prompt\nnine.png,a red cube\n")
    done = bench(*arguments.split())
    assert done.code == 2, done.err
    assert said in done.error


@pytest.mark.usefixtures("whole_report")
def test_what_does_not_pair_is_scored_but_not_compared(bench: Bench, given: Given) -> None:
    lines = ["path,prompt,method,seed", "right/0.png,a,new,0", "right/1.png,b,new,0", "wrong/0.png,a,old,1"]
    Path("table.csv").write_text("\n".join(lines) + "\n")
    done = bench("score", ".", "--prompts", "table.csv", "--metric", "bright", "--against", "old", "--out", "out")
    assert done.code == 3
    assert (
        "no prompt and seed of 'old' is there in 'new', so nothing pairs; the scores are in out/scores.csv"
        in done.error
    )
    assert len(table_of(Path("out"))) == 3
    assert not (Path("out") / "report.html").exists()


def test_a_method_of_several_that_does_not_pair_is_named(bench: Bench, given: Given) -> None:
    lines = ["path,prompt,method,seed", "right/0.png,a,new,0", "wrong/0.png,a,old,0", "wrong/1.png,a,other,1"]
    Path("table.csv").write_text("\n".join(lines) + "\n")
    done = bench("score", ".", "--prompts", "table.csv", "--metric", "bright", "--against", "old", "--out", "out")
    assert done.code == 3
    assert "note: other has no prompt and seed in common with old" in done.err
    compared = {c["method"]: c["n"] for c in results_of(Path("out"))["comparisons"] if c["prompts"] == "*"}
    assert compared == {"new": 1, "other": 0}


def test_a_run_of_a_suite_is_no_place_for_other_images(bench: Bench, given: Given) -> None:
    Ledger(Path("taken"), create=True).set("suite", {"name": "tiny"})
    done = bench("score", "right", "--prompts", "prompts.jsonl", "--metric", "bright", "--out", "taken")
    assert done.code == 2
    assert "taken: holds a run of a suite; give another --out" in done.error


# Again ----------------------------------------------------------------------------------------------------------------


def test_other_metrics_of_the_same_images_come_beside_the_first(bench: Bench, given: Given) -> None:
    args = ("score", "right", "--prompts", "prompts.jsonl", "--out", "out")
    assert bench(*args, "--metric", "bright").code == 0
    done = bench(*args, "--metric", "shapes-clipscore")
    assert done.code == 0
    assert "score bright" not in done.err
    assert {r["metric"] for r in table_of(Path("out"))} == {"bright", "shapes-clipscore"}
    assert bench("score", "out", "--metric", "shapes-preference").code == 0, "the folder is a run like any other"
    assert {r["metric"] for r in table_of(Path("out"))} == {"bright", "shapes-clipscore", "shapes-preference"}
    Path("right/0.png").write_bytes(Path("right/2.png").read_bytes())
    third = bench(*args, "--metric", "bright")
    assert third.code == 0, third.err
    assert {r["metric"] for r in table_of(Path("out"))} == {"bright", "shapes-clipscore", "shapes-preference"}
    changed = [r for r in table_of(Path("out")) if Path(r["path"]).name == "0.png" and r["metric"] == "bright"]
    assert float(changed[0]["score"]) == pytest.approx(given.pixels(2).mean())


def test_a_metric_keeps_its_checkpoint_until_it_is_asked_for_again(bench: Bench, given: Given) -> None:
    Path("weights").mkdir()
    args = ("score", "right", "--prompts", "prompts.jsonl", "--out", "out")
    once = [given.pixels(k).mean() for k in range(N)]

    def scores() -> list[float]:
        return [float(r["score"]) for r in table_of(Path("out")) if r["metric"] == "tuned"]

    assert bench(*args, "--metric", "tuned=weights").code == 0
    assert scores() == pytest.approx([2 * v for v in once])
    assert bench(*args, "--metric", "bright").code == 0
    assert scores() == pytest.approx([2 * v for v in once])
    assert bench("report", "out").code == 0
    assert [a["metrics"]["tuned"]["n"] for a in results_of(Path("out"))["arms"]] == [N, N]
    assert bench(*args, "--metric", "tuned").code == 0
    assert scores() == pytest.approx(once)


def test_two_folders_of_scores_are_compared_gated_and_powered(bench: Bench, given: Given) -> None:
    args = ("--prompts", "prompts.jsonl", "--metric", "bright", "--metric", "colours")
    for out in ("one", "two"):
        assert bench("score", "right", *args, "--against", "wrong", "--out", out).code == 0
        given.save(0, Path("right/0.png"), seed=5)
    done = bench("compare", "one", "two", "--out", "compared")
    assert done.code == 0, done.err
    assert bench("baseline", "freeze", "one", "--out", "b.json").code == 0
    assert bench("gate", "one", "--baseline", "b.json").code == 0
    assert bench("power", "one", "--delta", "1").code == 0
    assert bench("report", "one").code == 0


@pytest.mark.slow
def test_a_score_that_was_killed_resumes_where_it_was(bench: Bench, given: Given, tmp_path: Path) -> None:
    lines = ["path,prompt,method,seed"]
    for k in range(N):
        lines += [f'right/{k}.png,"{given.captions[k].prompt} {i}",m,0' for i in range(40)]
    Path("table.csv").write_text("\n".join(lines) + "\n")
    args = ["score", ".", "--prompts", "table.csv", "--out", "out", "--metric", "shapes-clipscore", "--device", "cpu"]
    process = Forked(args, tmp_path / "said")
    ledger = Path("out/ledger.sqlite")
    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None and _scored(ledger) == 0:
        time.sleep(0.02)
    process.kill()
    before = _scored(ledger)
    assert 0 < before < 40 * N, "it was killed in the middle"
    done = bench(*args)
    assert done.code == 0, done.err
    assert f"score shapes-clipscore: {40 * N - before}/{40 * N - before}" in done.err
    assert len([r for r in table_of(Path("out")) if r["score"]]) == 40 * N


def _scored(ledger: Path) -> int:
    import sqlite3

    try:
        db = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
        try:
            return int(db.execute("SELECT COUNT(*) FROM scores").fetchone()[0])
        finally:
            db.close()
    except sqlite3.Error:
        return 0
