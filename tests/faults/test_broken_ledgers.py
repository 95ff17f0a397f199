"""A ledger whose bytes changed is one line and exit code 2, whatever changed: no number of it is read as a result."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Bench, Run
from ledgers import write_ledger

from bench.analysis.results import compute
from bench.errors import UserError
from bench.store import Ledger

TRIES = 120


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run's folder, its ledger closed as a finished run leaves it."""
    folder = tmp_path_factory.mktemp("written") / "run"
    write_ledger(folder, lambda method, *_: 0.7 if method == "reseed" else 0.5, prompts=12).close()
    return folder


def flipped(data: bytes, chance: random.Random) -> bytes:
    found = bytearray(data)
    found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def noise(data: bytes, chance: random.Random) -> bytes:
    found, at = bytearray(data), chance.randrange(len(data) - 512)
    found[at : at + 512] = chance.randbytes(512)
    return bytes(found)


def zeroed(data: bytes, chance: random.Random) -> bytes:
    found, page = bytearray(data), 4096 * chance.randrange(len(data) // 4096)
    found[page : page + 4096] = bytes(4096)
    return bytes(found)


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(1, len(data))]


Damage = Callable[[bytes, random.Random], bytes]
DAMAGES = [flipped, noise, zeroed, cut]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_finished_ledger_that_changed_is_always_refused(written: Path, tmp_path: Path, damage: Damage) -> None:
    """Whatever changes in it, its digest does: nothing of it is read."""
    shutil.copytree(written, tmp_path / "run")
    file, chance = tmp_path / "run" / "ledger.sqlite", random.Random(f"{damage.__name__} 1")
    data = file.read_bytes()
    for _ in range(TRIES):
        if (changed := damage(data, chance)) == data:
            continue  # a page of zeros
        file.write_bytes(changed)
        for read_only in (True, False):
            with pytest.raises(UserError) as refused:
                Ledger(tmp_path / "run", read_only=read_only)
            said = str(refused.value)
            assert "\n" not in said
            assert "not what was written" in said or "not a readable ledger" in said or "an empty ledger" in said
    file.write_bytes(data)
    Ledger(tmp_path / "run").close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_stopped_runs_ledger_ends_in_one_line_or_in_results(written: Path, tmp_path: Path, damage: Damage) -> None:
    """It has no digest yet: SQLite's own check and the ranges of its columns find what they can, and nothing ends in a
    traceback or in a delta that no score allows."""
    folder = tmp_path / "run"
    folder.mkdir()
    data = (written / "ledger.sqlite").read_bytes()
    chance, ends = random.Random(f"{damage.__name__} 2"), Counter[str]()
    for _ in range(TRIES // 4):
        (folder / "ledger.sqlite").write_bytes(damage(data, chance))
        said = _end(folder)
        assert "\n" not in said
        ends["refused" if said else "results"] += 1
    assert ends["refused"] >= (0 if damage is flipped else 5), "most of the file is free space"


def _end(folder: Path) -> str:
    """The line by which a ledger is refused; empty where it has results, whose deltas are plausible."""
    try:
        with closing(Ledger(folder, read_only=True)) as ledger:
            found = compute(ledger)
    except (UserError, sqlite3.DatabaseError) as error:  # SQLite's own is a line too: the next test
        return str(error)
    assert all(row.delta is None or abs(row.delta) < 1e3 for row in found.comparisons)
    return ""


@pytest.mark.parametrize("command", ["report", "gate", "run", "compare", "power", "export", "score", "freeze"])
def test_every_command_says_it_in_one_line(bench: Bench, finished: Run, tmp_path: Path, command: str) -> None:
    run = finished.copy(tmp_path)
    file = run.folder / "ledger.sqlite"
    file.write_bytes(flipped(file.read_bytes(), random.Random(5)))
    more: dict[str, tuple[object, ...]] = {
        "run": run.arguments()[1:], "compare": (run.folder, finished.folder), "power": (run.folder, "--delta", 1),
        "score": (run.folder, "--metric", "shapes-preference"), "freeze": ("freeze", run.folder),
    }  # fmt: skip
    done = bench("baseline" if command == "freeze" else command, *more.get(command, (run.folder,)))
    assert done.code == 2
    assert f"`python -m bench verify {run.folder}` says what is broken" in done.error


def test_verify_drop_heals_an_altered_ledger(bench: Bench, finished: Run, tmp_path: Path) -> None:
    """A score that changed within its range looks like the others: all are given again, and are the same."""
    run = finished.copy(tmp_path)
    before = run.scores("shapes-clipscore")
    with sqlite3.connect(run.folder / "ledger.sqlite") as db:
        db.execute("UPDATE scores SET value = value + 0.25 WHERE metric = 'shapes-clipscore'")
    db.close()
    assert run.scores("shapes-clipscore") != before
    done = bench("verify", run.folder)
    assert done.code == 2
    assert "ledger.sqlite: its sha256 is not the one in SHA256SUMS" in done.out
    assert bench(*run.arguments()).code == 2
    done = bench("verify", run.folder, "--drop")
    assert done.code == 0
    assert "all scores: any of them may have changed" in done.out
    done = bench(*run.arguments())
    assert done.code == 0, done.err
    assert "generate:" not in done.err, "images are compared with their digests and are not made again"
    assert run.scores("shapes-clipscore") == before
    assert bench("verify", run.folder).code == 0


def test_a_ledger_that_its_owner_changed_is_read_without_its_digest(
    bench: Bench, finished: Run, tmp_path: Path
) -> None:
    """As the message advises."""
    run = finished.copy(tmp_path)
    with sqlite3.connect(run.folder / "ledger.sqlite") as db:
        db.execute("UPDATE cells SET category = 'mine'")
    db.close()
    done = bench("gate", run.folder)
    assert f"if you changed the ledger yourself, delete {run.folder / 'SHA256SUMS'}" in done.error
    (run.folder / "SHA256SUMS").unlink()
    assert bench("report", run.folder).code == 0


def test_an_unreadable_ledger_is_moved_away_and_the_run_made_again(bench: Bench, finished: Run, tmp_path: Path) -> None:
    """As the message advises."""
    run = finished.copy(tmp_path)
    file = run.folder / "ledger.sqlite"
    file.write_bytes(b"no ledger" * 1000)
    for done in (bench("report", run.folder), bench(*run.arguments())):
        assert done.code == 2
        assert "not a readable ledger" in done.error
        assert "move it away and run again" in done.error
    file.rename(tmp_path / "moved")
    done = bench(*run.arguments())
    assert done.code == 0, done.err
    assert run.scores("shapes-clipscore") == finished.scores("shapes-clipscore")
