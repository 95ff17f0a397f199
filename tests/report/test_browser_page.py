"""The report as a page: hostile text, size, images on disk, widths, paper, and what is left without scripts."""

from __future__ import annotations

import copy
import json
import re
import shutil
import time
from pathlib import Path

import pytest
from covering import FULL

from . import many_pairs
from .tab import VIEW, Open, Results, Shoot, Tab, ballot, exported, key, write

HOSTILE = (
    "</script><script>window.stolen = 1</script><img src=x onerror='window.stolen = 2'> & \" ' ` ${window.stolen = 3}"
    " {{ 7 * 7 }} <!-- \u2028 \u2029 \u202e\u2067 right to left \ud800 \x00 " + "W" * 3000
)
HOSTILE_METHOD = "<b onclick=alert(1)>npnet</b>\u202e"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose every text is somebody's attempt."""
    spoilt = copy.deepcopy(many_pairs.results(8, methods=["standard", HOSTILE_METHOD]))
    for number, pair in enumerate(spoilt["pairs"]):
        pair |= {"prompt": f"{HOSTILE} {number}", "prompts": HOSTILE, "category": HOSTILE + str(number % 2)}
    spoilt["pairs"][1]["images"][HOSTILE_METHOD] = "javascript:alert(1)"
    spoilt["pairs"][2]["images"][HOSTILE_METHOD] = "../../secret.png"
    spoilt["pairs"][3]["images"][HOSTILE_METHOD] = "https://evil.example/a.png"
    spoilt["pairs"][4]["images"][HOSTILE_METHOD] = "images/a'b\"<c>&#?.png"
    spoilt["metrics"] = copy.deepcopy(many_pairs.METRICS)
    spoilt["metrics"]["preference"] |= {"title": HOSTILE, "unit": HOSTILE}
    spoilt["settings"] = [setting | {"model": HOSTILE} for setting in many_pairs.SETTINGS]
    spoilt["run"]["folder"] = spoilt["suite"]["id"] = HOSTILE
    folder = tmp_path_factory.mktemp("hostile")
    many_pairs.draw_images(folder, spoilt)
    return write(folder, spoilt)


def test_hostile_text_neither_runs_nor_breaks_the_page_and_unsafe_files_are_never_asked_for(
    hostile: Path, visit: Open, tmp_path: Path
) -> None:
    tab = visit(hostile, viewport={"width": 360, "height": 800})
    assert len(tab.keys()) == 8
    shown = tab.page.locator("#browser-list .browser-text").first.evaluate("text => text.textContent")
    assert ascii(shown) == ascii(f"{HOSTILE} 0".replace("\ud800", "?")), "half of a surrogate pair is no text"
    assert tab.width() == 360
    tab.page.locator("#browser-list .browser-text button").nth(4).click()
    tab.page.locator("#browser-pair .browser-shot").nth(1).click()
    tab.until("document.querySelector('#browser-zoom img').src.startsWith('file:')")
    assert tab.width() == 360
    assert tab.page.locator("#browser-pair").evaluate("dialog => dialog.scrollWidth - dialog.clientWidth") == 0
    link = tab.page.get_attribute("#browser-link", "href")
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("Escape")
    again = visit(hostile, link, viewport={"width": 360, "height": 800})
    assert again.page.locator("#browser-pair").is_visible(), "a hostile pair has a working address, too"
    again.page.keyboard.press("Escape")
    ballot(again)
    again.page.keyboard.press("1")
    assert again.width() == 360
    assert exported(again, tmp_path / "votes.json")["votes"][0]["prompt"].startswith(HOSTILE[:100])
    assert tab.page.locator("#browser-list .browser-absent").all_inner_texts() == ["no image"] * 3
    for each in (tab, again):
        assert not [url for url in each.requests if "secret" in url or "evil" in url]
        assert each.page.evaluate("window.stolen === undefined && document.scripts.length === 3")
        assert each.page.evaluate("document.querySelectorAll('[onerror], [onclick]').length") == 0


def test_data_cannot_be_ended_by_a_prompt(hostile: Path) -> None:
    text = hostile.read_text(encoding="utf-8")
    block = re.search(r'<script type="application/json" id="browser-data">(.*?)</script>', text, re.DOTALL)
    assert block
    assert not set("<>&\u2028\u2029") & set(block[1])
    # As ASCII, because a failure that prints half of a surrogate pair stops all tests: pytest-xdist cannot send it.
    assert ascii(json.loads(block[1])["pairs"][0][5]) == ascii(f"{HOSTILE} 0".replace("\ud800", "?"))


def test_policy_forbids_all_but_the_pages_own_script(tab: Tab) -> None:
    assert tab.page.evaluate("typeof window.ran") == "undefined"
    tab.page.evaluate(
        """() => { const script = document.createElement("script"); script.textContent = "window.ran = 1";
        document.body.append(script); new Image().src = "http://127.0.0.1:9/a.png"; }"""
    )
    end = time.monotonic() + 5
    while len(tab.faults) < 2 and time.monotonic() < end:
        tab.page.wait_for_timeout(10)
    assert tab.page.evaluate("typeof window.ran") == "undefined"
    assert len(tab.faults) == 2
    assert all("Content Security Policy" in fault for fault in tab.faults), tab.faults
    tab.faults.clear()
    tab.page.evaluate("document.body.lastElementChild.remove()")
    tab.requests[:] = [url for url in tab.requests if not url.startswith("http://127.0.0.1:9/")]  # refused, not sent


def test_two_thousand_pairs_open(tmp_path: Path, visit: Open, capsys: pytest.CaptureFixture[str]) -> None:
    many = many_pairs.results(2000, distinct_images=40)
    many_pairs.draw_images(tmp_path, many)
    file = write(tmp_path, many)
    before = time.perf_counter()
    tab = visit(file)
    tab.page.wait_for_selector("#browser-list > li")
    opened = time.perf_counter() - before
    before = time.perf_counter()
    tab.choose("sort", "size of delta")
    tab.page.fill("#browser-search", "number 1999")
    assert tab.keys() == [key(many["pairs"][1999])]
    with capsys.disabled():
        print(
            f"\n2,000 pairs: {file.stat().st_size / 1e6:.2f} MB, open in {opened:.2f} s, "
            f"sorted and searched in {time.perf_counter() - before:.2f} s"
        )


def written(folder: Path, prompts: int, size: int, noise: float) -> tuple[Path, list[str]]:
    """The report of 4 methods' images of these prompts, and its thumbnails: eight pictures under many names."""
    found = many_pairs.results(prompts, distinct_images=4 * prompts)
    (folder / "images").mkdir()
    for number in range(8):
        many_pairs.picture(number, size=size, noise=noise).save(folder / f"{number}.png")
    for number in range(4 * prompts):
        (folder / "images" / f"{number:04d}.png").hardlink_to(folder / f"{number % 8}.png")
    file = write(folder, found)
    data = re.search(r' id="browser-data">(.*?)</script>', file.read_text(encoding="utf-8"))
    assert data
    return file, [source for _, _, source, *_ in json.loads(data[1])["images"]]


@pytest.mark.parametrize(("size", "noise"), [(64, 0.4), *([(64, 60.0), (256, 25.0), (1024, 25.0)] if FULL else [])])
@pytest.mark.slow
def test_page_of_200_prompts_and_4_methods_is_under_5_mb(
    tmp_path: Path, visit: Open, size: int, noise: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Small images at each push, large ones every week."""
    before = time.perf_counter()
    file, sources = written(tmp_path, 200, size, noise)
    seconds, weight = time.perf_counter() - before, file.stat().st_size
    kinds = {source.split(";")[0] for source in sources}
    with capsys.disabled():
        print(f"\n{size} px, noise {noise}: {weight / 1e6:.2f} MB in {seconds:.1f} s, {kinds}")
    assert weight < 5_000_000
    assert len(sources) == 800
    assert all(sources), "every image has a thumbnail"
    assert kinds == ({"data:image/png"} if noise < 1 else {"data:image/webp"})
    if noise >= 1:
        shown = visit(file).page.locator("#browser-list img").first
        assert shown.evaluate("image => image.naturalWidth") >= 64


def test_large_images_share_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three prompts with a budget that none of its images fits into as it is."""
    from bench.report import browser

    monkeypatch.setattr(browser, "BUDGET", 300_000)
    _, sources = written(tmp_path, 3, 256, 25.0)
    assert len(sources) == 12
    assert all(source.startswith("data:image/webp") for source in sources), "every image has a thumbnail"
    assert 60_000 < sum(map(len, sources)) <= 150_000, "the pairs that are shown without scripts are there twice"


def test_images_beyond_the_budget_come_from_disk(
    tmp_path: Path, visit: Open, monkeypatch: pytest.MonkeyPatch, results: Results
) -> None:
    from bench.report import browser

    run = tmp_path / "runs" / "second run"
    run.mkdir(parents=True)
    many_pairs.draw_images(run, results)
    monkeypatch.setattr(browser, "BUDGET", 0)
    (tmp_path / "runs" / "merged").mkdir()
    file = write(tmp_path / "runs" / "merged", results | {"runs": [results["runs"][0] | {"path": "../second run"}]})
    tab = visit(file)
    first = tab.page.locator("#browser-list img").first
    first.scroll_into_view_if_needed()
    assert first.get_attribute("loading") == "lazy"
    assert first.get_attribute("src") == "../second%20run/images/0000.png"
    tab.until("document.querySelector('#browser-list img').naturalWidth === 64")
    ballot(tab)  # canvases are drawn from files as well


def test_images_that_are_gone_are_said_to_be(results: Results, tmp_path: Path, visit: Open) -> None:
    """A run whose images were deleted before the report, and a report that was moved without them after."""
    file = write(tmp_path, results)
    tab = visit(file)
    assert tab.page.locator("#browser-list .browser-absent").first.inner_text() == "no image"
    many_pairs.draw_images(tmp_path, results)
    file = write(tmp_path, results)
    shutil.rmtree(tmp_path / "images")
    tab = visit(file)
    tab.page.locator("#browser-list .browser-shot").first.click()
    tab.page.locator("#browser-cards img").first.wait_for()
    end = time.monotonic() + 5
    while not tab.faults and time.monotonic() < end:
        tab.page.wait_for_timeout(10)
    assert tab.faults, "Chromium names the missing file"
    assert tab.page.locator("#browser-cards img").first.evaluate("image => image.naturalWidth") == 64, "the thumbnail"
    tab.faults.clear()


# Widths, paper, no script --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark"), (3840, "light")])
def test_page_fits_its_window(tab: Tab, shoot: Shoot, width: int, scheme: str) -> None:
    tab.look(width, {360: 800, 1280: 900, 3840: 2160}[width], color_scheme=scheme)

    def kept(name: str) -> None:
        assert tab.width() == width, f"{name} runs out of the window"
        shoot(tab, f"{name}-{width}-{scheme}")

    kept("report")
    tab.page.evaluate("document.getElementById('browser').scrollIntoView()")
    kept("list")
    tab.page.locator("#browser-list .browser-shot").first.click()
    kept("pair")
    tab.page.locator("#browser-cards .browser-shot").nth(1).click()
    kept("large")
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("Escape")
    tab.page.click("#browser-help")
    kept("keys")
    tab.page.keyboard.press("Escape")
    ballot(tab)
    kept("ballot")
    tab.page.keyboard.press("1")
    kept("voted")
    tab.page.click("#browser-end")
    kept("count")


def test_every_control_has_a_name(tab: Tab) -> None:
    nameless = """() => [...document.querySelectorAll("#browser :is(select, input)")].filter(
        field => !field.labels.length || !field.labels[0].textContent.trim()).map(field => field.id)"""
    assert tab.page.evaluate(nameless) == []
    buttons = """() => [...document.querySelectorAll("#browser button")].filter(
        button => !(button.ariaLabel || button.textContent.trim() || button.querySelector("img[alt]"))).length"""
    assert tab.page.evaluate(buttons) == 0
    assert tab.page.locator("#browser-list img:not([alt])").count() == 0
    assert (
        tab.page.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size")
        == tab.page.locator("[id]").count()
    )


def test_print_has_pairs_and_no_controls(tab: Tab, shoot: Shoot) -> None:
    tab.look(**VIEW, media="print")
    assert not tab.page.locator("#browser-controls").is_visible()
    assert not tab.page.locator("#browser-pager").is_visible()
    assert tab.page.locator("#browser-list > li:visible").count() == 12
    shoot(tab, "print")


def test_without_a_script_the_first_pairs_are_shown(page: Path, results: Results, visit: Open, shoot: Shoot) -> None:
    tab = visit(page, java_script_enabled=False)
    rows = tab.page.locator(".browser-row")
    assert rows.count() == 12
    assert rows.nth(11).locator(".browser-text").inner_text() == results["pairs"][11]["prompt"]
    assert rows.nth(0).locator("img").count() == 4
    assert not tab.page.locator("#browser-controls").is_visible()
    shoot(tab, "no-script-1280", full_page=True)
