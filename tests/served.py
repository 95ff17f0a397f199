"""A folder of runs, and clients of the pages over it: of one that tests only read, and of copies that they change."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from handmade import image, make
from suite_texts import TWO_ARMS, suite_text

from bench.store import SCHEMA, Ledger

HOSTILE = '<script>alert(1)</script> & "quotes" 100%_\''


def made(finished: Run, home: Path) -> Path:
    """A real run, a made one with 120 pairs, an unfinished one, and three that cannot be read."""
    root = finished.copy(home).runs
    make(
        root / "many",
        lambda s: float(s.index % 7 + (s.method == "inversion")),
        n=60,
        suite=suite_text(TWO_ARMS, prompts=["shapes-pickapic", "shapes-drawbench"]),
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


@pytest.fixture(scope="module")
def seen(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that tests only read."""
    return made(finished, tmp_path_factory.mktemp("served"))


@pytest.fixture
def runs(seen: Path, tmp_path: Path) -> Path:
    """The same runs for a test of its own to change."""
    return Path(shutil.copytree(seen, tmp_path / "runs"))


@pytest.fixture
def client(runs: Path) -> Iterator[Any]:
    """A client of the pages over `runs`."""
    from bench.serve.app import make_app

    with make_app(runs).test_client() as found:
        yield found


@pytest.fixture(scope="module")
def reader(seen: Path) -> Iterator[Any]:
    """A client of the pages over `seen`."""
    from bench.serve.app import make_app

    with make_app(seen).test_client() as found:
        yield found


def text(response: Any) -> str:
    """A page's words, without its markup."""
    body = re.sub(r"<style>.*?</style>", "", response.get_data(as_text=True), flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())
