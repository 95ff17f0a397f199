"""The local pages over a folder of runs: what they show, that they change nothing, and that nobody else gets in."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Run
from handmade import SUITE, image, make

from bench.store import SCHEMA, Ledger

flask = pytest.importorskip("flask")

HOSTILE = '<script>alert(1)</script> & "quotes" 100%_\''


@pytest.fixture
def runs(finished: Run, tmp_path: Path) -> Path:
    """A real run, a made one with 120 pairs, an unfinished one, and three that cannot be read."""
    root = finished.copy(tmp_path).runs
    make(
        root / "many",
        lambda s: float(s.index % 7 + (s.method == "inversion")),
        n=60,
        suite=SUITE.replace("[shapes-pickapic]", "[shapes-pickapic, shapes-drawbench]"),
        texts=lambda prompts, index: HOSTILE if index == 59 else f"{prompts} number {index}",
    )
    make(
        root / "halfway",
        lambda s: 1.0,
        texts="{} number {}".format,
        images=lambda s: image() if s.index < 2 else None,
        finished=False,
    )
    for name in ("newer", "empty", "junk"):
        make(root / name, lambda s: 1.0)
    ledger = Ledger(root / "newer")
    ledger.set("schema", SCHEMA + 1)
    ledger.close()
    ledger = Ledger(root / "empty")
    ledger.put_cells([])
    ledger.close()
    (root / "junk" / "ledger.sqlite").write_bytes(b"no database " * 100)
    (root / "no run").mkdir()
    return root


@pytest.fixture
def client(runs: Path) -> Iterator[Any]:
    from bench.serve.app import make_app

    with make_app(runs).test_client() as found:
        yield found


def text(response: Any) -> str:
    """A page's words, without its markup."""
    body = re.sub(r"<style>.*?</style>", "", response.get_data(as_text=True), flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


# Pages --------------------------------------------------------------------------------------------------------------


def test_the_list_says_how_far_each_run_is_and_why_one_cannot_be_read(client: Any, finished: Run) -> None:
    page = text(client.get("/"))
    assert finished.folder.name in page
    assert "Four arms on the embedded world" in page
    assert "4 of 8 images" in page
    assert "No results yet." in page
    assert f"written by a newer version (ledger schema {SCHEMA + 1}" in page
    assert "an empty run (its ledger has no cell)" in page
    assert "not a readable ledger (file is not a database)" in page
    assert "no run " not in page, "a folder without a ledger"


def test_the_verdict_in_the_list_is_the_reports(client: Any, finished: Run) -> None:
    from bench.records import read
    from bench.report import headline

    assert headline(read(finished.folder)) in text(client.get("/"))


def test_a_run_that_goes_on_is_shown_anew(client: Any, runs: Path) -> None:
    assert "4 of 8 images" in text(client.get("/"))
    ledger = Ledger(runs / "halfway")
    job = ledger.db.execute("SELECT job_id FROM cells WHERE prompt_index = 2").fetchone()[0]
    ledger.put_images([image(job_id=job, digest="new", file=f"images/{job}.png")])
    assert "5 of 8 images" in text(client.get("/"))
    ledger.close()


def test_a_run_is_shown_while_it_is_being_written(client: Any, runs: Path) -> None:
    """A writer holds its transaction open; readers see what was there before it."""
    writer = sqlite3.connect(runs / "halfway" / "ledger.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM images")
    assert "4 of 8 images" in text(client.get("/"))
    page = client.get("/run/halfway/")
    assert page.status_code == 200
    assert text(page).count("not made yet") == 4
    writer.execute("ROLLBACK")
    writer.close()


def test_the_report_is_given_as_it_is(client: Any, runs: Path, finished: Run) -> None:
    response = client.get(f"/run/{finished.folder.name}/report.html")
    assert response.status_code == 200
    assert response.data == (runs / finished.folder.name / "report.html").read_bytes()
    assert "sandbox allow-scripts" in response.headers["Content-Security-Policy"]
    assert "allow-same-origin" not in response.headers["Content-Security-Policy"]


def test_a_missing_report_is_said(client: Any) -> None:
    response = client.get("/run/many/report.html")
    assert response.status_code == 404
    assert "many has no report.html yet; it is written when the run ends, or by `bench report`" in text(response)


def test_all_pairs_are_paged_fifty_at_a_time(client: Any) -> None:
    seen: list[str] = []
    for number in (1, 2, 3):
        page = client.get(f"/run/many/?page={number}").get_data(as_text=True)
        found = re.findall(r'<p class="meta">(\S+), index (\d+), seed 0', page)
        assert len(found) == (50, 50, 20)[number - 1]
        seen += [" ".join(one) for one in found]
    assert len(set(seen)) == 120
    assert client.get("/run/many/?page=99").data == client.get("/run/many/?page=3").data
    assert client.get("/run/many/?page=x").data == client.get("/run/many/?page=1").data


def test_pairs_are_filtered(client: Any) -> None:
    assert "60 pairs that match" in text(client.get("/run/many/?prompts=shapes-drawbench"))
    assert "1 pairs that match" in text(client.get("/run/many/?prompts=shapes-drawbench&text=Number 17"))
    assert "No pair matches." in text(client.get("/run/many/?text=nowhere"))
    both, only = (client.get(f"/run/many/?method={m}").get_data(as_text=True) for m in ("inversion", "standard"))
    assert both.count("<figure>") == 100
    assert only.count("<figure>") == 50
    for query in ("prompts=nowhere", "method=nothing", "setting=7"):
        assert client.get(f"/run/many/?{query}").status_code == 404


def test_wildcards_in_the_search_are_plain_text(client: Any) -> None:
    assert "2 pairs that match" in text(client.get("/run/many/", query_string={"text": "100%_"}))
    assert "No pair matches." in text(client.get("/run/many/", query_string={"text": "1%7"}))


def test_a_pair_has_its_scores_and_deltas(client: Any) -> None:
    page = text(client.get("/run/many/?prompts=shapes-pickapic&text=number 12"))
    assert "standard shapes-preference 5" in page
    assert "inversion shapes-preference 6 +1" in page


def test_settings_are_told_and_chosen_where_there_are_several(client: Any, runs: Path) -> None:
    make(runs / "steps", lambda s: float(s.steps), suite=SUITE.replace("steps: 4", "steps: [4, 6]"))
    assert "8 pairs: " in text(client.get("/run/steps/"))
    page = text(client.get("/run/steps/?setting=1"))
    assert "4 pairs that match" in page
    assert "standard shapes-preference 6" in page
    assert "standard shapes-preference 4" not in page


def test_two_runs_are_compared_by_picking_them(client: Any, runs: Path) -> None:
    make(runs / "more", lambda s: 1.0 + s.index, n=20)
    make(runs / "less", lambda s: 1.0 * s.index, n=20)
    page = text(client.get("/compare?a=less&b=more"))
    assert "more (B) against less (A)" in page
    assert "standard in B against standard in A on Preference: +1" in page
    ledger = Ledger(runs / "more")
    ledger.db.execute("UPDATE scores SET value = value + 1")
    ledger.close()
    assert "standard in B against standard in A on Preference: +2" in text(client.get("/compare?a=less&b=more"))


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("", 404, "two runs are needed to compare"),
        ("a=many&b=many", 404, "the same run folder twice"),
        ("a=many&b=nowhere", 404, "no run is called 'nowhere' here"),
        ("a=many&b=junk", 404, "not a readable ledger"),
        ("a=many&b=empty", 409, "an empty run"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_one_line(client: Any, query: str, code: int, said: str) -> None:
    response = client.get(f"/compare?{query}")
    assert response.status_code == code
    assert said in text(response)


def test_hostile_prompts_are_inert(client: Any) -> None:
    response = client.get("/run/many/?page=3")
    assert HOSTILE in text(response)
    assert "<script" not in response.get_data(as_text=True)
    found = client.get("/run/many/", query_string={"text": HOSTILE})
    assert "<script" not in found.get_data(as_text=True)
    assert "2 pairs that match" in text(found)
    assert "<script" not in client.get("/run/<script>/").get_data(as_text=True)


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    from bench.serve.app import make_app

    assert "No run is here yet" in text(make_app(tmp_path).test_client().get("/"))


def test_one_runs_folder_is_a_list_of_one(finished: Run) -> None:
    from bench.serve.app import make_app

    page = make_app(finished.folder).test_client()
    assert "1 in " in text(page.get("/"))
    assert page.get(f"/run/{finished.folder.name}/").status_code == 200


# Images -------------------------------------------------------------------------------------------------------------


def first_job(run: Run | Path) -> str:
    folder = run.folder if isinstance(run, Run) else run
    db = sqlite3.connect(folder / "ledger.sqlite")
    job: str = db.execute("SELECT job_id FROM images WHERE chosen_from IS NULL ORDER BY job_id").fetchone()[0]
    db.close()
    return job


def test_an_image_is_served_by_its_job(client: Any, finished: Run) -> None:
    job = first_job(finished)
    response = client.get(f"/run/{finished.folder.name}/images/{job}.png")
    assert response.status_code == 200
    assert response.mimetype == "image/png"
    assert response.data == (finished.folder / "images" / f"{job}.png").read_bytes()
    again = client.get(
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
def test_only_jobs_of_the_ledger_are_images(client: Any, job: str) -> None:
    response = client.get(f"/run/many/images/{job}.png")
    assert response.status_code == 404
    assert b"SQLite" not in response.data


@pytest.mark.parametrize("name", ["..", "%2e%2e", ".", "no run", "many%2f..%2f..", "%00"])
def test_only_runs_of_the_folder_are_shown(client: Any, name: str) -> None:
    for page in ("", "report.html"):
        assert client.get(f"/run/{name}/{page}").status_code in (308, 404)


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


# Who gets in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1"])
def test_a_foreign_name_is_refused(client: Any, host: str) -> None:
    """DNS rebinding: a page of another site whose name is made to mean this machine."""
    for path in ("/", "/run/many/", "/compare?a=many&b=halfway"):
        response = client.get(path, headers={"Host": host})
        assert response.status_code == 400
        assert b"many" not in response.data


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost", "localhost:1"])
def test_names_of_this_machine_are_let_in(client: Any, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_allowed(client: Any, method: str) -> None:
    for path in ("/", "/run/many/", "/compare", "/run/many/report.html"):
        assert client.open(path, method=method).status_code == 405
    assert client.head("/").status_code == 200


def test_every_answer_has_the_headers_that_keep_it_to_itself(client: Any, finished: Run) -> None:
    name = finished.folder.name
    for path in ("/", f"/run/{name}/", f"/run/{name}/report.html", "/nowhere", "/compare",
                 f"/run/{name}/images/{first_job(finished)}.png"):  # fmt: skip
        headers = client.get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers
    assert "script-src" not in client.get("/").headers["Content-Security-Policy"]


def test_a_fault_of_ours_is_one_line_and_a_traceback_on_the_terminal(
    client: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("with /a/path in it")

    monkeypatch.setattr("bench.serve.app.page", broken)
    response = client.get("/run/many/")
    assert response.status_code == 500
    assert "internal error (RuntimeError); the terminal has the details" in text(response)
    assert b"/a/path" not in response.data
    assert "with /a/path in it" in capsys.readouterr().err


def test_reading_changes_nothing(client: Any, runs: Path, finished: Run) -> None:
    def kept() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in runs.rglob("*") if p.is_file() and not p.name.endswith(("-wal", "-shm"))}

    before = kept()
    for path in ("/", "/run/many/", f"/run/{finished.folder.name}/", "/compare?a=many&b=halfway"):
        client.get(path)
    assert kept() == before


def test_a_ledger_opened_for_reading_refuses_to_be_written(runs: Path) -> None:
    ledger = Ledger(runs / "many", read_only=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        ledger.set("finished", "no")
    ledger.close()


# The command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(runs: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`bench serve` in a process of its own on a free port, and the address that it prints."""
    command = [sys.executable, "-m", "bench", "serve", str(runs), "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A parent in the background may have told its children to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    yield process, line.split()[0] if line else ""
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_a_real_server_on_this_machine_alone_until_ctrl_c(
    server: tuple[subprocess.Popen[str], str], runs: Path
) -> None:
    process, address = server
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    with urllib.request.urlopen(address, timeout=60) as response:
        assert response.status == 200
        assert "halfway" in response.read().decode()
    listening = Path(f"/proc/{process.pid}/net/tcp")
    if listening.is_file():
        port = f":{int(address.rstrip('/').rsplit(':', 1)[1]):04X}"
        addresses = {line.split()[1] for line in listening.read_text().splitlines()[1:]}
        assert {one for one in addresses if one.endswith(port)} == {f"0100007F{port}"}, "127.0.0.1 and nothing else"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == ""


def test_a_port_in_use_is_one_line(bench: Bench, runs: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = bench("serve", runs, "--port", port)
    assert done.code == 2
    assert f"--port {port}: in use by another program; give another port, or 0 for any that is free" in done.error


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


def test_serve_imports_no_torch(runs: Path) -> None:
    script = (
        "import sys, json; from pathlib import Path; from bench.serve.app import make_app; "
        "c = make_app(Path(sys.argv[1])).test_client(); "
        "codes = [c.get(p).status_code for p in ('/', '/run/many/', '/compare?a=many&b=halfway')]; "
        "print(json.dumps([codes, [m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(runs)], capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [[200, 200, 200], []], done.stderr
