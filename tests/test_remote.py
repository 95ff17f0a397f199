"""Runs at an address: what is there, outages, kills, and the commands."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Run
from remote_runs import BUCKET, Server, a_run, add_images, folder, images_at, ledger_rows
from remote_runs import impatient as impatient
from remote_runs import machine as machine
from remote_runs import s3 as s3

import bench as noisebench
from bench.remote import mirror as mirroring
from bench.remote.address import Folder, RemoteFault, url_of
from bench.remote.fetching import MANIFEST, Manifest
from bench.remote.mirror import mirrored
from bench.remote.work import JOURNAL, State, folder_of

pytest.importorskip("moto", reason="needs moto[s3]")
pytest.importorskip("s3fs", reason="needs s3fs")

# A run's folder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["s3", "memory", "file"])
def test_what_a_run_leaves_is_at_its_address(scheme: str, s3: Server, machine: Any, tmp_path: Path) -> None:
    at = f"file://{tmp_path}/there/run-1" if scheme == "file" else f"{scheme}://{BUCKET}/left/run-1"
    home = a_run(at)
    with mirrored(home):
        (home / "report.html").write_text("first")
        (home / ".half.tmp").write_text("half a file")
        (home / "report.html").write_text("the report")
    there = folder(at)
    assert set(there.sizes()) == {
        *(f"images/{i:032x}.png" for i in range(3)),
        "report.html",
        "ledger.sqlite",
        "SHA256SUMS",
        MANIFEST,
    }
    assert there.read("report.html") == b"the report"
    assert there.get("ledger.sqlite", tmp_path / "copy.sqlite")
    assert ledger_rows(tmp_path / "copy.sqlite") == 3
    found = Manifest.read(there)
    assert found is not None
    assert not found.running


def test_a_snapshot_is_whole_while_the_ledger_is_written(
    s3: Server, machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is at the address in the middle of a run names only images that are there."""
    monkeypatch.setattr(mirroring, "SNAPSHOT_SECONDS", 0.1)
    at = f"s3://{BUCKET}/live/run-1"
    home = a_run(at, 0)
    seen = 0
    with mirrored(home):
        for number in range(24):
            add_images(home, [number])
            if number % 8 == 7:
                time.sleep(0.5)
                assert folder(at).get("ledger.sqlite", tmp_path / "copy.sqlite")
                there, rows = images_at(at), ledger_rows(tmp_path / "copy.sqlite")
                names = {row[0] for row in sqlite3.connect(tmp_path / "copy.sqlite").execute("SELECT file FROM images")}
                assert names <= there
                seen = max(seen, rows)
    assert seen > 0


def test_an_outage_in_the_middle_loses_nothing(s3: Server, machine: Any) -> None:
    at = f"s3://{BUCKET}/outage/run-1"
    home = a_run(at, 2)
    with mirrored(home):
        wait_for(lambda: len(images_at(at)) == 2)
        s3.stop()
        add_images(home, range(2, 12))
        time.sleep(0.5)
        s3.start()
    assert len(images_at(at)) == 12
    assert not State.read(home).dirty


def test_what_an_outage_at_the_end_leaves_is_uploaded_by_the_next_command(
    s3: Server, machine: Any, tmp_path: Path
) -> None:
    at = f"s3://{BUCKET}/end/run-1"
    home = a_run(at, 1)

    def cut_off() -> None:
        with mirrored(home):
            s3.stop()
            add_images(home, range(1, 4))

    with pytest.raises(RemoteFault) as raised:
        cut_off()
    s3.start()
    assert str(home) in str(raised.value)
    assert "3 files" in str(raised.value) or "4 files" in str(raised.value)
    assert "run the same command again" in str(raised.value)
    with mirrored(home):
        pass
    assert len(images_at(at)) == 4
    assert folder(at).get("ledger.sqlite", tmp_path / "copy.sqlite")
    assert ledger_rows(tmp_path / "copy.sqlite") == 4


def wait_for(true: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_only_what_changed_is_uploaded_again_and_a_torn_journal_costs_an_upload(
    s3: Server, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"s3://{BUCKET}/journal/run-1"
    home = a_run(at)
    with mirrored(home):
        pass
    sent: list[str] = []
    put = Folder.put
    monkeypatch.setattr(Folder, "put", lambda self, path, name: (sent.append(name), put(self, path, name))[1])
    with mirrored(home):
        (home / f"images/{1:032x}.png").write_bytes(b"made again")
    assert sent == [f"images/{1:032x}.png", "ledger.sqlite"]
    assert folder(at).read(f"images/{1:032x}.png") == b"made again"
    lines = (home / JOURNAL).read_text()
    (home / JOURNAL).write_text(lines[: len(lines) - 5])
    sent.clear()
    with mirrored(home):
        pass
    assert len(sent) == 2
    assert sent[-1] == "ledger.sqlite"


def test_a_file_that_was_deleted_at_the_address_is_uploaded_again(s3: Server, machine: Any) -> None:
    at = f"s3://{BUCKET}/deleted/run-1"
    home = a_run(at)
    with mirrored(home):
        pass
    folder(at).remove_all("images")
    with mirrored(home):
        pass
    assert len(images_at(at)) == 3


def test_work_that_fails_is_uploaded_too_and_its_own_error_is_what_is_raised(s3: Server, machine: Any) -> None:
    at = f"s3://{BUCKET}/failed/run-1"
    home = a_run(at)
    with pytest.raises(ZeroDivisionError), mirrored(home):
        print(1 / 0)
    assert len(images_at(at)) == 3

    def interrupted() -> None:
        with mirrored(home):
            s3.stop()
            add_images(home, [7])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    s3.start()
    assert State.read(home).dirty


# Commands --------------------------------------------------------------------------------------------------------


def run_at(bench: Bench, finished: Run, at: str, *more: object) -> Any:
    """The finished run's suite with its images from the cache: nothing is generated."""
    words = [str(word) for word in finished.arguments(*more)]
    words[words.index("--runs") + 1] = at
    return bench(*words)


@pytest.mark.usefixtures("whole_report")
def test_a_run_at_an_address_is_the_run_in_a_folder(
    bench: Bench, finished: Run, s3: Server, machine: Any, tmp_path: Path
) -> None:
    at = f"s3://{BUCKET}/commands"
    done = run_at(bench, finished, at)
    assert done.code == 0, done.err
    run = f"{at}/{finished.folder.name}"
    assert f"uploaded: {run}" in done.err
    assert images_at(run) == {f"images/{p.name}" for p in (finished.folder / "images").iterdir()}
    assert {"results.json", "report.md", "report.html", "suite.yaml"} <= set(folder(run).sizes())
    machine("b")
    compared = bench("compare", run, finished.folder)
    assert compared.code == 0, compared.err
    assert "dentical" in compared.out or "no difference" in compared.out.lower(), compared.out
    folder(run).fs.rm_file(f"{BUCKET}/commands/{finished.folder.name}/report.md")
    assert bench("report", run, "--format", "md").code == 0
    assert folder(run).read("report.md")
    scores = noisebench.read(run).scores
    assert len(scores) == len(noisebench.read(finished.folder).scores)
    again = run_at(bench, finished, at)
    assert again.code == 0, again.err
    assert "finished before" in again.err


@pytest.mark.usefixtures("whole_report")
def test_a_run_whose_uploads_fail_ends_with_one_line_and_finishes_them_when_it_is_run_again(
    bench: Bench, finished: Run, s3: Server, machine: Any
) -> None:
    at = f"s3://{BUCKET}/cut"
    run = f"{at}/{finished.folder.name}"
    home = folder_of(url_of(at)) / finished.folder.name
    cut = threading.Thread(target=lambda: (wait_for(lambda: any(home.glob("images/*.png")), 60), s3.stop()))
    cut.start()
    done = run_at(bench, finished, at)
    cut.join()
    s3.start()
    assert done.code == 2
    assert "not uploaded yet" in done.error
    assert (home / "report.html").is_file()
    again = run_at(bench, finished, at)
    assert again.code == 0, again.err
    assert len(images_at(run)) == len(list((finished.folder / "images").iterdir()))
    assert "report.html" in folder(run).sizes()


def test_a_killed_run_is_uploaded_by_the_next_one(s3: Server, machine: Any, tmp_path: Path) -> None:
    """A process that dies in the middle of its uploads has forgotten no file."""
    at = f"s3://{BUCKET}/killed/run-1"
    script = tmp_path / "dies.py"
    script.write_text(
        "import os, sys, time\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from bench.remote import mirror as mirroring\n"
        "from bench.remote.mirror import mirrored\n"
        "from remote_runs import a_run, add_images\n"
        "mirroring.SCAN_SECONDS = 0.05\n"
        "home = a_run(sys.argv[2], 1)\n"
        "with mirrored(home):\n"
        "    for number in range(1, 40):\n"
        "        add_images(home, [number])\n"
        "        time.sleep(0.01)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, script, str(Path(__file__).parent), at], env=dict(os.environ), capture_output=True, timeout=120
    )
    assert done.returncode == -9, done.stderr.decode()
    home = folder_of(url_of(at).parent) / "run-1"
    assert State.read(home).dirty
    with mirrored(home, pulling=True):
        pass
    assert len(images_at(at)) == 40
