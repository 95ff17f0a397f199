"""What a message about a run advises, such as to run it again, is tried: it must not lead back to the message."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest
from conftest import Bench, Run
from damaged import first_png, swap
from named_tests import ROOT, functions

from bench.report.gated import gated
from bench.store import Ledger

ROOMS = ("store", "job", "runner", "analysis", "gate", "intake")
"""Where messages are about run folders; of models, hubs, prompts and noise pairs the tests are beside theirs."""
ADVICE = re.compile(r"\b(again|delete|remove|move it away|copy it)\b")
TRIED = {
    "its run was stopped before it began; run the suite again": "test_a_run_that_never_began_is_run",
    "its suite is not one that this version reads": "test_a_suite_of_another_version_is_run_again",
    "features of  have different lengths": "test_kinds.py::test_features_of_two_lengths_are_not_one_set",
    "export it from report.html again": "test_human_votes.py::test_what_is_no_vote_on_this_run_is_one_line",
    "was cast on another image of": "test_human_votes.py::test_what_is_no_vote_on_this_run_is_one_line",
    "run the suite again to finish it": "test_an_unfinished_run_is_finished_and_then_frozen",
    "does not have every pair of its run; run it again": "test_an_unfinished_run_is_finished_and_then_frozen",
    "not verdicts that this version reads; gate the run again": "test_broken_verdicts_are_made_by_gating_again",
    "holds something else than this export": "test_layouts.py::test_a_tree_is_not_written_over_something_else",
    "is no image of ; was the run made again since": "test_layouts.py::test_a_tree_is_not_written_over_something_else",
    "are to be made; run it again to finish it": "test_shards.py::test_an_unfinished_or_damaged_shard_is_refused",
    "of its image files; run it again": "test_shards.py::test_an_unfinished_or_damaged_shard_is_refused",
    "a folder with something in it is there": "test_shards.py::test_what_is_no_whole_run_is_refused_by_name",
    "they cannot be kept: give --regenerate": "test_resuming.py::test_images_of_another_precision_are_not_kept",
    "give --regenerate to make them again, or --keep-": "test_resuming.py::test_other_code_alone_can_be_kept",
    "copy it to a folder that can be written to": "test_a_run_on_a_read_only_medium_resumes_in_a_copy",
    "cannot be written to (); copy it": "test_a_run_on_a_read_only_medium_resumes_in_a_copy",
    "missing; run the suite again": "test_a_lost_image_is_made_by_running_again",
    "its code or files have changed": "test_memory.py::test_what_is_of_this_session_alone_is_refused_with_what_to_do",
    "Ray's head at": "test_executors.py::test_a_killed_head_of_ray_is_one_line_and_the_run_resumes",
    "not what was written: its sha256": "faults/test_broken_ledgers.py::test_verify_drop_heals_an_altered_ledger",
    "--drop` removes what is": "faults/test_broken_scores.py::test_a_broken_row_is_named_dropped_and_scored_again",
    "move it away": "faults/test_broken_ledgers.py::test_an_unreadable_ledger_is_moved_away_and_the_run_made_again",
    "the upload was cut short, or it is damaged": "test_remote_machines.py",
}
"""By a part of the message, the test that does what it advises, of this file where none is named."""


def advices() -> dict[str, str]:
    """What is raised in these rooms and advises something: its words, without what is filled in, by its place."""
    found = {}
    for room in ROOMS:
        for file in sorted((ROOT / "bench" / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Raise) and node.exc is not None:
                    words = [one.value for one in ast.walk(node.exc) if isinstance(one, ast.Constant)]
                    said = "".join(word for word in words if isinstance(word, str))
                    if ADVICE.search(said):
                        found[f"{file.relative_to(ROOT)}:{node.lineno}"] = said
    return found


def test_every_advice_has_a_test_that_tries_it() -> None:
    known = advices()
    assert len(known) > 15
    without = {place: said for place, said in known.items() if not any(part in said for part in TRIED)}
    assert without == {}, "add it to TRIED, with a test that does what it says"


@pytest.mark.parametrize("named", sorted(set(TRIED.values())))
def test_the_tests_that_are_named_exist(named: str) -> None:
    file, _, function = named.partition("::") if ".py" in named else ("faults/test_advice.py", "", named)
    found = functions(ROOT / "tests" / file)
    assert function in found if function else found


# Those that are tried here -------------------------------------------------------------------------------------------


def test_a_run_that_never_began_is_run(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = finished.copy(tmp_path)
    shutil.rmtree(run.folder)
    Ledger(run.folder, create=True).close()
    assert "its run was stopped before it began; run the suite again" in bench("report", run.folder).error
    done = bench(*run.arguments())
    assert done.code == 0, done.err


def test_a_suite_of_another_version_is_run_again(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = finished.copy(tmp_path)
    ledger = Ledger(run.folder)
    ledger.set("suite", {**ledger.get("suite"), "joules": 3})
    ledger.close()
    done = bench("report", run.folder)
    assert done.code == 2
    assert "run the suite again" in done.error
    assert bench(*run.arguments()).code == 0
    assert bench("report", run.folder).code == 0


def test_an_unfinished_run_is_finished_and_then_frozen(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = finished.copy(tmp_path)
    ledger = Ledger(run.folder)
    ledger.db.execute("DELETE FROM images WHERE job_id = (SELECT job_id FROM cells WHERE method = 'reseed' LIMIT 1)")
    ledger.close()
    freeze = ("baseline", "freeze", run.folder, "--out", tmp_path / "b.json")
    done = bench(*freeze)
    assert done.code == 3
    assert "run the suite again to finish it" in done.error
    assert bench(*run.arguments("--no-cache")).code == 0
    assert bench(*freeze).code == 0


def test_broken_verdicts_are_made_by_gating_again(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = finished.copy(tmp_path)
    gate = run.arguments("--baseline", tmp_path / "b.json")
    assert bench("baseline", "freeze", finished.folder, "--out", tmp_path / "b.json").code == 0
    assert bench(*gate).code == 0
    before = (run.folder / "gate.json").read_text()
    (run.folder / "gate.json").write_text(before[:100])
    assert "gate the run again" in _notes(run)
    assert bench(*gate).code == 0
    assert (run.folder / "gate.json").read_text() == before
    assert "gate the run again" not in _notes(run)


def _notes(run: Run) -> str:
    """What a report says about the verdicts beside it."""
    found = gated(run.folder)
    assert found is not None
    return " ".join(found.notes)


def test_a_run_on_a_read_only_medium_resumes_in_a_copy(bench: Bench, finished: Run, tmp_path: Path) -> None:
    """A copy has the files' content and none of their times."""
    shutil.copytree(finished.runs, tmp_path / "runs", copy_function=shutil.copyfile)
    run = Run(finished.suite, tmp_path / "runs", tmp_path / "cache", tmp_path / "runs" / finished.folder.name)
    done = bench(*run.arguments())
    assert done.code == 0, done.err
    assert "nothing to do" in done.err
    assert bench("score", run.folder, "--metric", "shapes-preference", "--device", "cpu").code == 0


def test_a_lost_image_is_made_by_running_again(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = finished.copy(tmp_path)
    first_png(run).unlink()
    score = ("score", run.folder, "--metric", "shapes-preference", "--device", "cpu")
    done = bench(*score)
    assert done.code == 2
    assert "missing; run the suite again, which makes it again" in done.error
    assert bench(*run.arguments("--no-cache")).code == 0
    assert bench(*score).code == 0


def test_a_damaged_image_is_exported_after_running_again(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = finished.copy(tmp_path)
    swap(first_png(run))
    export = ("export", run.folder, "--layout", "compbench")
    done = bench(*export)
    if "no prompt" in done.err:
        export = ("export", run.folder, "--layout", "geneval")
        done = bench(*export)
    assert done.code == 2
    assert "its pixels are not those that were recorded; run the suite again, which makes it again" in done.error
    assert bench(*run.arguments("--no-cache")).code == 0
    assert bench(*export).code == 0
