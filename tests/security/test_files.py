"""Files of strangers: baselines, votes, results, ledgers, images and archives that say more than they should."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench
from handmade import image, make
from hub import serving
from PIL import Image
from suite_texts import TWO_ARMS, suite_text

from bench.errors import UserError
from bench.intake.layouts import export
from bench.needs.web import LARGEST, unpack
from bench.store import Ledger, inside, read_json
from bench.store.files import MOST_JSON
from bench.store.images import decode, pixel_digest, read_png
from bench.suite import parse

HEAD = '{"schema": 1, "kind": "noisebench votes", "voter": "", "votes": [], "suite": '
DOCUMENTS: dict[str, str] = {
    "deep list": f"{HEAD}{'[' * 100_000}",
    "deep and closed": f"{HEAD}{'[' * 100_000}{']' * 100_000}}}",
    "deep mapping": '{"a":' * 100_000,
    "long number": f'{{"schema": {"9" * 5000}}}',
    "infinite": '{"schema": 1e999, "kind": 1}',
    "no number": '{"schema": NaN}',
    "half a pair": '"\\ud800"',
    "zeros": "\x00" * 100,
    "list": "[]",
}
"""What is no baseline, no votes and no results, or is one that no memory holds."""


# Documents -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("kind", ["baseline", "votes", "results"])
def test_an_absurd_document_is_one_line(bench: Bench, tmp_path: Path, kind: str, name: str) -> None:
    run = make(tmp_path / "run", lambda spot: 1.0)
    file = tmp_path / "theirs.json"
    file.write_text(DOCUMENTS[name], encoding="utf-8")
    commands: dict[str, tuple[object, ...]] = {
        "baseline": ("gate", run, "--baseline", file),
        "votes": ("score", run, "--metric", "human", "--votes", file),
    }
    if kind == "results":
        (run / "results.json").write_text(DOCUMENTS[name], encoding="utf-8")
        from bench.records import read

        with pytest.raises(UserError) as caught:
            read(run)
        assert "\n" not in str(caught.value)
        return
    done = bench(*commands[kind])
    assert done.code == 2, done.err
    assert "theirs.json" in done.error
    assert len(done.error) < 500


@pytest.mark.parametrize("command", ["gate", "score"])
def test_a_document_without_an_end_is_one_line(bench: Bench, tmp_path: Path, command: str) -> None:
    run = make(tmp_path / "run", lambda spot: 1.0)
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(MOST_JSON + 1)  # a sparse file: no disk is needed for it
    for endless in (huge, Path("/dev/zero")):
        more = ("--baseline", endless) if command == "gate" else ("--metric", "human", "--votes", endless)
        done = bench(command, run, *more)
        assert done.code == 2
        assert "larger than 64 MiB" in done.error


def test_every_depth_of_nesting_is_answered(tmp_path: Path) -> None:
    """Where a parser gives up depends on the depth of its caller, so the depths about that limit are all tried."""
    from bench.analysis.votes import read_votes
    from bench.gate import frozen

    file = tmp_path / "deep.json"
    for depth in (*range(100, 900, 200), *range(900, 1001)):
        file.write_text(f"{HEAD}{'[' * depth}{']' * depth}}}")
        for read in (frozen.load, read_votes):
            try:
                read(file)
            except Exception as error:
                assert type(error).__name__ in ("UserError", "NotComparable")  # noqa: PT017


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    given = {"a": [1, 2.5, None, "größer"]}
    (tmp_path / "a.json").write_text(json.dumps(given, ensure_ascii=False), encoding="utf-8")
    assert read_json(tmp_path / "a.json") == given


# Names in a ledger ---------------------------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture that lies beside the run's folder."""
    Image.new("RGB", (64, 64), (1, 2, 3)).save(tmp_path / "secret.png")
    return tmp_path / "secret.png"


def linked(folder: Path, target: Path) -> str:
    (folder / "images" / "link.png").symlink_to(target)
    return "images/link.png"


WAYS: dict[str, Callable[[Path, Path], str]] = {
    "relative": lambda folder, target: f"../{target.name}",
    "through images": lambda folder, target: f"images/../../{target.name}",
    "absolute": lambda folder, target: str(target),
    "link": linked,
    "link to a folder": lambda folder, target: _folder(folder, target),
    "zero": lambda folder, target: "images/\x00.png",
}


def _folder(folder: Path, target: Path) -> str:
    (folder / "more").symlink_to(target.parent)
    return f"more/{target.name}"


@pytest.mark.parametrize("way", WAYS)
def test_an_image_outside_of_its_run_is_neither_scored_nor_exported(
    bench: Bench, tmp_path: Path, secret: Path, way: str
) -> None:
    folder = make(tmp_path / "run", lambda spot: 1.0, n=1)
    name = WAYS[way](folder, secret)
    with pytest.raises(UserError, match="it is not read"):
        inside(folder, name)
    ledger = Ledger(folder)
    for job, one in ledger.images().items():
        ledger.put_images([image(job_id=job, digest=one.digest, file=name)])
    for layout in ("compbench",):
        with pytest.raises(UserError, match="it is not read"):
            export(ledger, tmp_path / "out", layout)
    ledger.close()
    assert [path for path in (tmp_path / "out").rglob("*.png")] == []
    done = bench("score", folder, "--metric", "shapes-aesthetic")
    assert done.code == 2, done.err
    assert "it is not read" in done.error


def test_a_file_of_the_run_is_found_wherever_the_run_lies(tmp_path: Path) -> None:
    folder = make(tmp_path / "disk" / "run", lambda spot: 1.0, n=1)
    (tmp_path / "link").symlink_to(folder)
    name = f"images/{0:032x}.png"
    assert inside(tmp_path / "link", name).samefile(folder / name)


LABELS = ("../../x", "/etc/x", "..", "x/../../../y", ".hidden", "a\x1b[2Jb", "con\nname", "-rf")


def test_labels_of_a_ledger_make_folders_below_the_one_that_is_asked_for(tmp_path: Path, secret: Path) -> None:
    from ledgers import write_ledger

    ledger = write_ledger(tmp_path / "run", lambda *_: 1.0, methods=("standard",), prompts=1, text="../../a {index}")
    (tmp_path / "run" / "images").mkdir()
    pixels = pixel_digest(read_png(secret, advice=""))
    for one in ledger.images().values():
        (tmp_path / "run" / one.file).write_bytes(secret.read_bytes())
        ledger.put_images([replace(one, digest=pixels)])  # an image that shows anything else is not exported
    before = {path for path in tmp_path.rglob("*")}
    for number, label in enumerate(LABELS):
        ledger.db.execute("UPDATE cells SET method = ?, prompts = ?", (label, label))
        export(ledger, tmp_path / "out" / str(number), "compbench")
    ledger.close()
    made = {path for path in tmp_path.rglob("*")} - before
    for path in made:
        assert path.resolve().is_relative_to((tmp_path / "out").resolve())
        assert not any(part.startswith((".hidden", "-")) for part in path.relative_to(tmp_path).parts)
    pictures = [path.relative_to(tmp_path / "out").parts for path in made if path.suffix == ".png"]
    assert len(pictures) == len(LABELS)
    assert all(len(parts) == 4 for parts in pictures), "number, label, samples, file"


# Images and archives -------------------------------------------------------------------------------------------------


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


def test_no_image_is_read_by_running_another_program(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow gives EPS to Ghostscript, whatever the file is called; here that leaves a trace."""
    trace = tmp_path / "ran"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {trace}\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None, raising=False)
    (tmp_path / "images").mkdir()
    file = tmp_path / "images" / "0.png"
    file.write_bytes(EPS)
    with pytest.raises(UserError, match="does not decode"):
        decode(file)
    with pytest.raises(UserError, match="not a whole PNG"):
        read_png(file, advice="make it again")
    (tmp_path / "prompts.txt").write_text("a circle")
    arguments = ("--prompts", tmp_path / "prompts.txt", "--metric", "shapes-preference", "--out", tmp_path / "out")
    assert bench("score", tmp_path / "images", *arguments).code in (2, 3)
    assert not trace.exists()
    with pytest.raises(OSError), Image.open(file) as opened:  # noqa: PT011
        opened.load()
    assert trace.exists(), "without the list of formats it runs"


def test_an_archives_file_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    """Gzip makes a megabyte of a gigabyte of zeros."""
    home = tmp_path / "hub" / "someone" / "code"
    home.mkdir(parents=True)
    with tarfile.open(home / "code.tar.gz", "w:gz") as tar:
        bomb = tarfile.TarInfo("code-abc/prompts/0.txt")
        bomb.size = LARGEST + 1
        tar.addfile(bomb, io.BytesIO(bytes(LARGEST + 1)))
    checked: list[Any] = []
    with serving(tmp_path / "hub") as hub:
        url = f"{hub.url}/someone/code/raw/{hub.commit}/code.tar.gz"
        with pytest.raises(UserError, match=r"not a readable archive.* bytes, more than"):
            unpack(url, "prompts", tmp_path / "data" / "set", checked.append)
    assert checked == []
    assert list((tmp_path / "data").iterdir()) == []


def test_an_image_that_claims_billions_of_pixels_is_one_line(tmp_path: Path) -> None:
    """A PNG of 100 bytes may say that it is of 60,000 by 60,000 pixels, 10 GB once decoded."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(b"")]
    written = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    file = tmp_path / "large.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))
    with pytest.raises(UserError, match=r"does not decode: .*exceeds limit") as caught:
        decode(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"not a whole PNG .*exceeds limit"):
        read_png(file, advice="make it again")


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "A", "a b", "a\n", "/etc", "a\x1b", "\u202ea"])
def test_a_suites_name_is_no_path(name: str) -> None:
    with pytest.raises(UserError, match="name"):
        parse(suite_text(TWO_ARMS, name=name), file="theirs.yaml")
