"""Scores without the harness: anyone's images become scores.csv and a report; what is wrong is one line each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Bench, Done
from foreign_images import Given, N
from foreign_scores import BAD, results_of, spread, table_of
from foreign_scores import given as given
from foreign_scores import metrics as metrics
from PIL import Image

pytestmark = pytest.mark.usefixtures("one_thread")


def failed_lines(done: Done) -> list[str]:
    return [line for line in done.err.splitlines() if line.startswith("failed: ")]


# What it gives --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("whole_report")
def test_two_folders_give_scores_deltas_win_rates_and_intervals(bench: Bench, given: Given) -> None:
    args = ("score", "right", "--prompts", "prompts.jsonl", "--against", "wrong", "--out", "out")
    done = bench(*args, "--metric", "shapes-geneval")
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
    args = ("score", "right", "--prompts", "prompts.jsonl", "--against", "wrong", "--out", "out", *asked)
    done = bench(*args)
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
    args = ("score", "right", "--prompts", "prompts.jsonl", "--metric", "letters", "--metric", "bright", "--out", "out")
    done = bench(*args, "--reference", "real")
    assert done.code == 0, done.err
    assert [float(r["score"]) for r in table_of(Path("out")) if r["metric"] == "letters"] == [4.0]
    assert bench(*args).code == 2


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
    args = ("score", ".", "--prompts", "table.csv", "--metric", "shapes-clipscore", "--out", "out")
    done = bench(*args, "--against", "theirs")
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
    refused = bench(*args, "--against", "thiers")
    assert refused.code == 2
    assert "not a method of table.csv (ours, theirs)" in refused.error


def test_the_layout_of_geneval_is_matched_by_name(bench: Bench, given: Given) -> None:
    for k in range(N):
        for seed in (0, 1):
            given.save(k, Path(f"tree/{k:05}/samples/{seed:04}.png"), seed=seed)
        Path(f"tree/{k:05}/metadata.jsonl").write_text(json.dumps(given.captions[k].metadata()))
    args = ("score", "tree", "--prompts", "prompts.jsonl", "--match", "name", "--metric", "shapes-geneval")
    done = bench(*args, "--out", "out")
    assert done.code == 0, done.err
    rows = table_of(Path("out"))
    assert len(rows) == 2 * N
    assert {float(r["score"]) for r in rows} == {1.0}


# What goes wrong with images ------------------------------------------------------------------------------------------


def test_what_does_not_decode_is_failed_with_its_reason_and_the_others_go_on(bench: Bench, given: Given) -> None:
    whole = Path("right/0.png").read_bytes()
    Path("right/1.png").write_bytes(b"")
    Path("right/2.png").write_bytes(b"no image at all")
    Path("right/3.png").write_bytes(whole[: len(whole) // 2])
    args = ("score", "right", "--prompts", "prompts.jsonl", "--against", "wrong", "--metric", "bright", "--out", "out")
    done = bench(*args)
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
    fixed = bench(*args)
    assert fixed.code == 0, fixed.err
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


def test_a_score_that_is_no_number_is_marked_and_fixed_later(
    bench: Bench, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BAD, "word", given.captions[2].prompt)
    args = ("score", "right", "--prompts", "prompts.jsonl", "--metric", "bright", "--out", "out")
    done = bench(*args)
    assert done.code == 3
    assert failed_lines(done)[0].startswith("failed: 1 scores of bright; the first: prompts.jsonl 2, seed 0, right:")
    assert [Path(r["path"]).name for r in table_of(Path("out")) if not r["score"]] == ["2.png"]
    monkeypatch.setitem(BAD, "word", "none")
    assert bench(*args).code == 0
    assert all(r["score"] for r in table_of(Path("out")))
