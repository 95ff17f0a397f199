"""The image browser's large views: difference, flicker, zoom; and how far pictures changed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.report.thumbnails import changes_of, thumbnails

from . import many_pairs
from .tab import Open, Tab, used, write

METHODS = ["standard", "inversion", "npnet"]


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pairs: npnet has the baseline's images, inversion darker ones, the more from pair to pair."""
    folder = tmp_path_factory.mktemp("near")
    found = many_pairs.results(4, methods=METHODS, distinct_images=12)
    for number, pair in enumerate(found["pairs"]):
        pair["images"] = {name: f"images/{number}-{name}.png" for name in METHODS}
        pair["scores"] = {name: {"preference": 1.0 + 1e-5 * (name == "npnet")} for name in METHODS}
    many_pairs.draw_images(folder, found, noise=0.0)
    for number, pair in enumerate(found["pairs"]):
        base = many_pairs.picture(number, noise=0.0)
        for name, plus in (("standard", 0), ("npnet", 0), ("inversion", -10 * number)):
            base.point(lambda value, plus=plus: value + plus).save(folder / pair["images"][name])
    return write(folder, found)


@pytest.fixture(scope="module")
def opened(near: Path, chromium: Any) -> Iterator[Tab]:
    tab = Tab(chromium, near.as_uri())
    yield tab
    tab.context.close()


@pytest.fixture
def tab(opened: Tab) -> Iterator[Tab]:
    yield from used(opened)


def large(tab: Tab, pair: int, method: str) -> None:
    tab.page.locator("#browser-list > li").nth(pair).locator(".browser-shot").first.click()
    tab.page.locator(f'#browser-pair figure[data-method="{METHODS.index(method)}"] .browser-shot').click()


def brightest(tab: Tab) -> int:
    """Of the picture as it is seen, without its rim."""
    with Image.open(io.BytesIO(tab.page.locator("#browser-zoom .browser-stack").screenshot())) as seen:
        width, height = seen.size
        inside = seen.convert("L").crop((width // 4, height // 4, 3 * width // 4, 3 * height // 4))
        return int(inside.getextrema()[1])  # type: ignore[arg-type]


def test_equal_images_have_a_black_difference_and_others_not(tab: Tab) -> None:
    large(tab, 3, "npnet")
    tab.page.get_by_role("button", name="Difference to baseline").click()
    assert "Black: the same in npnet and standard" in tab.page.inner_text("#browser-zoom .browser-said")
    assert brightest(tab) == 0
    tab.page.keyboard.press("ArrowLeft")
    assert tab.page.locator("#browser-zoom [aria-label=Methods] [aria-pressed=true]").inner_text() == "inversion"
    four = brightest(tab)
    assert four == pytest.approx(4 * 30, abs=6)
    tab.page.get_by_role("button", name="× 16").click()
    assert brightest(tab) > four + 50
    tab.page.keyboard.press("ArrowLeft")
    assert tab.page.get_by_role("button", name="Difference to baseline").is_disabled(), (
        "the baseline has none to itself"
    )


def test_flicker_shows_both_in_turns_and_can_be_paused(tab: Tab) -> None:
    large(tab, 3, "inversion")
    tab.page.keyboard.press("f")
    said = "document.querySelector('#browser-zoom .browser-said').textContent"
    for name in ("standard", "inversion", "standard"):
        tab.until(f"{said} === '{name}'")
    tab.page.get_by_role("button", name="Pause").click()
    shown = tab.page.evaluate(said)
    tab.page.wait_for_timeout(1000)  # more than one turn
    assert tab.page.evaluate(said) == shown
    tab.page.get_by_role("button", name="Switch").click()
    assert tab.page.evaluate(said) != shown
    tab.page.keyboard.press("Escape")
    assert tab.page.locator("#browser-cards").is_visible()


def test_flicker_waits_to_be_asked_where_motion_is_reduced(near: Path, visit: Open) -> None:
    tab = visit(near, reduced_motion="reduce")
    large(tab, 3, "inversion")
    tab.page.keyboard.press("f")
    assert tab.page.get_by_role("button", name="Play").is_visible()


def test_zoom_by_keys_and_buttons(tab: Tab) -> None:
    large(tab, 1, "inversion")
    image = tab.page.locator("#browser-zoom img").first
    before = image.bounding_box()["width"]
    tab.page.keyboard.press("+")
    assert image.bounding_box()["width"] == pytest.approx(2 * before, rel=0.05)
    tab.page.get_by_role("button", name="8×").click()
    assert image.bounding_box()["width"] == pytest.approx(8 * before, rel=0.05)
    for _ in range(5):
        tab.page.keyboard.press("-")
    assert image.bounding_box()["width"] == pytest.approx(before, rel=0.05)
    assert tab.width() == 1280


def test_pairs_are_filtered_and_sorted_by_how_far_the_picture_changed(tab: Tab) -> None:
    tab.choose("method", "inversion")
    every = tab.keys()
    tab.choose("sort", "picture: most changed first")
    assert tab.keys() == every[::-1]
    tab.page.fill("#browser-moved", "5")
    assert tab.count().startswith("2 of 4 pairs"), "20 and 30 of 255 grey levels are 7.8 % and 11.8 %"
    tab.choose("method", "npnet")
    assert tab.count().startswith("0 of 4 pairs")


def test_what_is_printed_as_zero_has_no_colour(tab: Tab) -> None:
    spans = tab.page.locator("#browser-list dd span")
    assert set(spans.all_inner_texts()) <= {"0.00", "0.000", "0.0"}
    assert tab.page.locator("#browser-list dd :is(.better, .worse)").count() == 0


def test_a_change_is_the_mean_difference_of_the_pictures(tmp_path: Path) -> None:
    files: list[Path | None] = [tmp_path / f"{grey}.png" for grey in (0, 51, 255)]
    for file, grey in zip(files, (0, 51, 255), strict=True):
        assert file
        Image.new("RGB", (64, 48), (grey,) * 3).save(file)
    found = thumbnails([*files, None], 10_000)
    assert list(changes_of([0, 1, 2, 0, 3, -1], found)) == [0.0, 20.0, 100.0, 0.0, None, None]
