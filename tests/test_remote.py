"""Runs and caches at an address: a real S3 server on loopback, outages, kills, two machines, and strangers' folders."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Run
from test_store import image

import bench as noisebench
from bench.errors import UserError
from bench.remote import mirror as mirroring
from bench.remote.address import Folder, RemoteFault, url_of
from bench.remote.cache import image_cache
from bench.remote.fetching import LEASE_SECONDS, MANIFEST, Manifest, fetch
from bench.remote.mirror import mirrored
from bench.remote.opening import local
from bench.remote.work import JOURNAL, STATE, State, address_of, folder_of
from bench.store import Ledger

pytest.importorskip("moto", reason="needs moto[s3]")
pytest.importorskip("s3fs", reason="needs s3fs")
BUCKET = "results"


@dataclass
class Server:
    """An S3 server; what it holds outlives `stop`."""

    port: int
    running: Any = None

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self.running = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.running.start()

    def stop(self) -> None:
        self.running.stop()


def free_port() -> int:
    """A port below those that the kernel hands out: no other program gets it while the server is stopped."""
    for port in range(20000 + os.getpid() % 10000, 32000):
        with socket.socket() as taken:
            if taken.connect_ex(("127.0.0.1", port)):
                return port
    pytest.skip("no free port")


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    """A running S3 server with an empty bucket, and the surroundings that make it the one of this process."""
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = Server(free_port())
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
            "NO_PROXY": "127.0.0.1",
        }.items():
            patch.setenv(name, value)
        folder(f"s3://{BUCKET}/x").fs.mkdir(BUCKET)
        yield server
        server.stop()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this process another machine, with work folders of its own; it begins on the machine `a`."""

    def become(name: str) -> None:
        monkeypatch.setenv("BENCH_WORK", str(tmp_path / name))

    become("a")
    return become


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes of waiting are tenths of a second here."""
    monkeypatch.setattr(mirroring, "SCAN_SECONDS", 0.05)
    monkeypatch.setattr(mirroring, "PATIENCE", 1.0)
    monkeypatch.setattr(mirroring, "HURRY", 0.5)


def folder(text: str) -> Folder:
    return Folder(url_of(text))


def a_run(at: str, images: int = 3) -> Path:
    """The work folder of a run at an address, with images that are a few bytes each, in its ledger."""
    home = local(at.rpartition("/")[0], "runs") / at.rpartition("/")[2]
    add_images(home, range(images))
    return home


def add_images(home: Path, numbers: Any) -> None:
    (home / "images").mkdir(parents=True, exist_ok=True)
    ledger = Ledger(home, create=True)
    for number in numbers:
        file = f"images/{number:032x}.png"
        (home / file).write_bytes(b"pixels %d" % number)
        ledger.put_images([image(f"{number:032x}", file=file)])
    ledger.close()


def images_at(address: str) -> set[str]:
    return {name for name in folder(address).sizes() if name.startswith("images/")}


def ledger_rows(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(db.execute("SELECT count(*) FROM images").fetchone()[0])
    finally:
        db.close()


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


# Two machines ----------------------------------------------------------------------------------------------------


def test_another_machine_goes_on_from_the_address(s3: Server, machine: Any) -> None:
    at = f"s3://{BUCKET}/moved/run-1"
    first = a_run(at)
    with mirrored(first):
        pass
    machine("b")
    second = local(at, "images")
    assert second != first
    assert sorted(p.name for p in (second / "images").iterdir()) == sorted(p.name for p in (first / "images").iterdir())
    assert ledger_rows(second / "ledger.sqlite") == 3
    with mirrored(second, pulling=True):
        add_images(second, [3, 4])
        (second / f"images/{0:032x}.png").write_bytes(b"made by b")
        ledger = Ledger(second)
        ledger.put_images([replace(ledger.images()[f"{0:032x}"], digest="another")])
        ledger.close()
    machine("a")
    with mirrored(first, pulling=True):
        pass
    assert ledger_rows(first / "ledger.sqlite") == 5
    assert (first / f"images/{0:032x}.png").read_bytes() == b"made by b"
    assert len(images_at(at)) == 5


def test_a_run_that_goes_on_elsewhere_is_left_alone_until_it_is_dead(s3: Server, machine: Any) -> None:
    at = f"s3://{BUCKET}/busy/run-1"
    home = a_run(at)
    other = Manifest.of("another work folder", "", running=True)
    replace(other, host="node7", process=42).write(folder(at))
    with pytest.raises(UserError, match=r"in use by process 42 on node7") as raised, mirrored(home, pulling=True):
        pytest.fail("it was taken")
    assert "wait for it" in str(raised.value)
    from datetime import datetime, timedelta

    dead = datetime.fromisoformat(other.when) - timedelta(seconds=LEASE_SECONDS + 1)
    replace(other, when=dead.isoformat(), snapshot="").write(folder(at))
    with mirrored(home):
        pass
    assert len(images_at(at)) == 3


def test_a_run_that_another_machine_took_over_does_not_overwrite_it(s3: Server, machine: Any) -> None:
    at = f"s3://{BUCKET}/taken/run-1"
    home = a_run(at)
    other = replace(Manifest.of("another work folder", "theirs", running=True), host="node7")

    def slept() -> None:
        with mirrored(home):
            other.write(folder(at))

    with pytest.raises(RemoteFault, match=r"in use by process \d+ on node7"):
        slept()
    assert Manifest.read(folder(at)) == other


def test_two_machines_that_both_have_something_are_refused(s3: Server, machine: Any) -> None:
    at = f"s3://{BUCKET}/both/run-1"
    first = a_run(at, 1)
    with mirrored(first):
        pass
    machine("b")
    second = local(at, "images")
    with mirrored(second):
        add_images(second, [1])
    machine("a")
    state = State.read(first)
    replace(state, dirty=True).write(first)
    with pytest.raises(UserError, match="move that folder away") as raised, mirrored(first, pulling=True):
        pytest.fail("one of them was lost")
    assert str(first) in str(raised.value)
    first.rename(first.with_name("away"))
    with mirrored(local(at, "run"), pulling=True):
        pass
    assert ledger_rows(first / "ledger.sqlite") == 2


def test_a_ledger_that_is_damaged_at_the_address_is_refused(s3: Server, machine: Any, tmp_path: Path) -> None:
    at = f"s3://{BUCKET}/damaged/run-1"
    with mirrored(a_run(at)):
        pass
    assert folder(at).get("ledger.sqlite", tmp_path / "copy")
    data = bytearray((tmp_path / "copy").read_bytes())
    data[5000] ^= 1
    folder(at).write("ledger.sqlite", bytes(data))
    machine("b")
    with pytest.raises(UserError, match="delete SHA256SUMS there"):
        local(at, "run")
    folder(at).remove_all("SHA256SUMS")
    assert ledger_rows(local(at, "run") / "ledger.sqlite") == 3


def test_reading_needs_no_images_and_leaves_the_address_as_it_is(s3: Server, machine: Any) -> None:
    at = f"s3://{BUCKET}/read/run-1"
    with mirrored(a_run(at)):
        pass
    before = folder(at).read(MANIFEST)
    machine("b")
    home = fetch(url_of(at), images=False)
    assert ledger_rows(home / "ledger.sqlite") == 3
    assert not (home / "images").exists()
    assert folder(at).read(MANIFEST) == before


def test_every_run_below_an_address_is_fetched_to_be_shown(s3: Server, machine: Any) -> None:
    at = f"s3://{BUCKET}/many"
    for number in (1, 2):
        with mirrored(a_run(f"{at}/run-{number}")):
            pass
    machine("b")
    home = local(at, "all")
    assert sorted(one.parent.name for one in home.glob("*/ledger.sqlite")) == ["run-1", "run-2"]
    assert len(list(home.glob("*/images/*.png"))) == 6
    assert local(f"{at}/run-1", "all") == home / "run-1"
    with pytest.raises(UserError, match="no run there or below"):
        local(f"s3://{BUCKET}/empty", "all")


# Strangers, and mistakes -----------------------------------------------------------------------------------------


def test_keys_that_lead_out_of_the_folder_are_not_fetched(s3: Server, machine: Any, tmp_path: Path) -> None:
    at = f"s3://{BUCKET}/bad/run-1"
    with mirrored(a_run(at)):
        pass
    fs = folder(at).fs
    for name in ("images/../../../../evil.png", "../evil.png", ".mirror.json", "images/.hidden", "a\\..\\b"):
        fs.pipe_file(f"{BUCKET}/bad/run-1/{name}", b"evil")
    machine("b")
    home = local(at, "images")
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.read_bytes() == b"evil"]
    assert json.loads((home / STATE).read_text())["pulled"]


def test_a_folder_of_others_that_says_it_is_a_work_folder_is_none(machine: Any, tmp_path: Path) -> None:
    """It would be uploaded to where its maker wants it."""
    theirs = tmp_path / "unpacked"
    theirs.mkdir()
    (theirs / ".remote.json").write_text(json.dumps({"url": "s3://theirs/x"}))
    assert address_of(theirs) is None
    assert address_of(theirs / "run-1") is None
    own = folder_of(url_of("memory://mine/x"))
    assert str(address_of(own / "run-1")) == "memory://mine/x/run-1"
    (own / ".remote.json").write_text(json.dumps({"url": "s3://theirs/x"}))
    assert address_of(own / "run-1") is None


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nosuch://bucket/x/run", "expected an address such as"),
        ("s3://", "names no place"),
        ("s3://bucket", "expected the address of a run"),
        ("s3://results/nothing/run-1", "no run there"),
    ],
)
def test_a_wrong_address_is_one_line(address: str, said: str, bench: Bench, s3: Server, machine: Any) -> None:
    done = bench("gate", address)
    assert done.code == 2
    assert said in done.error


def test_a_scheme_without_its_package_names_the_extra(
    bench: Bench, machine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    done = bench("compare", "gs://bucket/x/run-1", tmp_path)
    assert done.code == 2
    assert "pip install 'noisebench[gcs]'" in done.error


def test_an_address_that_cannot_be_written_is_found_before_the_work(s3: Server, machine: Any) -> None:
    home = a_run("s3://nosuchbucket/x/run-1")
    with pytest.raises(RemoteFault, match="s3://nosuchbucket/x/run-1"), mirrored(home):
        pytest.fail("hours of work would have been done")


# The cache -------------------------------------------------------------------------------------------------------


def png(path: Path, shade: int) -> str:
    """A small image; returns the digest of its pixels."""
    import numpy as np
    from PIL import Image

    from bench.store.images import pixel_digest

    pixels = np.full((4, 4, 3), shade, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixel_digest(pixels)


def keep(cache: Any, tmp_path: Path, numbers: Any) -> list[str]:
    ids = [f"{number:032x}" for number in numbers]
    for number, job in zip(numbers, ids, strict=True):
        source = tmp_path / "made" / f"{job}.png"
        cache.put(image(job, digest=png(source, number)), source)
    return ids


def test_an_image_of_one_machine_is_another_machines(s3: Server, machine: Any, tmp_path: Path) -> None:
    at = f"s3://{BUCKET}/cache-1"
    with image_cache(local(at, "cache")) as cache:
        ids = keep(cache, tmp_path, range(4))
    machine("b")
    with image_cache(local(at, "cache")) as cache:
        assert cache.size()[0] == 4
        assert {path.stem for path in cache.records()} == set(ids)
        assert not any(cache.has(one) for one in ids)
        cache.near([*ids[:3], "f" * 32])
        assert [cache.has(one) for one in ids] == [True, True, True, False]
        assert cache.get(ids[0], tmp_path / "got.png", "images/got.png") is not None
        assert cache.clean()[0] == 4
        assert cache.size() == (0, 0)


def test_images_that_an_outage_kept_from_the_cache_wait_for_the_next_run(
    s3: Server, machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.remote.cache.PATIENCE", 0.5)
    at = f"s3://{BUCKET}/cache-2"
    place = local(at, "cache")
    s3.stop()
    with image_cache(place) as cache:
        ids = keep(cache, tmp_path, range(3))
        cache.near(["a" * 32])
    s3.start()
    said = capsys.readouterr().err
    assert "cannot be " in said
    assert "3 images are not in the cache" in said
    with image_cache(place) as cache:
        pass
    assert set(folder(at).sizes("images")) == {
        f"images/{one[:2]}/{one}{suffix}" for one in ids for suffix in (".png", ".json")
    }


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
        "from test_remote import a_run, add_images, mirrored, mirroring\n"
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
