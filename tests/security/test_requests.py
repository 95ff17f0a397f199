"""What a request may not do to `serve`: come under another name or none, be endless, or get a file from elsewhere."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from handmade import make

from bench.serve.app import LONGEST, make_app

LONG = "9" * 3000


def made(home: Path) -> Path:
    make(home / "runs" / "one", lambda spot: float(spot.index))
    return home / "runs"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that tests only read."""
    return made(tmp_path_factory.mktemp("asked"))


@pytest.fixture(scope="module")
def reader(seen: Path) -> Any:
    return make_app(seen).test_client()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return made(tmp_path)


@pytest.fixture
def client(runs: Path) -> Any:
    return make_app(runs).test_client()


@pytest.fixture(scope="module")
def port(seen: Path) -> Iterator[int]:
    """A real server's."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "serve", str(seen), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert found
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(timeout=60)


def ask(port: int, lines: bytes) -> bytes:
    """The first line of what a real server answers to bytes as they are."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(lines)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def test_a_real_server_answers_no_request_without_a_host(port: int, bench_process: Any) -> None:
    for request in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
                    b"GET / HTTP/1.0\r\nHost:\r\n\r\n", b"GET http://evil.example/ HTTP/1.0\r\n\r\n",
                    b"GET / HTTP/1.0\r\nHost: evil.example\r\n\r\n"):  # fmt: skip
        answer = ask(port, request)
        assert answer.split(b" ")[1] == b"400", request
        assert b"/run/one" not in answer
    answer = ask(port, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert answer.split(b" ")[1] == b"200"
    assert b"/run/one" in answer


def test_a_real_server_refuses_what_is_endless(port: int, bench_process: Any) -> None:
    for path in (b"/" + b"x" * 10_000, b"/run/one/?text=" + b"_" * 60_000, b"/" + b"x" * 70_000):
        answer = ask(port, b"GET " + path + b" HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert answer.split(b" ")[1] == b"414"


@pytest.mark.parametrize(
    "query",
    [f"page={LONG}", "page=1e400", "page=-5", f"setting={LONG}", "setting=-1", "setting=x", "text=%00",
     "text=%ED%A0%80", "text=%FF", f"text={'_' * 4000}", f"text={'%25' * 1300}", "prompts=%00", "method=%3Cscript%3E",
     f"text={LONG * 2}", "&".join(["a=1"] * 900)],
)  # fmt: skip
def test_no_query_is_a_fault_of_the_server(reader: Any, query: str) -> None:
    for path in ("/run/one/", "/run/one/report.html", "/compare"):
        assert reader.get(f"{path}?{query}").status_code < 500


@pytest.mark.parametrize(
    "path",
    [f"/{'x' * 5000}", f"/run/{'x' * 3000}/", f"/run/one/images/{'x' * 3000}.png", "/run/%ff/", "/run/%00/",
     "/run/one/images/%00.png", "/run/one/images/%ed%a0%80.png", f"/compare?a={'x' * 1000}&b=%00", "/%ff",
     "//evil.example/"],
)  # fmt: skip
def test_no_path_is_a_fault_of_the_server(reader: Any, path: str) -> None:
    assert 300 <= reader.get(path).status_code < 500


def test_the_longest_address_is_answered_and_one_character_more_is_not(reader: Any) -> None:
    path = "/run/one/?text="
    assert reader.get(path + "a" * (LONGEST - len(path))).status_code == 200
    assert reader.get(path + "a" * (LONGEST - len(path) + 1)).status_code == 414


@pytest.mark.parametrize("kind", ["outside", "loop", "gone", "device"])
def test_a_report_that_is_a_link_is_not_followed_out_of_its_run(
    client: Any, runs: Path, tmp_path: Path, kind: str
) -> None:
    secret = tmp_path / "private.html"
    secret.write_text("private")
    targets = {"outside": secret, "loop": Path("report.html"), "gone": tmp_path / "gone", "device": Path("/dev/zero")}
    (runs / "one" / "report.html").symlink_to(targets[kind])
    answer = client.get("/run/one/report.html")
    assert answer.status_code == 404
    assert b"private" not in answer.data.replace(str(tmp_path).encode(), b"")


def test_a_report_that_is_a_link_within_its_run_is_sent(client: Any, runs: Path) -> None:
    (runs / "one" / "first.html").write_text("the report")
    (runs / "one" / "report.html").symlink_to("first.html")
    assert client.get("/run/one/report.html").data == b"the report"


def test_a_run_whose_folder_is_a_link_is_shown(client: Any, runs: Path, tmp_path: Path) -> None:
    """Where runs lie is the user's business: what may not lead elsewhere is what is in them."""
    elsewhere = make(tmp_path / "disk" / "two", lambda spot: 1.0)
    (elsewhere / "report.html").write_text("the report")
    (runs / "two").symlink_to(elsewhere)
    assert client.get("/run/two/report.html").data == b"the report"
