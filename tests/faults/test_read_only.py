"""A finished run on a medium that cannot be written to is read by every command that reads."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Plug, Run, call
from facts import missing

from bench import registry
from bench.metrics.base import Value

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
medium: list[Path] = []
"""The folder that is read-only now; root may write anywhere, so file modes alone would try nothing."""


def refuse(event: str, given: tuple[Any, ...]) -> None:
    """As an audit hook, which cannot be taken away again: what would write below the medium fails as it does there."""
    if not medium:
        return
    if event == "open":
        path, _, flags = given
        if isinstance(path, str | bytes | os.PathLike) and _below(path) and (flags or 0) & WRITING:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
    elif event in EVENTS and any(isinstance(one, str | bytes | os.PathLike) and _below(one) for one in given):
        raise OSError(errno.EROFS, "Read-only file system", str(given[0]))
    elif event == "sqlite3.connect" and _below(str(given[0]).removeprefix("file://")) and "immutable=1" not in given[0]:
        raise sqlite3.OperationalError("unable to open database file")


def _below(path: Any) -> bool:
    return os.fsdecode(path).startswith(f"{medium[0]}{os.sep}")


sys.addaudithook(refuse)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    access = os.access

    def allowed(path: Any, mode: int, **more: Any) -> bool:
        there = _below(path) or Path(path) == folder
        return not (mode & os.W_OK and there) and access(path, mode, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "access", allowed)
        medium.append(folder)
        try:
            yield
        finally:
            medium.clear()


@pytest.fixture(scope="module")
def burnt(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = finished.copy(tmp_path_factory.mktemp("burnt"))
    before = sorted((p.name, p.stat().st_mtime_ns) for p in run.folder.rglob("*"))
    with read_only(run.runs):
        yield run
    assert sorted((p.name, p.stat().st_mtime_ns) for p in run.folder.rglob("*")) == before


def test_the_medium_of_these_tests_is_read_only(burnt: Run) -> None:
    for write in (
        lambda: (burnt.folder / "x").write_text("x"),
        lambda: (burnt.folder / "x").mkdir(),
        lambda: (burnt.folder / "results.json").unlink(),
        lambda: (burnt.folder / "results.json").rename(burnt.folder / "x"),
    ):
        with pytest.raises(OSError, match="Read-only"):
            write()


@pytest.mark.parametrize(
    "command", ["gate", "compare", "power", "verify", "freeze", "report", "export", "run", "run --gate"]
)
def test_every_command_that_reads_reads_there(
    bench: Bench, burnt: Run, finished: Run, tmp_path: Path, command: str
) -> None:
    folder, out = burnt.folder, ("--out", tmp_path / "out")
    commands: dict[str, tuple[object, ...]] = {
        "gate": ("gate", folder, "--baseline", tmp_path / "b.json"),
        "compare": ("compare", folder, finished.folder),
        "power": ("power", folder, "--delta", 1),
        "verify": ("verify", folder),
        "freeze": ("baseline", "freeze", folder, "--out", tmp_path / "c.json"),
        "report": ("report", folder, *out),
        "export": ("export", folder, *out),
        "run": tuple(burnt.arguments()),
        "run --gate": (*burnt.arguments(), "--baseline", tmp_path / "b.json"),
    }
    if "--baseline" in commands[command]:
        assert call("baseline", "freeze", finished.folder, "--out", tmp_path / "b.json").code == 0
    done = bench(*commands[command])
    assert done.code == 0, done.err
    assert "Traceback" not in done.err


def test_the_python_api_reads_there(burnt: Run, finished: Run) -> None:
    import bench

    run = bench.read(burnt.folder)
    assert len(run.images) == len(bench.read(finished.folder).images)
    assert run.results.comparisons
    assert not run.scores.empty


def test_its_pages_are_served(burnt: Run) -> None:
    from bench.serve.app import make_app

    client = make_app(burnt.runs).test_client()
    for page in ("/", f"/run/{burnt.folder.name}/", f"/run/{burnt.folder.name}/report.html"):
        assert client.get(page).status_code == 200


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("report",), "give another --out"),
        (
            ("score", "--metric", "shapes-preference"),
            "(Read-only file system); copy it to a place",
        ),
    ],
)
def test_what_would_write_there_says_so_in_one_line(
    bench: Bench, burnt: Run, command: tuple[str, ...], said: str
) -> None:
    done = bench(command[0], burnt.folder, *command[1:])
    assert done.code == 2
    assert said in done.error


def test_a_new_run_there_is_sent_elsewhere(bench: Bench, burnt: Run) -> None:
    done = bench("run", burnt.suite, "--limit", 1, "--runs", burnt.runs / "new", "--device", "cpu")
    assert done.code == 2
    assert missing(done.error, "cannot be written to", "Read-only file system", "--runs or --out") == []


def test_a_run_that_is_not_finished_cannot_go_on_there(bench: Bench, burnt: Run, plug: Plug) -> None:
    """A suite of the same id, by another scorer: what it would add cannot be written."""
    other = type("Other", (), {"score": lambda self, images, prompts: [Value(0.0) for _ in images]})
    entry = replace(registry.get("metrics", "shapes-clipscore"), load=lambda device: other(), identify=lambda: "other")
    plug("metrics", **{"shapes-clipscore": entry})
    done = bench(*burnt.arguments())
    assert done.code == 2
    assert missing(done.error, "cannot be written to", "not finished for this suite", "copy it to a folder") == []


def test_what_a_stopped_run_wrote_last_is_read_there_too(finished: Run, tmp_path: Path) -> None:
    """It is in the write-ahead log, which SQLite alone would not read on such a medium."""
    from bench.store import Ledger

    run = finished.copy(tmp_path)
    ledger = Ledger(run.folder)
    ledger.set("note", "the last word")
    for name in ("ledger.sqlite", "ledger.sqlite-wal"):
        (tmp_path / name).write_bytes((run.folder / name).read_bytes())
    ledger.close()
    stopped = tmp_path / "stopped" / "run"
    stopped.mkdir(parents=True)
    for name in ("ledger.sqlite", "ledger.sqlite-wal"):
        (tmp_path / name).rename(stopped / name)
    assert (stopped / "ledger.sqlite-wal").stat().st_size
    with read_only(tmp_path / "stopped"):
        found = Ledger(stopped, read_only=True)
        assert found.get("note") == "the last word"
        found.close()
