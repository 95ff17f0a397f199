"""The folders of the original scorers: what those read is there, and what they wrote comes back as scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import LIMIT, Bench, Run
from PIL import Image

from bench.intake.layouts import export
from bench.store import ELSEWHERE, Ledger
from bench.store import Image as Stored
from bench.store.images import pixel_digest, rgb

METHODS = ("standard", "inversion", "best_of_2", "reseed")


def evaluated(tree: Path, *, right: Any = lambda prompt, sample: True) -> list[dict[str, Any]]:
    """The lines of results.jsonl as djghosh13/geneval's evaluate_images.py reads a tree and writes them."""
    lines = []
    for folder in sorted(tree.iterdir()):
        if not folder.is_dir() or not folder.name.isdigit():
            continue
        metadata = json.loads((folder / "metadata.jsonl").read_text())
        for sample in sorted((folder / "samples").iterdir()):
            if not re.match(r"\d+\.png", sample.name):
                continue
            lines.append({
                "filename": str(sample), "tag": metadata["tag"], "prompt": metadata["prompt"],
                "correct": right(int(folder.name), int(sample.stem)), "reason": "", "metadata": json.dumps(metadata),
                "details": "{}",
            })  # fmt: skip
    return lines


def answered(tree: Path, *, by_position: bool) -> list[dict[str, Any]]:
    """vqa_result.json as T2I-CompBench's BLIP-VQA (ids by position, text answers) or UniDet (ids of names) write it."""
    names = sorted((p.name for p in (tree / "samples").iterdir()), key=lambda n: int(n.split("_")[-1].split(".")[0]))
    numbers = [int(n.split("_")[-1].split(".")[0]) for n in names]
    if by_position:
        return [{"question_id": i, "answer": f"{len(n.split('_')[0]) / 1000:.4f}"} for i, n in enumerate(names)]
    return [{"question_id": i, "answer": i / 10} for i in reversed(numbers)]


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    return finished.copy(tmp_path)


# GenEval -------------------------------------------------------------------------------------------------------------


def test_a_tree_of_geneval_has_what_its_evaluator_reads(bench: Bench, run: Run) -> None:
    done = bench("export", run.folder, "--layout", "geneval")
    assert done.code == 0, done.err
    out = run.folder / "geneval"
    assert sorted(p.name for p in out.iterdir()) == sorted(METHODS)
    for method in METHODS:
        lines = evaluated(out / method)
        assert len(lines) == LIMIT
        digests = dict(
            run.rows("SELECT prompt_index, digest FROM cells JOIN images USING (job_id) WHERE method = ?", method)
        )
        texts = dict(run.rows("SELECT prompt_index, prompt FROM cells WHERE method = ?", method))
        for line in lines:
            index = int(Path(line["filename"]).parts[-3])
            assert line["prompt"] == texts[index]
            assert json.loads(line["metadata"])["include"]
            with Image.open(line["filename"]) as opened:
                assert opened.format == "PNG"
                assert pixel_digest(rgb(opened)) == digests[index]
    assert f"{out / 'standard'}: {LIMIT} images" in done.out
    assert bench("export", run.folder, "--layout", "geneval").code == 0, "a second time it is there already"


def test_results_of_geneval_become_scores_with_deltas(bench: Bench, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "trees"
    assert bench("export", run.folder, "--layout", "geneval", "--out", out).code == 0
    for method, right in (("standard", lambda p, s: p == 0), ("inversion", lambda p, s: p < 3)):
        lines = evaluated(out / method, right=right)
        file = out / method / "results.jsonl"
        file.write_text("".join(json.dumps(line).replace("/", "\\/") + "\n" for line in lines))
        done = bench("import", run.folder, file)
        assert done.code == 0, done.err
        assert f"original_geneval: {LIMIT} scores of {method} on shapes-pickapic" in done.out
    found = run.results()
    arms = {a["method"]: a["metrics"]["original_geneval"] for a in found["arms"] if a["prompts"] == "*"}
    assert arms["standard"]["mean"] == pytest.approx(1 / LIMIT)
    assert arms["inversion"]["mean"] == pytest.approx(3 / LIMIT)
    (row,) = [
        c
        for c in found["comparisons"]
        if (c["method"], c["metric"], c["prompts"]) == ("inversion", "original_geneval", "*")
    ]
    assert (row["delta"], row["n"]) == (pytest.approx(2 / LIMIT), LIMIT)
    assert "GenEval (original)" in (run.folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: {**r, "filename": "x/00077/samples/0000.png"}, '00077/samples/0000.png" was not exported'),
        (lambda r: {**r, "filename": "0000.png"}, "was not exported; give the folder it is of as --of"),
        (lambda r: {**r, "correct": "yes"}, "'correct' should be true or false, got \"yes\""),
        (lambda r: {"filename": r["filename"]}, "expected an object with filename and correct"),
        (lambda r: [], "expected an object with filename and correct, got []"),
    ],
)
def test_a_bad_line_of_results_is_named_and_nothing_is_taken(
    bench: Bench, run: Run, tmp_path: Path, change: Any, said: str
) -> None:
    out = tmp_path / "trees"
    assert bench("export", run.folder, "--layout", "geneval", "--out", out).code == 0
    lines = evaluated(out / "standard")
    file = tmp_path / "results.jsonl"
    file.write_text("\n".join(json.dumps(one) for one in [lines[0], change(lines[1])]))
    done = bench("import", run.folder, file, "--of", out / "standard")
    assert done.code == 2
    assert f"{file}:2: " in done.error
    assert said in done.error
    assert run.rows("SELECT COUNT(*) FROM scores WHERE metric = 'original_geneval'") == [(0,)]


def test_a_result_file_must_be_of_the_images_that_the_run_has(bench: Bench, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "trees"
    assert bench("export", run.folder, "--layout", "geneval", "--out", out).code == 0
    file = tmp_path / "results.jsonl"
    lines = evaluated(out / "standard")
    file.write_text("\n".join(map(json.dumps, lines)))
    lost = bench("import", run.folder, file)
    assert lost.code == 2
    assert (
        "no noisebench.json there or in a folder above; give the exported folder that was scored as --of" in lost.error
    )
    twice = tmp_path / "twice.jsonl"
    twice.write_text("\n".join(map(json.dumps, [lines[0], lines[0]])))
    assert (
        "a second score of 00000/samples/0000.png" in bench("import", run.folder, twice, "--of", out / "standard").error
    )
    ledger = Ledger(run.folder)
    ledger.db.execute("UPDATE images SET digest = 'another' || job_id")
    ledger.close()
    other = bench("import", run.folder, file, "--of", out / "standard")
    assert other.code == 2
    assert "is no image of" in other.error


def test_a_tree_is_not_written_over_something_else(bench: Bench, run: Run, tmp_path: Path) -> None:
    (tmp_path / "trees" / "standard").mkdir(parents=True)
    (tmp_path / "trees" / "standard" / "mine.txt").write_text("mine")
    done = bench("export", run.folder, "--layout", "geneval", "--out", tmp_path / "trees")
    assert done.code == 2
    assert "holds something else than this export" in done.error


# T2I-CompBench -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "metric", "by_position"),
    [("annotation_blip", "original_blip_vqa", True), ("annotation_obj_detection_2d", "original_spatial_2d", False)],
)
def test_answers_of_compbench_become_scores(
    bench: Bench, run: Run, tmp_path: Path, folder: str, metric: str, by_position: bool
) -> None:
    out = tmp_path / "trees"
    done = bench("export", run.folder, "--layout", "compbench", "--out", out)
    assert done.code == 0, done.err
    for method in ("standard", "reseed"):
        names = sorted(p.name for p in (out / method / "samples").iterdir())
        texts = dict(run.rows("SELECT prompt, prompt_index FROM cells WHERE method = ?", method))
        assert {name.split("_")[0] for name in names} == set(texts)
        assert sorted(int(name.split("_")[-1].split(".")[0]) for name in names) == list(range(LIMIT))
        answers = answered(out / method, by_position=by_position)
        file = out / method / folder / "vqa_result.json"
        file.parent.mkdir()
        file.write_text(json.dumps(answers))
        assert bench("import", run.folder, file).code == 0
    expected = {
        text: len(text) / 1000 if by_position else index / 10
        for text, index in run.rows("SELECT prompt, prompt_index FROM cells WHERE method = 'standard'")
    }
    # A best of two is the image of one of them, and shares its score.
    got = {place: value for place, value in run.scores(metric).items() if place[0] in ("standard", "reseed")}
    for (_, index), value in got.items():
        (text,) = [t for t, i in texts.items() if i == index]
        assert value == pytest.approx(expected[text], abs=1e-4)
    assert len(got) == 2 * LIMIT
    assert any(
        c["metric"] == metric and c["method"] == "reseed" and c["complete"] for c in run.results()["comparisons"]
    )


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([{"question_id": 99, "answer": "1"}], "entry 0: question_id 99 is no image of the 4 exported"),
        ([{"question_id": "0", "answer": "1"}], 'question_id "0" is no image'),
        ([{"question_id": 0, "answer": "NaN"}], "'answer' should be a number"),
        ([{"question_id": 0, "answer": None}], "'answer' should be a number, got null"),
        ([{"question_id": 0}], "expected question_id and answer"),
        ({"0": 1}, "expected a list of question_id and answer"),
        ([], "no scores there"),
    ],
)
def test_bad_answers_are_named(bench: Bench, run: Run, tmp_path: Path, answers: Any, said: str) -> None:
    assert bench("export", run.folder, "--layout", "compbench", "--out", tmp_path / "trees").code == 0
    file = tmp_path / "trees" / "standard" / "vqa_result.json"
    file.write_text(json.dumps(answers))
    unsaid = bench("import", run.folder, file)
    assert unsaid.code == 2
    assert "its folder does not say what it holds" in unsaid.error
    done = bench("import", run.folder, file, "--metric", "original_clip")
    assert done.code == 2
    assert said in done.error


def test_fewer_answers_than_images_are_reported(bench: Bench, run: Run, tmp_path: Path) -> None:
    assert bench("export", run.folder, "--layout", "compbench", "--out", tmp_path / "trees").code == 0
    file = tmp_path / "trees" / "standard" / "annotation_clip" / "vqa_result.json"
    file.parent.mkdir()
    file.write_text(json.dumps(answered(tmp_path / "trees" / "standard", by_position=True)[:-1]))
    done = bench("import", run.folder, file)
    assert done.code == 0
    assert f"note: 1 images that were exported have no score in {file}" in done.err


def test_an_original_metric_is_not_computed(bench: Bench, run: Run) -> None:
    done = bench("score", run.folder, "--metric", "original_geneval")
    assert done.code == 2
    assert "is not computed here: `python -m bench export RUN --layout geneval`" in done.error


# What a run may hold -------------------------------------------------------------------------------------------------


def ledger_of(folder: Path, cells: list[tuple[Any, ...]]) -> Ledger:
    """A ledger of (method, prompts, index, seed, prompt, metadata, job) with an image for each job but `lost`."""
    ledger = Ledger(folder, create=True)
    (folder / "images").mkdir()
    rows, images = [], []
    for method, prompts, index, seed, text, metadata, job in cells:
        rows.append((method, ELSEWHERE, prompts, ELSEWHERE, 0, 0.0, index, seed, text, "", metadata, job))
        if job == "lost":
            continue
        file = f"images/{job}.png"
        pixels = np.full((8, 8, 3), len(images), np.uint8)
        Image.fromarray(pixels).save(folder / file)
        images.append(Stored(job, pixel_digest(pixels), file, 0, 0, 0, 0, 0, 0, None, "", 1, "", "", ""))
    ledger.put_cells(rows)
    ledger.put_images(images)
    return ledger


def test_numbers_run_through_where_an_image_is_lost_and_names_hold_no_underscore(tmp_path: Path) -> None:
    """BLIP-VQA counts files and UniDet reads names: only numbers without a gap are the same to both."""
    cells = [("m", "s", i, 0, f"a/b_c {i}", None, "lost" if i == 1 else f"j{i}") for i in range(3)]
    written = export(ledger_of(tmp_path / "run", cells), tmp_path / "out", "compbench")
    names = sorted(p.name for p in (tmp_path / "out" / "m" / "samples").iterdir())
    assert names == ["a b c 0_000000.png", "a b c 2_000001.png"]
    assert any("1 images are not there" in note for note in written.notes)
    assert any("2 prompts have '_' or '/'" in note for note in written.notes)


def test_samples_keep_the_number_of_their_seed_and_sets_and_settings_have_folders(tmp_path: Path) -> None:
    line = json.dumps({"tag": "t", "include": [{"class": "cat", "count": 1}]})
    cells = [("m n", "s", 7, seed, "a cat", line, "lost" if seed == 5 else f"j{seed}") for seed in (3, 5, 9)]
    cells += [("m n", "plain/set", 0, 3, "a dog", None, "k")]
    written = export(ledger_of(tmp_path / "run", cells), tmp_path / "out", "geneval")
    tree = tmp_path / "out" / "m_n" / "s"
    assert list(written.trees) == [tree]
    assert sorted(p.name for p in (tree / "00007" / "samples").iterdir()) == ["0000.png", "0002.png"]
    assert json.loads((tree / "00007" / "metadata.jsonl").read_text())["prompt"] == "a cat"
    assert any("m n on plain/set is left out: no prompt carries GenEval's metadata" in note for note in written.notes)


def test_a_run_without_metadata_has_no_geneval_and_a_long_prompt_no_compbench(tmp_path: Path) -> None:
    from bench.errors import NotComparable, UserError

    ledger = ledger_of(tmp_path / "run", [("m", "s", 0, 0, "x" * 300, None, "j")])
    with pytest.raises(NotComparable, match="nothing to export in the layout geneval"):
        export(ledger, tmp_path / "out", "geneval")
    with pytest.raises(UserError, match="prompt 0 of s has 300 bytes"):
        export(ledger, tmp_path / "out", "compbench")
