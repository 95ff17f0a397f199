"""Runs at an address for tests: a real S3 server on loopback, machines, and runs whose images are a few bytes."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from handmade import stored_image

from bench.remote import mirror as mirroring
from bench.remote.address import Folder, url_of
from bench.remote.opening import local
from bench.store import Ledger

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
        folder(f"s3://{BUCKET}/x").fs.makedirs(BUCKET, exist_ok=True)  # what a server holds outlives it
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
        ledger.put_images([stored_image(f"{number:032x}", file=file)])
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
