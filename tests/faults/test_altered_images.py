"""An image file that is not what was recorded is found where it is read, and made again; it is never averaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import LIMIT, Bench, Run
from damaged import first_png, swap, whole
from facts import missing

from bench.store import Ledger
from bench.store.cache import ImageCache
from bench.store.whole import whole_images


@pytest.fixture
def cached(finished: Run, tmp_path: Path) -> Run:
    """The run in another place, with a cache of its own that holds its images."""
    run = finished.copy(tmp_path)
    cache = ImageCache(run.cache)
    ledger = Ledger(run.folder, read_only=True)
    for image in ledger.images().values():
        if image.chosen_from is None:
            cache.put(image, run.folder / image.file)
    ledger.close()
    return run


def flip(png: Path) -> None:
    """One bit among the compressed pixels."""
    data = bytearray(png.read_bytes())
    data[len(data) // 2] ^= 0x10
    png.write_bytes(data)


def break_header(png: Path) -> None:
    data = bytearray(png.read_bytes())
    data[12:29] = b"\0" * 17
    png.write_bytes(data)


def cut(png: Path) -> None:
    png.write_bytes(png.read_bytes()[:40])


DAMAGES = [swap, flip, break_header, cut]


def in_cache(run: Run, png: Path) -> Path:
    return run.cache / "images" / png.name[:2] / png.name


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_in_the_run_and_in_the_cache_heals_by_running_again(bench: Bench, cached: Run, damage: object) -> None:
    """The cache's file is damaged in the same way, and is not taken: the image is made again, and no other is."""
    png = first_png(cached)
    before = {name: cached.scores(name) for name in ("shapes-geneval", "shapes-clipscore")}
    for file in (png, in_cache(cached, png)):
        damage(file)  # type: ignore[operator]
    done = bench(*cached.arguments())
    assert done.code == 0, done.err
    assert f"note: {cached.folder}: images/{png.name}: " in done.err
    assert "made again" in done.err
    assert "generate: 1 images" in done.err, "the other images are not made"
    assert whole(cached)
    assert {name: cached.scores(name) for name in before} == before
    again = bench(*cached.arguments())
    assert "nothing to do" in again.err, "what was made again is compared once"
    assert "note:" not in again.err
    assert ImageCache(cached.cache).get(png.stem, cached.runs / "x.png", "x") is not None, "the cache has healed too"


def test_a_swapped_cache_entry_reaches_no_score(bench: Bench, cached: Run) -> None:
    png = first_png(cached)
    swap(in_cache(cached, png))
    shutil.rmtree(cached.folder)
    done = bench(*cached.arguments())
    assert done.code == 0, done.err
    assert "generate: 1 images" in done.err
    assert whole(cached)
    assert len(cached.scores("shapes-clipscore")) == 4 * LIMIT


def test_scores_of_other_pixels_are_not_filed_under_an_images_digest(bench: Bench, cached: Run) -> None:
    """`score` compares every image that it reads, and says what makes it again."""
    png = first_png(cached)
    swap(png)
    done = bench("score", cached.folder, "--metric", "shapes-preference", "--device", "cpu")
    assert done.code == 2
    assert missing(done.error, "pixels", "not those that were recorded", "run the suite again") == []
    assert bench(*cached.arguments()).code == 0
    done = bench("score", cached.folder, "--metric", "shapes-preference", "--device", "cpu")
    assert done.code == 0, done.err


def test_a_file_that_did_not_change_is_decoded_once(finished: Run, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """A copied run folder has other times: its files are compared once, and then known."""
    run = finished.copy(tmp_path)
    for png in (run.folder / "images").iterdir():
        png.touch()
    read: list[Path] = []
    from bench.store import whole as module

    inner = module.damaged
    monkeypatch.setattr(module, "damaged", lambda path, digest: read.append(path) or inner(path, digest))
    for expected in (len(list((run.folder / "images").iterdir())), 0):
        read.clear()
        ledger = Ledger(run.folder)
        assert len(whole_images(ledger)) == len(ledger.images())
        ledger.close()
        assert len(read) == expected


@pytest.fixture
def damaged(cached: Run) -> tuple[Run, Path]:
    png = first_png(cached)
    swap(png)
    return cached, png


def test_verify_names_every_damaged_image_and_drop_removes_it(bench: Bench, damaged: tuple[Run, Path]) -> None:
    run, png = damaged
    (run.folder / "images" / "stray.png").write_bytes(b"")
    done = bench("verify", run.folder)
    assert done.code == 2
    assert f"images/{png.name}: its pixels are not those that were recorded" in done.out
    assert "images/stray.png: of no image of the ledger" in done.out
    assert f"`python -m bench verify {run.folder} --drop` removes them" in done.out
    assert bench("verify", run.folder, "--drop").code == 0
    assert not png.exists()
    assert bench(*run.arguments()).code == 0
    done = bench("verify", run.folder)
    assert (done.code, done.out.splitlines()[-1]) == (0, f"{run.folder}: whole")
    assert whole(run)


def test_verify_of_a_cache_names_and_drops_what_is_damaged(bench: Bench, cached: Run) -> None:
    files = sorted((cached.cache / "images").glob("*/*.png"))
    swap(files[0])
    files[1].with_suffix(".json").write_text("{}")
    files[2].with_suffix(".json").unlink()
    done = bench("verify", cached.cache)
    assert done.code == 2
    assert f"{files[0].stem}: its pixels are not those that were recorded" in done.out
    assert f"{files[1].stem}: its record is cut short, altered or of another version" in done.out
    assert f"{files[2].name}: without a record, so it is not used" in done.out
    assert bench("verify", cached.cache, "--drop").code == 0
    assert bench("verify", cached.cache).code == 0
    assert len(list((cached.cache / "images").glob("*/*.json"))) == len(files) - 3


def test_verify_says_what_it_takes(bench: Bench, tmp_path: Path) -> None:
    done = bench("verify", tmp_path)
    assert done.code == 2
    assert "neither a run folder (no ledger.sqlite) nor an image cache" in done.error
