"""What a message advises, such as to run a suite again, is tried: it must not lead back to the message."""

from __future__ import annotations

import ast
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
from conftest import Bench, Run
from damaged import first_png, swap
from facts import missing
from kept_models import kept_models as kept_models
from named_tests import ROOT, functions

from bench.report.gated import gated
from bench.store import Ledger

FILES, RECORDS = "faults/test_advice_on_files.py", "site/test_submission.py"
PAIRS = "npnet/pairs/test_collect_resumes.py"
ADVICE = re.compile(r"\b(again|delete|remove|move it away|copy it)\b")
TRIED = {
    "its run was stopped before it began; run the suite again": "test_a_run_that_never_began_is_run",
    "its suite is not one that this version reads": "test_a_suite_of_another_version_is_run_again",
    "features of  have different lengths": "test_kinds_stages.py::test_features_of_two_lengths_are_not_one_set",
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
    "missing; run the suite again": "test_a_lost_image_is_made_by_running_again",
    "its code or files have changed": "test_memory.py::test_what_is_of_this_session_alone_is_refused_with_what_to_do",
    "Ray's head at": "test_executors.py::test_a_killed_head_of_ray_is_one_line_and_the_run_resumes",
    "not what was written: its sha256": "faults/test_broken_ledgers.py::test_verify_drop_heals_an_altered_ledger",
    "--drop` removes what is": "faults/test_broken_scores.py::test_a_broken_row_is_named_dropped_and_scored_again",
    "move it away": "faults/test_broken_ledgers.py::test_an_unreadable_ledger_is_moved_away_and_the_run_made_again",
    "the upload was cut short": "test_remote_machines.py",
    # Of files: models, scorers, prompts, networks, noise pairs, records.
    "could not be made: ; see ; run it again": "test_env.py::test_what_fails_is_one_line_and_is_gone_on_with",
    "delete it and fetch it again": f"{FILES}::test_the_file_that_is_to_be_deleted_is_the_one_behind_the_hubs_link",
    "reinstall or train": f"{FILES}::test_a_model_that_is_put_back_is_whole",
    "removed; fetch again": "test_fetch_faults.py::test_another_digest_than_the_listing_has_is_refused_and_removed",
    "submit the run again": f"{RECORDS}::test_a_damaged_record_is_written_again_by_submitting_again",
    "holds another record": f"{RECORDS}::test_another_record_in_a_runs_place_is_removed_and_the_run_submitted",
    "copy or make it again": f"{FILES}::test_a_network_that_is_copied_or_made_again_is_read",
    "score it again with npnet score": f"{PAIRS}::test_scores_of_another_scorer_are_not_gone_on_with",
    "give it its own name again": f"{FILES}::test_a_shard_under_another_name_is_given_its_own_again_or_deleted",
    "put it back as npnet collect": f"{FILES}::test_a_manifest_is_deleted_and_written_again_and_the_shards_are_kept",
    "keep the one you trust": f"{FILES}::test_of_two_shards_that_differ_one_is_kept",
    "train with a selection, which drops": f"{FILES}::test_pairs_that_are_not_finite_are_left_out_by_a_selection",
    "select again": f"{FILES}::test_a_selection_that_does_not_fit_is_made_again",
}
"""By a part of the message, the test that does what it advises, of this file where none is named."""
UNTRIED = {
    "written down as text and numbers and read again": "no advice",
    "remove it, and it is fetched again": "a file that is not there is fetched, as at first",
    "download it again": "the published checkpoint is not here",
    "not a readable archive": "another download of a file that is no archive",
    "control image  has changed since": "a run whose files changed while it ran is planned again",
    "npnet:  has changed since": "the same, of a checkpoint",
    "save it again": "an image editor",
    "written by  just now": "another machine in the same moment",
    "was trained with seed": "the embedded world's own training",
    "score it again, then submit": "a run of a version that kept no digests of scorers",
    "it was written by another version: upgrade": "another version",
    "get it again, or train it again with a lower": "a training that diverged",
    "do not say what they cost": "a collection of an older version",
    "was replaced while it was being read": "another process in the same moment",
    "two shards hold the same pair": "no shard is read under a name that is not its own",
    "collect again, or install that version": "another version of a model",
    "the training diverged": "a training that diverged",
    "which makes what is missing": "as every unfinished run",
}
"""What advises something that no test does, with the reason."""


@cache
def advices() -> dict[str, str]:
    """What is raised and advises something: its words, without what is filled in, by its place."""
    found = {}
    for package in ("bench", "npnet"):
        for file in sorted((ROOT / package).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if not ADVICE.search(text):
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Raise) and node.exc is not None:
                    words = [one.value for one in ast.walk(node.exc) if isinstance(one, ast.Constant)]
                    said = "".join(word for word in words if isinstance(word, str))
                    if ADVICE.search(said):
                        found[f"{file.relative_to(ROOT)}:{node.lineno}"] = said
    return found


def test_every_advice_has_a_test_that_tries_it() -> None:
    known = advices()
    assert len(known) > 60
    without = {place: said for place, said in known.items() if not any(part in said for part in (*TRIED, *UNTRIED))}
    assert without == {}, "add it to TRIED, with a test that does what it says"


@pytest.mark.parametrize("part", [*TRIED, *UNTRIED])
def test_every_advice_that_is_listed_is_given(part: str) -> None:
    assert any(part in said for said in advices().values())


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
    done = bench(*run.arguments("--cache", finished.cache))
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


@pytest.mark.usefixtures("kept_models")
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


@pytest.mark.usefixtures("kept_models")
def test_a_lost_image_is_made_by_running_again(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = finished.copy(tmp_path)
    first_png(run).unlink()
    score = ("score", run.folder, "--metric", "shapes-preference", "--device", "cpu")
    done = bench(*score)
    assert done.code == 2
    assert "missing; run the suite again, which makes it again" in done.error
    assert bench(*run.arguments("--no-cache")).code == 0
    assert bench(*score).code == 0


@pytest.mark.usefixtures("kept_models")
def test_a_damaged_image_is_exported_after_running_again(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = finished.copy(tmp_path)
    swap(first_png(run))
    export = ("export", run.folder, "--layout", "compbench")
    done = bench(*export)
    if "no prompt" in done.err:
        export = ("export", run.folder, "--layout", "geneval")
        done = bench(*export)
    assert done.code == 2
    assert missing(done.error, "pixels", "not those that were recorded", "run the suite again") == []
    assert bench(*run.arguments("--no-cache")).code == 0
    assert bench(*export).code == 0
