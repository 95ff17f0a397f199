"""The image cache that runs share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Bench, Run, call
from small_images import PIXELS, SHOWN, image, png

from bench.store.cache import ImageCache, default_folder

JOB = "ab" + "0" * 30


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    """A cache with one image in it, that a run put there."""
    source = tmp_path / "run" / "images" / f"{JOB}.png"
    source.parent.mkdir(parents=True)
    source.write_bytes(PIXELS)
    cache = ImageCache(tmp_path / "cache")
    cache.put(image(JOB), source)
    return cache


def record(cache: ImageCache) -> Path:
    (path,) = cache.records()
    return path


def test_an_image_comes_back_with_its_record_and_says_where_it_is_from(cache: ImageCache, tmp_path: Path) -> None:
    target = tmp_path / "copy.png"
    found = cache.get(JOB, target, "images/copy.png")
    assert cache.has(JOB)
    assert found == image(JOB, file="images/copy.png", from_cache=1)
    assert target.read_bytes() == PIXELS
    assert [p.name for p in tmp_path.glob("**/*.tmp")] == []


def test_what_was_never_put_there_is_not_found(cache: ImageCache, tmp_path: Path) -> None:
    assert not cache.has("f" * 32)
    assert cache.get("f" * 32, tmp_path / "x.png", "x.png") is None
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("left", [b"", b'{"job_id": "ab', b"[]", b'{"job_id": "ab"}', b"\xff\xfe"])
def test_a_record_that_was_cut_short_or_is_of_another_version_counts_as_absent(
    cache: ImageCache, tmp_path: Path, left: bytes
) -> None:
    record(cache).write_bytes(left)
    assert cache.get(JOB, tmp_path / "x.png", "x.png") is None
    assert not (tmp_path / "x.png").exists()


def test_a_record_with_fields_of_a_newer_version_counts_as_absent(cache: ImageCache, tmp_path: Path) -> None:
    path = record(cache)
    path.write_text(json.dumps({**json.loads(path.read_text()), "joules": 3}))
    assert cache.get(JOB, tmp_path / "x.png", "x.png") is None


def test_a_record_without_its_image_counts_as_absent_and_can_be_put_again(cache: ImageCache, tmp_path: Path) -> None:
    record(cache).with_suffix(".png").unlink()
    assert cache.get(JOB, tmp_path / "x.png", "x.png") is None
    cache.put(image(JOB), tmp_path / "run" / "images" / f"{JOB}.png")
    assert cache.get(JOB, tmp_path / "x.png", "x.png") is not None


def test_an_image_without_its_record_was_never_finished(cache: ImageCache) -> None:
    record(cache).unlink()
    assert not cache.has(JOB)
    assert cache.size() == (0, 0)


def test_cleaning_leaves_the_images_of_runs(cache: ImageCache, tmp_path: Path) -> None:
    n, size = cache.size()
    assert n == 1
    assert size > len(PIXELS)
    assert cache.clean() == (n, size)
    assert cache.size() == (0, 0)
    assert (tmp_path / "run" / "images" / f"{JOB}.png").read_bytes() == PIXELS


def test_no_run_shares_a_file_with_the_cache(cache: ImageCache, tmp_path: Path) -> None:
    """Hard links would share what damages one of them; blocks that a file system shares part when one is written to."""
    target = tmp_path / "x.png"
    assert cache.get(JOB, target, "x.png") is not None
    with target.open("r+b") as file:
        file.write(b"changed")
    with (tmp_path / "run" / "images" / f"{JOB}.png").open("r+b") as file:
        file.write(b"changed")
    assert record(cache).with_suffix(".png").read_bytes() == PIXELS
    assert cache.get(JOB, target, "x.png") is not None
    assert target.read_bytes() == PIXELS


def test_another_image_in_the_place_of_one_is_not_taken_and_makes_room(cache: ImageCache, tmp_path: Path) -> None:
    """What is in the cache is compared with its digest; a swapped file is removed, so that its like is kept again."""
    record(cache).with_suffix(".png").write_bytes(png(SHOWN[::-1].copy()))
    assert cache.get(JOB, tmp_path / "x.png", "x.png") is None
    assert not (tmp_path / "x.png").exists()
    assert not cache.has(JOB)
    cache.put(image(JOB), _file(tmp_path / "made.png"))
    assert cache.get(JOB, tmp_path / "x.png", "x.png") is not None


def _file(path: Path) -> Path:
    path.write_bytes(PIXELS)
    return path


@pytest.mark.parametrize(
    "changed", [{"sampling_ms": 1e-9}, {"calls_sampling": 5}, {"origin": "a commit"}, {"cost": "{}  "}]
)
def test_a_record_that_was_altered_counts_as_absent(
    cache: ImageCache, tmp_path: Path, changed: dict[str, object]
) -> None:
    path = record(cache)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    assert cache.get(JOB, tmp_path / "x.png", "x.png") is None


@pytest.mark.parametrize("changed", [{}, {"sampling_ms": -1.0}, {"sampling_ms": float("inf")}, {"batch": "4"},
                                     {"digest": "../../x"}, {"job_id": "f" * 32}, {"cost": "[]"}])  # fmt: skip
def test_an_older_record_without_a_digest_is_checked_against_what_its_values_can_be(
    cache: ImageCache, tmp_path: Path, changed: dict[str, object]
) -> None:
    path = record(cache)
    old = {name: value for name, value in json.loads(path.read_text()).items() if name != "sha256"}
    path.write_text(json.dumps({**old, **changed}))
    assert (cache.get(JOB, tmp_path / "x.png", "x.png") is None) is bool(changed)


def test_the_cache_lies_where_bench_cache_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "elsewhere"))
    assert default_folder() == tmp_path / "elsewhere"
    monkeypatch.delenv("BENCH_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "bench"


def test_cache_commands_list_and_empty_it_and_runs_stay_whole(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = finished.copy(tmp_path)
    own = {png.stem for png in (run.folder / "images").glob("*.png")}
    n = len(own)
    source = ImageCache(finished.cache)
    ours = ImageCache(run.cache)
    for path in source.records():
        if path.stem not in own:
            continue  # other tests of this process share the cache
        ours.put(source.get(path.stem, tmp_path / "taken.png", "") or pytest.fail("not whole"), tmp_path / "taken.png")
    assert f"{n} images" in call("cache", "ls", "--cache", run.cache).out
    assert f"{n} images" in call("cache", "clean", "--cache", run.cache).out
    assert ": 0 images, 0.0 MB" in call("cache", "ls", "--cache", run.cache).out
    again = bench(*run.arguments())
    assert again.code == 0
    assert "nothing to do" in again.err
