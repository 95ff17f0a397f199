"""Two machines at one address, the cache that they share, strangers' folders, and wrong addresses."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench
from handmade import stored_image
from remote_runs import BUCKET, Server, a_run, add_images, folder, images_at, ledger_rows
from remote_runs import impatient as impatient
from remote_runs import machine as machine
from remote_runs import s3 as s3

from bench.errors import UserError
from bench.remote.address import RemoteFault, url_of
from bench.remote.cache import image_cache
from bench.remote.fetching import LEASE_SECONDS, MANIFEST, Manifest, fetch
from bench.remote.mirror import mirrored
from bench.remote.opening import local
from bench.remote.work import STATE, State, address_of, folder_of
from bench.store import Ledger

pytest.importorskip("moto", reason="needs moto[s3]")
pytest.importorskip("s3fs", reason="needs s3fs")

# Two machines ----------------------------------------------------------------------------------------------------


def test_another_machine_resumes_from_the_address(s3: Server, machine: Any) -> None:
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


def test_a_run_that_continues_elsewhere_is_left_alone_until_it_is_dead(s3: Server, machine: Any) -> None:
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
        cache.put(stored_image(job, digest=png(source, number)), source)
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
