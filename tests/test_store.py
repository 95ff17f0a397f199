"""The run folder: its schema, its transactions, its lock, its exports."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run
from handmade import stored_image
from ledgers import write_ledger

from bench.errors import UserError
from bench.store import SCHEMA, Ledger, exclusive, export, write_atomically

TABLES = ("cells", "images", "scores", "sessions")
SINCE = ("failures", "pair_scores", "features", "score_failures", "memory")
HOLDER = """
import sys, time
from pathlib import Path
from bench.store import exclusive
with exclusive(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(120)
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """A process that holds a run folder, once it does."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_ledger_says_its_schema_and_opens_again_with_what_was_put_in_it(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "run", create=True)
    first.put_images([stored_image()])
    first.close()
    again = Ledger(tmp_path / "run")
    assert again.get("schema") == SCHEMA
    assert again.images() == {"a" * 32: stored_image()}
    assert again.get("never set") is None


def test_a_ledger_of_a_newer_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, create=True)
    ledger.put_images([stored_image()])
    ledger.set("schema", SCHEMA + 1)
    ledger.close()
    for create in (False, True):
        with pytest.raises(UserError, match=f"newer version .ledger schema {SCHEMA + 1}.*upgrade"):
            Ledger(tmp_path, create=create)
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert db.execute("SELECT COUNT(*) FROM images").fetchone() == (1,)


def test_a_file_that_is_no_database_is_named_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    content = b"this is no database, but it is long enough to look like one" * 20
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"ledger\.sqlite: not a readable ledger"):
        Ledger(tmp_path, create=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DROP TABLE scores", "without a table 'scores'"),
        ("UPDATE meta SET value = '\"x\"' WHERE key = 'schema'", "of schema 'x'"),
    ],
)
def test_a_damaged_ledger_is_named_and_kept(tmp_path: Path, damage: str, said: str) -> None:
    ledger = Ledger(tmp_path / "run", create=True)
    ledger.db.execute(damage)
    ledger.close()
    for read_only in (False, True):
        with pytest.raises(UserError, match=f"not a readable ledger \\(a ledger {said}\\)"):
            Ledger(tmp_path / "run", read_only=read_only)
    assert (tmp_path / "run" / "ledger.sqlite").stat().st_size


def test_reading_a_folder_without_a_run_says_so_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run there"):
        Ledger(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_an_empty_ledger_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    with pytest.raises(UserError, match="run the suite first"):
        Ledger(tmp_path)


def test_a_transaction_that_fails_leaves_nothing_of_itself(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, create=True)
    ledger.put_images([stored_image("b" * 32)])

    def write_and_fail() -> None:
        with ledger.transaction():
            ledger.set("suite", {"name": "half"})
            ledger.put_images([stored_image("c" * 32)])
            ledger.put_scores([("d" * 64, "p", "m", "s", 1.0, "{}", 0.1)])
            raise RuntimeError("killed here")

    with pytest.raises(RuntimeError, match="killed here"):
        write_and_fail()
    assert ledger.get("suite") is None
    assert list(ledger.images()) == ["b" * 32]
    assert not ledger.scored("m", "s")
    # And the ledger can go on.
    ledger.put_images([stored_image("c" * 32)])
    assert len(ledger.images()) == 2


def test_a_batch_of_images_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, create=True)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.put_images([stored_image("b" * 32), stored_image("c" * 32, digest=None)])
    assert ledger.images() == {}


def test_cells_are_what_the_suite_asks_for_now(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, create=True)
    row = ("standard", "m", "p", "ddim", 4, 5.0, 0, 0, "a red circle", "colors", None, "j0")
    other = ("reseed", *row[1:])
    ledger.put_cells([row, other])
    ledger.put_cells([row])
    assert ledger.db.execute("SELECT method FROM cells").fetchall() == [("standard",)]


def test_a_second_process_on_a_run_folder_gets_one_line_that_names_the_first(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    try:
        with (
            pytest.raises(UserError, match=f"in use by process {holder.pid}; wait for it") as refused,
            exclusive(tmp_path),
        ):
            pytest.fail("two processes in one run folder")
        assert "\n" not in str(refused.value)
    finally:
        holder.kill()
        holder.wait()


def test_a_killed_process_lets_go_of_its_run_folder(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with exclusive(tmp_path):
        assert (tmp_path / "lock").read_text() == f"process {os.getpid()}"


def test_a_run_folder_can_be_locked_again_after_it_was_released(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path), pytest.raises(UserError, match="in use"), exclusive(tmp_path):
            pytest.fail("locked twice")


def test_export_gives_every_row_and_value_back(finished: Run, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    ledger = Ledger(finished.folder)
    written = export(ledger, tmp_path / "export")
    assert {p.name for p in written} == {
        f"{table}.{form}" for table in (*TABLES, *SINCE) for form in ("csv", "parquet")
    }
    for table in TABLES:
        rows = finished.rows(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4")
        columns = [row[1] for row in finished.rows(f"PRAGMA table_info({table})")]
        assert rows, f"{table} is empty: nothing would be compared"
        for path, read in ((f"{table}.csv", pd.read_csv), (f"{table}.parquet", pd.read_parquet)):
            frame = read(tmp_path / "export" / path)
            assert list(frame.columns) == columns
            assert len(frame) == len(rows)
    scores = finished.rows("SELECT digest, metric, value FROM scores")
    frame = pd.read_parquet(tmp_path / "export" / "scores.parquet")
    assert sorted(scores) == sorted(zip(frame["digest"], frame["metric"], frame["value"], strict=True))
    from_csv = pd.read_csv(tmp_path / "export" / "scores.csv")
    assert sorted(scores) == sorted(zip(from_csv["digest"], from_csv["metric"], from_csv["value"], strict=True))


def test_an_atomic_write_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_atomic_write_that_fails_keeps_the_old_file_and_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(b"old")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as half:
            half.write(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_ledger_from_before_pairs_and_sets_is_read_and_its_votes_are_kept(tmp_path: Path) -> None:
    """Votes were scores of an image in -1 to 1; they become the share by which it was preferred to the baseline's."""
    ledger = write_ledger(tmp_path / "run", lambda *_: 1.0, methods=("standard", "a"), prompts=3)
    rows = ledger.db.execute(
        "SELECT method, prompt_index, digest, scores.prompt FROM cells JOIN images USING (job_id) "
        "JOIN scores USING (digest) ORDER BY method, prompt_index"
    ).fetchall()
    ours, theirs = rows[:3], rows[3:]
    cast = {0: 1.0, 1: -0.5}
    ledger.put_scores((d, key, "human", "votes-1", cast[i], '{"votes": 2}', 0.0) for _, i, d, key in ours if i in cast)
    ledger.put_scores((d, key, "human", "votes-1", 0.0, '{"votes": 1}', 0.0) for _, i, d, key in theirs if i in cast)
    ledger.set("votes", {"a file": []})
    ledger.db.executescript("DROP TABLE pair_scores; DROP TABLE features")
    ledger.close()
    before = (tmp_path / "run" / "ledger.sqlite").read_bytes()
    expected = [(ours[i][2], theirs[i][2], ours[i][3], (cast[i] + 1) / 2) for i in sorted(cast)]
    query = "SELECT digest, baseline, prompt, value FROM pair_scores WHERE metric = 'human'"
    for read_only in (True, False):
        found = Ledger(tmp_path / "run", read_only=read_only)
        assert sorted(found.db.execute(query)) == sorted(expected)
        assert found.db.execute("SELECT * FROM features").fetchall() == []
        found.close()
        assert ((tmp_path / "run" / "ledger.sqlite").read_bytes() == before) is read_only
