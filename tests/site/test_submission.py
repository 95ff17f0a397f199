"""A repository of results: what is written is small, checked, and the same whoever writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Bench
from handmade import image
from small_boards import published

from bench.errors import NotComparable, UserError
from bench.records import read
from bench.records.submission import digest_of, read_submission, submission
from bench.site.sources import found
from bench.site.submitting import check, place, submit


def test_a_record_has_the_numbers_and_neither_prompts_nor_images(tmp_path: Path) -> None:
    run = published(tmp_path / "run", texts=lambda prompts, index: f"a secret prompt {index}")
    done = submit(run, tmp_path / "repo")
    text = done.file.read_text()
    assert "secret prompt" not in text
    assert ".png" not in text
    record = read_submission(done.file)
    plain = read(run)
    assert record.results.pairs == ()
    assert record.results.pairs_total == plain.pairs_total == 24
    assert (record.results.arms, record.results.comparisons) == (plain.arms, plain.comparisons)
    assert record.results.run.provenance == plain.run.provenance


def test_its_place_follows_from_its_content_and_a_run_is_there_once(tmp_path: Path) -> None:
    run, repo = published(tmp_path / "run"), tmp_path / "repo"
    first, again = submit(run, repo), submit(run, repo)
    assert (first.new, again.new) == (True, False)
    assert first.file == again.file == repo / place(submission(read(run)))
    assert first.file.parts[-3] == "records"
    assert first.file.stem == first.digest[:16]
    assert check(repo) == (1, [])
    # The run and its record are one run of a site.
    (shown,) = found([tmp_path]).runs
    assert shown.folder == run


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    run = published(tmp_path / "run", images=lambda spot: None if spot.index > 3 else image())
    with pytest.raises(NotComparable, match="not finished"):
        submit(run, tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def damaged(tmp_path: Path, change: str, to: str) -> Path:
    done = submit(published(tmp_path / "run"), tmp_path / "repo")
    text = done.file.read_text()
    assert change in text
    done.file.write_text(text.replace(change, to, 1))
    return done.file


@pytest.mark.parametrize(
    ("change", "to", "said"),
    [
        ('"delta":', '"delta":1', "edited by hand or damaged"),
        ('"submission":1', '"submission":2', "newer version"),
        ('"submission":1', '"submission":"1"', "no record of results"),
        ('"submission":1', '"more":1,"submission":1', "and nothing else"),
        ('"results"', "results", "not JSON"),
    ],
    ids=["a number", "a version", "no version", "more", "no JSON"],
)
def test_a_record_that_was_changed_is_found(tmp_path: Path, change: str, to: str, said: str) -> None:
    file = damaged(tmp_path, change, to)
    with pytest.raises(UserError, match=said):
        read_submission(file)
    right, (line,) = check(tmp_path / "repo")
    assert right == 0
    assert said in line
    assert file.name in line


@pytest.mark.parametrize("harm", [('"delta":', '"delta":1'), ('"pairs":[]', '"pairs":[{}]')], ids=["edited", "pairs"])
def test_a_damaged_record_is_written_again_by_submitting_again(tmp_path: Path, harm: tuple[str, str]) -> None:
    run, repo = published(tmp_path / "run"), tmp_path / "repo"
    file = submit(run, repo).file
    whole = file.read_text()
    assert harm[0] in whole
    file.write_text(whole.replace(*harm, 1))
    with pytest.raises(UserError, match="submit the run again"):
        read_submission(file)
    assert submit(run, repo).new
    assert (file.read_text(), check(repo)) == (whole, (1, []))


def test_another_record_in_a_runs_place_is_removed_and_the_run_submitted(tmp_path: Path) -> None:
    run, repo = published(tmp_path / "run"), tmp_path / "repo"
    other = submit(published(tmp_path / "other", gain=2.0), tmp_path / "theirs").file
    file = repo / place(submission(read(run)))
    file.parent.mkdir(parents=True)
    file.write_text(other.read_text())
    with pytest.raises(UserError, match="remove it, then submit the run again"):
        submit(run, repo)
    file.unlink()
    assert submit(run, repo).new


def test_a_record_with_a_digest_of_its_own_is_still_checked_against_the_form(tmp_path: Path) -> None:
    """Whoever edits a number can write the digest too; what is no results is refused all the same."""
    done = submit(published(tmp_path / "run"), tmp_path / "repo")
    whole = json.loads(done.file.read_text())
    whole["results"]["arms"] = "many"
    whole["digest"] = digest_of(whole["results"])
    done.file.write_text(json.dumps(whole))
    with pytest.raises(UserError, match="damaged or edited by hand"):
        read_submission(done.file)


def test_what_does_not_belong_into_a_repository_is_named(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    done = submit(published(tmp_path / "run"), repo)
    (done.file.parent / "image.png").write_bytes(b"no")
    (done.file.parent / "other.json").write_text(done.file.read_text())
    (done.file.parent / "link.json").symlink_to(tmp_path / "run" / "results.json")
    right, faults = check(repo)
    assert right == 1
    assert [name for name in ("image.png", "other.json", "link.json") if any(name in line for line in faults)] == [
        "image.png",
        "other.json",
        "link.json",
    ]


def test_the_commands(tmp_path: Path, bench: Bench) -> None:
    run, repo = published(tmp_path / "run"), tmp_path / "repo"
    done = bench("submit", run, "--to", repo)
    assert done.code == 0
    assert submission(read(run)).digest in done.out
    assert bench("submit", "--check", repo).code == 0
    next(repo.rglob("*.json")).write_text("{}")
    assert bench("submit", "--check", repo).code == 2
    assert "give RUN" in bench("submit", "--to", repo).error
    assert "no records/ there" in bench("submit", "--check", tmp_path).error
