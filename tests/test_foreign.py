"""Scores without the harness: anyone's images become scores.csv and a report; what is wrong is one line each."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Bench, Done, Plug
from foreign_images import Given, N, draw
from PIL import Image

from bench.metrics.base import MetricEntry, Value
from bench.store import Ledger

pytestmark = pytest.mark.usefixtures("one_thread")
BAD = ["none"]
"""A word of the prompts whose scores are no numbers."""


@dataclass(frozen=True)
class Bright:
    """Mean grey levels; of pairs, whether the method's image is the brighter; of sets, mean colours."""

    times: float = 1.0

    def score(self, images: Any, prompts: Any) -> list[Value]:
        pairs = zip(images, prompts, strict=True)
        return [Value(np.nan if BAD[0] in p.text else self.times * float(i.mean())) for i, p in pairs]

    def score_pairs(self, baseline_images: Any, method_images: Any, prompts: Any) -> list[Value]:
        pairs = zip(baseline_images, method_images, strict=True)
        return [Value(float(ours.mean() > theirs.mean())) for theirs, ours in pairs]

    def features(self, images: Any, prompts: Any) -> Any:
        return np.stack([image.mean(axis=(0, 1)) for image in images])


def tuned(checkpoint: str | None, dtype: str) -> MetricEntry:
    """Twice as bright on a checkpoint."""
    times = 2.0 if checkpoint else 1.0
    entry = MetricEntry("tuned", "tuned", "levels", lambda device: Bright(times), lambda: f"tuned-{times}")
    return replace(entry, configure=tuned)


def spread(features: Any, weights: Any) -> float:
    centred = features - weights @ features / weights.sum()
    return float(weights @ (centred**2).sum(axis=1) / weights.sum())


def referring(reference: str | None) -> MetricEntry:
    """How many letters its reference has, of a set."""
    entry = MetricEntry("letters", "letters", "letters", lambda device: Bright(), lambda: f"letters {reference}",
                        kind="set", value=lambda features, weights: float(len(reference or "")))  # fmt: skip
    return replace(entry, refer=referring, reference=reference, configure=lambda checkpoint, dtype: referring(None))


@pytest.fixture(autouse=True)
def metrics(plug: Plug) -> None:
    """One metric of each kind, beside those of the embedded world."""
    kinds: dict[str, Any] = {"bright": {}, "brighter": {"kind": "pair"}, "colours": {"kind": "set", "value": spread}}
    for name, more in kinds.items():
        entry = MetricEntry(name, name, "levels", lambda device: Bright(), lambda: "1", **more)
        plug("metrics", **{name: entry})
    plug("metrics", tuned=tuned(None, "fp32"), letters=referring(None))


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    monkeypatch.chdir(tmp_path)
    return draw(tmp_path)


def table_of(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def results_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


def failed_lines(done: Done) -> list[str]:
    return [line for line in done.err.splitlines() if line.startswith("failed: ")]


# What it gives -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("whole_report")
def test_two_folders_give_scores_deltas_win_rates_and_intervals(bench: Bench, given: Given) -> None:
    told = ("score", "right", "--prompts", "prompts.jsonl", "--against", "wrong", "--out", "out")
    done = bench(*told, "--metric", "shapes-geneval")
    assert done.code == 0, done.err
    rows = table_of(Path("out"))
    assert list(rows[0]) == ["path", "prompt", "method", "seed", "metric", "score"]
    right = {r["path"]: float(r["score"]) for r in rows if r["method"] == "right"}
    wrong = {r["path"]: float(r["score"]) for r in rows if r["method"] == "wrong"}
    assert right == {str(given.home / "right" / f"{k}.png"): 1.0 for k in range(N)}
    assert [wrong[str(given.home / "wrong" / f"{k}.png")] for k in range(0, N, 2)] == [1.0] * (N // 2)
    (row,) = [c for c in results_of(Path("out"))["comparisons"] if c["prompts"] == "*"]
    delta = float(np.mean(list(right.values())) - np.mean(list(wrong.values())))
    assert (row["method"], row["baseline"], row["n"], row["complete"]) == ("right", "wrong", N, True)
    assert row["delta"] == pytest.approx(delta)
    assert row["low"] <= delta <= row["high"]
    report = Path("out/report.md").read_text()
    assert "right against wrong, each on the same prompts and seeds" in report
    assert "starting noise" not in report.split("## Verdict")[0]
    assert (Path("out") / "report.html").is_file()


def test_all_three_kinds_of_metrics_are_scored(bench: Bench, given: Given) -> None:
    asked = ["--metric", "bright", "--metric", "brighter", "--metric", "colours"]
    told = ("score", "right", "--prompts", "prompts.jsonl", "--against", "wrong", "--out", "out", *asked)
    done = bench(*told)
    assert done.code == 0, done.err
    rows = table_of(Path("out"))
    bright = {(r["method"], r["path"][-5:]): float(r["score"]) for r in rows if r["metric"] == "bright"}
    assert bright["right", "0.png"] == pytest.approx(given.pixels(0).mean())
    prefer = {(r["method"], r["path"][-5:]): float(r["score"]) for r in rows if r["metric"] == "brighter"}
    for k in range(N):
        ours, theirs = bright["right", f"{k}.png"], bright["wrong", f"{k}.png"]
        assert prefer["right", f"{k}.png"] == (0 if ours == theirs else 1 if ours > theirs else -1)
        assert prefer["wrong", f"{k}.png"] == 0
    sets = {r["method"]: r for r in rows if r["metric"] == "colours"}
    means = np.stack([given.pixels(k).mean(axis=(0, 1)) for k in range(N)]).astype(np.float32)
    assert float(sets["right"]["score"]) == pytest.approx(spread(means.astype(float), np.ones(N)))
    assert (sets["right"]["path"], sets["right"]["prompt"]) == ("", "")
    assert {c["metric"] for c in results_of(Path("out"))["comparisons"]} == {"bright", "brighter", "colours"}


def test_a_metric_of_sets_gets_its_reference(bench: Bench, given: Given) -> None:
    told = ("score", "right", "--prompts", "prompts.jsonl", "--metric", "letters", "--metric", "bright", "--out", "out")
    done = bench(*told, "--reference", "real")
    assert done.code == 0, done.err
    assert [float(r["score"]) for r in table_of(Path("out")) if r["metric"] == "letters"] == [4.0]
    assert bench(*told).code == 2


def test_one_folder_alone_gives_scores_and_means(bench: Bench, given: Given) -> None:
    done = bench("score", "right", "--prompts", "prompts.jsonl", "--metric", "bright", "--out", "out")
    assert done.code == 0, done.err
    (arm,) = [a for a in results_of(Path("out"))["arms"] if a["prompts"] == "*"]
    assert arm["metrics"]["bright"]["mean"] == pytest.approx(np.mean([given.pixels(k).mean() for k in range(N)]))
    assert len(table_of(Path("out"))) == N
    assert arm["cost"]["total_ms"] is None
    assert arm["cost"]["calls_total"] is None


def test_a_table_says_method_and_seed_and_a_label_is_the_baseline(bench: Bench, given: Given) -> None:
    lines = ["path,prompt,method,seed"]
    for k in range(N):
        text = given.captions[k].prompt
        lines += [f'right/{k}.png,"{text}",ours,3', f'wrong/{k}.png,"{text}",theirs,3']
    lines.append('right/0.png,"something else",ours,3')
    Path("table.csv").write_text("\n".join(lines) + "\n")
    told = ("score", ".", "--prompts", "table.csv", "--metric", "shapes-clipscore", "--out", "out")
    done = bench(*told, "--against", "theirs")
    assert done.code == 0, done.err
    rows = table_of(Path("out"))
    assert {r["seed"] for r in rows} == {"3"}
    one_image = [r for r in rows if r["path"] == str(given.home / "right/0.png")]
    assert [r["prompt"] for r in one_image] == [given.captions[0].prompt, "something else"]
    assert one_image[0]["score"] != one_image[1]["score"]
    found = results_of(Path("out"))
    assert found["suite"]["baseline"] == "theirs"
    arms = {a["method"]: a for a in found["arms"] if a["prompts"] == "*"}
    assert (arms["ours"]["n"], arms["theirs"]["n"]) == (N + 1, N)
    refused = bench(*told, "--against", "thiers")
    assert refused.code == 2
    assert "not a method of table.csv (ours, theirs)" in refused.error


def test_the_layout_of_geneval_is_matched_by_name(bench: Bench, given: Given) -> None:
    for k in range(N):
        for seed in (0, 1):
            given.save(k, Path(f"tree/{k:05}/samples/{seed:04}.png"), seed=seed)
        Path(f"tree/{k:05}/metadata.jsonl").write_text(json.dumps(given.captions[k].metadata()))
    told = ("score", "tree", "--prompts", "prompts.jsonl", "--match", "name", "--metric", "shapes-geneval")
    done = bench(*told, "--out", "out")
    assert done.code == 0, done.err
    rows = table_of(Path("out"))
    assert len(rows) == 2 * N
    assert {float(r["score"]) for r in rows} == {1.0}


# What goes wrong with images -----------------------------------------------------------------------------------------


def test_what_does_not_decode_is_failed_with_its_reason_and_the_others_go_on(bench: Bench, given: Given) -> None:
    whole = Path("right/0.png").read_bytes()
    Path("right/1.png").write_bytes(b"")
    Path("right/2.png").write_bytes(b"no image at all")
    Path("right/3.png").write_bytes(whole[: len(whole) // 2])
    told = ("score", "right", "--prompts", "prompts.jsonl", "--against", "wrong", "--metric", "bright", "--out", "out")
    done = bench(*told)
    assert done.code == 3
    assert "Traceback" not in done.err
    (line,) = failed_lines(done)
    assert line.startswith(
        "failed: 3 images of right; the first: prompts.jsonl 1, seed 0: 1.png an empty file (0 bytes)"
    )
    reasons = [f["reason"] for f in results_of(Path("out"))["failed"]]
    assert any("2.png does not decode: no image format that is known" in r for r in reasons)
    assert any("3.png does not decode" in r for r in reasons)
    scored = {Path(r["path"]).name: r["score"] for r in table_of(Path("out")) if r["method"] == "right"}
    assert [name for name, score in sorted(scored.items()) if not score] == ["1.png", "2.png", "3.png"]
    (row,) = [c for c in results_of(Path("out"))["comparisons"] if c["prompts"] == "*"]
    assert (row["n"], row["complete"], row["p_holm"]) == (N - 3, False, None)
    for k in (1, 2, 3):
        given.save(k, Path(f"right/{k}.png"))
    mended = bench(*told)
    assert mended.code == 0, mended.err
    assert results_of(Path("out"))["failed"] == []


def test_other_modes_are_scored_as_the_rgb_that_is_said(bench: Bench, given: Given) -> None:
    opened = Image.open("right/0.png")
    opened.convert("RGBA").save("right/1.png")
    opened.convert("L").save("right/2.png")
    opened.convert("CMYK").save("right/3.tif")
    Path("right/3.png").unlink()
    wide = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(wide).save("right/4.png")
    done = bench("score", "right", "--prompts", "prompts.jsonl", "--metric", "bright", "--out", "out")
    assert done.code == 0, done.err
    changes = [
        "16 bits to 8, grey to RGB",
        "CMYK to RGB without a colour profile",
        "grey to RGB",
        "transparency dropped",
    ]
    for what in changes:
        note = f"1 images are scored after a change: {what}."
        assert f"note: {note}" in done.err
        assert note in results_of(Path("out"))["notes"]
    scores = {Path(r["path"]).name: float(r["score"]) for r in table_of(Path("out"))}
    assert scores["1.png"] == pytest.approx(given.pixels(0).mean())
    assert scores["4.png"] == pytest.approx(127.5, abs=0.1)
    assert scores["3.tif"] == pytest.approx(given.pixels(0).mean(), abs=1)
    again = bench("score", "right", "--prompts", "prompts.jsonl", "--metric", "bright", "--out", "out")
    assert again.err.count("scored after a change") == 4, "a second time says it too"


def test_32_bit_floats_are_not_guessed_at(bench: Bench, given: Given) -> None:
    Image.fromarray(np.random.default_rng(0).random((64, 64), dtype=np.float32)).save("right/5.tif")
    Path("right/5.png").unlink()
    done = bench("score", "right", "--prompts", "prompts.jsonl", "--metric", "bright", "--out", "out")
    assert done.code == 3
    assert "32 bits a pixel (mode F), whose range is not known" in failed_lines(done)[0]


def test_a_score_that_is_no_number_is_marked_and_mended_later(
    bench: Bench, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "BAD", [given.captions[2].prompt])
    told = ("score", "right", "--prompts", "prompts.jsonl", "--metric", "bright", "--out", "out")
    done = bench(*told)
    assert done.code == 3
    assert failed_lines(done)[0].startswith("failed: 1 scores of bright; the first: prompts.jsonl 2, seed 0, right:")
    assert [Path(r["path"]).name for r in table_of(Path("out")) if not r["score"]] == ["2.png"]
    monkeypatch.setattr(sys.modules[__name__], "BAD", ["none"])
    assert bench(*told).code == 0
    assert all(r["score"] for r in table_of(Path("out")))


# What is asked wrongly -----------------------------------------------------------------------------------------------


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


# Again ---------------------------------------------------------------------------------------------------------------


def test_other_metrics_of_the_same_images_come_beside_the_first(bench: Bench, given: Given) -> None:
    told = ("score", "right", "--prompts", "prompts.jsonl", "--out", "out")
    assert bench(*told, "--metric", "bright").code == 0
    done = bench(*told, "--metric", "shapes-clipscore")
    assert done.code == 0
    assert "score bright" not in done.err
    assert {r["metric"] for r in table_of(Path("out"))} == {"bright", "shapes-clipscore"}
    assert bench("score", "out", "--metric", "shapes-preference").code == 0, "the folder is a run like any other"
    assert {r["metric"] for r in table_of(Path("out"))} == {"bright", "shapes-clipscore", "shapes-preference"}
    Path("right/0.png").write_bytes(Path("right/2.png").read_bytes())
    third = bench(*told, "--metric", "bright")
    assert third.code == 0, third.err
    assert {r["metric"] for r in table_of(Path("out"))} == {"bright", "shapes-clipscore", "shapes-preference"}
    changed = [r for r in table_of(Path("out")) if Path(r["path"]).name == "0.png" and r["metric"] == "bright"]
    assert float(changed[0]["score"]) == pytest.approx(given.pixels(2).mean())


def test_a_metric_keeps_its_checkpoint_until_it_is_asked_for_anew(bench: Bench, given: Given) -> None:
    Path("weights").mkdir()
    told = ("score", "right", "--prompts", "prompts.jsonl", "--out", "out")
    once = [given.pixels(k).mean() for k in range(N)]

    def scores() -> list[float]:
        return [float(r["score"]) for r in table_of(Path("out")) if r["metric"] == "tuned"]

    assert bench(*told, "--metric", "tuned=weights").code == 0
    assert scores() == pytest.approx([2 * v for v in once])
    assert bench(*told, "--metric", "bright").code == 0
    assert scores() == pytest.approx([2 * v for v in once])
    assert bench("report", "out").code == 0
    assert [a["metrics"]["tuned"]["n"] for a in results_of(Path("out"))["arms"]] == [N, N]
    assert bench(*told, "--metric", "tuned").code == 0
    assert scores() == pytest.approx(once)


def test_two_folders_of_scores_are_compared_gated_and_powered(bench: Bench, given: Given) -> None:
    told = ("--prompts", "prompts.jsonl", "--metric", "bright", "--metric", "colours")
    for out in ("one", "two"):
        assert bench("score", "right", *told, "--against", "wrong", "--out", out).code == 0
        given.save(0, Path("right/0.png"), seed=5)
    done = bench("compare", "one", "two", "--out", "compared")
    assert done.code == 0, done.err
    assert bench("baseline", "freeze", "one", "--out", "b.json").code == 0
    assert bench("gate", "one", "--baseline", "b.json").code == 0
    assert bench("power", "one", "--delta", "1").code == 0
    assert bench("report", "one").code == 0


@pytest.mark.slow
def test_a_score_that_was_killed_goes_on_where_it_was(bench: Bench, given: Given) -> None:
    lines = ["path,prompt,method,seed"]
    for k in range(N):
        lines += [f'right/{k}.png,"{given.captions[k].prompt} {i}",m,0' for i in range(40)]
    Path("table.csv").write_text("\n".join(lines) + "\n")
    told = ["score", ".", "--prompts", "table.csv", "--out", "out", "--metric", "shapes-clipscore", "--device", "cpu"]
    silent = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-m", "bench", *told], **silent, env={**os.environ})
    ledger = Path("out/ledger.sqlite")
    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None and _scored(ledger) == 0:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = _scored(ledger)
    assert 0 < before < 40 * N, "it was killed in the middle"
    done = bench(*told)
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
