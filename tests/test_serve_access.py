"""`serve`: whose images and runs it shows, who gets in, and the command."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Run
from facts import missing
from handmade import image
from served import client as client
from served import made, text
from served import reader as reader
from served import runs as runs
from served import seen as seen

from bench.store import Ledger

# Images ---------------------------------------------------------------------------------------------------------------


def first_job(run: Run | Path) -> str:
    folder = run.folder if isinstance(run, Run) else run
    db = sqlite3.connect(folder / "ledger.sqlite")
    job: str = db.execute("SELECT job_id FROM images WHERE chosen_from IS NULL ORDER BY job_id").fetchone()[0]
    db.close()
    return job


def test_an_image_is_served_by_its_job(reader: Any, finished: Run) -> None:
    job = first_job(finished)
    response = reader.get(f"/run/{finished.folder.name}/images/{job}.png")
    assert response.status_code == 200
    assert response.mimetype == "image/png"
    assert response.data == (finished.folder / "images" / f"{job}.png").read_bytes()
    again = reader.get(
        f"/run/{finished.folder.name}/images/{job}.png", headers={"If-None-Match": response.headers["ETag"]}
    )
    assert again.status_code == 304


def test_a_deleted_image_is_said(client: Any, runs: Path) -> None:
    shutil.rmtree(runs / "many" / "images")
    page = client.get("/run/many/")
    assert text(page).count("its file is gone") == 100
    assert "<img" not in page.get_data(as_text=True)
    assert client.get(f"/run/many/images/{first_job(runs / 'many')}.png").status_code == 404


@pytest.mark.parametrize("job", ["nothing", "..", "../ledger.sqlite", "%2e%2e%2fledger.sqlite", "' OR 1=1 --", "%00"])
def test_only_jobs_of_the_ledger_are_images(reader: Any, job: str) -> None:
    response = reader.get(f"/run/many/images/{job}.png")
    assert response.status_code == 404
    assert b"SQLite" not in response.data


@pytest.mark.parametrize("name", ["..", "%2e%2e", ".", "no run", "many%2f..%2f..", "%00"])
def test_only_runs_of_the_folder_are_shown(reader: Any, name: str) -> None:
    for page in ("", "report.html"):
        assert reader.get(f"/run/{name}/{page}").status_code in (308, 404)


@pytest.mark.parametrize(
    "file", ["../../secret.png", "/etc/hostname", "../many/ledger.sqlite", "report.html", "link.png"]
)
def test_a_ledger_that_names_a_file_outside_its_folder_is_not_followed(
    client: Any, runs: Path, tmp_path: Path, file: str
) -> None:
    (runs.parent / "secret.png").write_bytes(b"hidden content")
    (tmp_path / "elsewhere.png").write_bytes(b"hidden content")
    (runs / "many" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (runs / "many" / "report.html").write_text("hidden content")
    ledger = Ledger(runs / "many")
    ledger.put_images([image(job_id="evil", digest="d", file=file)])
    ledger.close()
    response = client.get("/run/many/images/evil.png")
    assert response.status_code == 404
    assert b"hidden content" not in response.data


# Who gets in ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1"])
def test_a_foreign_name_is_refused(reader: Any, host: str) -> None:
    """DNS rebinding: a page of another site whose name is made to mean this machine."""
    for path in ("/", "/run/many/", "/compare?a=many&b=halfway"):
        response = reader.get(path, headers={"Host": host})
        assert response.status_code == 400
        assert b"many" not in response.data


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost", "localhost:1"])
def test_names_of_this_machine_are_let_in(reader: Any, host: str) -> None:
    assert reader.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_allowed(reader: Any, method: str) -> None:
    for path in ("/", "/run/many/", "/compare", "/run/many/report.html"):
        assert reader.open(path, method=method).status_code == 405
    assert reader.head("/").status_code == 200


def test_every_answer_has_the_headers_that_keep_it_to_itself(reader: Any, finished: Run) -> None:
    name = finished.folder.name
    for path in ("/", f"/run/{name}/", f"/run/{name}/report.html", "/nowhere", "/compare",
                 f"/run/{name}/images/{first_job(finished)}.png"):  # fmt: skip
        headers = reader.get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers
    assert "script-src" not in reader.get("/").headers["Content-Security-Policy"]


def test_a_fault_of_ours_is_one_line_and_a_traceback_on_the_terminal(
    reader: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("with /a/path in it")

    monkeypatch.setattr("bench.serve.app.page", broken)
    response = reader.get("/run/many/")
    assert response.status_code == 500
    assert "internal error (RuntimeError); the terminal has the details" in text(response)
    assert b"/a/path" not in response.data
    assert "with /a/path in it" in capsys.readouterr().err


def test_reading_changes_nothing(finished: Run, tmp_path: Path) -> None:
    from bench.serve.app import make_app

    root = made(finished, tmp_path)  # nothing has read these before

    def kept() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in root.rglob("*") if p.is_file() and not p.name.endswith(("-wal", "-shm"))}

    before = kept()
    with make_app(root).test_client() as client:
        for path in ("/", "/run/many/", f"/run/{finished.folder.name}/", "/compare?a=many&b=halfway"):
            client.get(path)
    assert kept() == before


def test_a_ledger_opened_for_reading_refuses_to_be_written(seen: Path) -> None:
    ledger = Ledger(seen / "many", read_only=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        ledger.set("finished", "no")
    ledger.close()


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(seen: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """`bench serve` in a process of its own on a free port, the address that it prints, and its standard error's file.

    That has also what it imports.
    """
    command = [sys.executable, "-X", "importtime", "-m", "bench", "serve", str(seen), "--port", "0"]
    with (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            # A parent in the background may have made its children ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    yield process, line.split()[0] if line else "", tmp_path / "err"
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_a_real_server_on_this_machine_alone_until_ctrl_c(
    server: tuple[subprocess.Popen[str], str, Path],
) -> None:
    process, address, said = server
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    for path in ("", "run/many/", "compare?a=many&b=halfway"):
        with urllib.request.urlopen(address + path, timeout=60) as response:
            assert response.status == 200
            assert "halfway" in response.read().decode() or path == "run/many/"
    listening = Path(f"/proc/{process.pid}/net/tcp")
    if listening.is_file():
        port = f":{int(address.rstrip('/').rsplit(':', 1)[1]):04X}"
        addresses = {line.split()[1] for line in listening.read_text().splitlines()[1:]}
        assert {one for one in addresses if one.endswith(port)} == {f"0100007F{port}"}, "127.0.0.1 and nothing else"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    lines = said.read_text().splitlines()
    assert [line for line in lines if not line.startswith("import time:")] == []
    assert process.returncode == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "bench" in imported
    assert imported.isdisjoint({"torch", "diffusers", "transformers"})


def test_a_port_in_use_is_one_line(bench: Bench, seen: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = bench("serve", seen, "--port", port)
    assert done.code == 2
    assert missing(done.error, f"--port {port}", "in use", "another port, or 0") == []


def test_a_missing_folder_and_an_impossible_port_are_one_line(bench: Bench, tmp_path: Path) -> None:
    done = bench("serve", tmp_path / "nowhere")
    assert done.code == 2
    assert "nowhere: no such folder; expected a folder of runs" in done.error
    done = bench("serve", tmp_path, "--port", "70000")
    assert done.code == 2
    assert "--port 70000: expected a port from 1 to 65535" in done.error


def test_without_flask_the_line_says_what_to_install(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flask", None)
    monkeypatch.delitem(sys.modules, "bench.serve.app", raising=False)
    done = bench("serve", tmp_path)
    assert done.code == 2
    assert "serve needs Flask, which is not installed; pip install flask" in done.error


def test_there_is_no_way_to_open_it_to_others(bench: Bench, tmp_path: Path) -> None:
    assert bench("serve", tmp_path, "--host", "0.0.0.0").code == 2
    assert "--host" not in bench("serve", "--help").out
