"""Blind A/B votes in the image browser: nothing tells methods apart before the vote, and votes are kept."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Run
from PIL import Image

from . import many_pairs
from .tab import Open, Results, Tab, ballot, exported, write


def left_colour(tab: Tab) -> Any:
    """What the screen shows on the left."""
    box = tab.page.locator("#browser-sides canvas").first.bounding_box()
    clip = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 20, "width": 2, "height": 2}
    return Image.open(io.BytesIO(tab.page.screenshot(clip=clip))).convert("RGB").getpixel((0, 0))


def comparison(tab: Tab) -> str:
    """All markup that a person or a reader of the visible comparison could learn from, fields' values included."""
    return tab.page.evaluate("document.getElementById('browser-ballot').outerHTML + document.title")


def test_blind_mode_hides_names_until_the_vote(few: Path, results: Results, visit: Open) -> None:
    tab = visit(few)
    ballot(tab)
    hidden = comparison(tab)
    images = [name for pair in results["pairs"] for name in pair["images"].values()]
    assert not [name for name in many_pairs.METHODS if name in hidden]
    assert not [name for name in images if name in hidden], "an image's file name may tell, too"
    visible = tab.page.locator("#browser-blind").inner_text()
    assert not [name for name in many_pairs.METHODS if name in visible]
    assert tab.page.locator("#browser-sides dl").count() == 0, "no scores either"
    tab.page.keyboard.press("2")
    names = tab.page.locator("#browser-sides figcaption bdi").all_inner_texts()
    assert "standard" in names
    assert set(names) <= set(many_pairs.METHODS)
    assert tab.page.inner_text("#browser-outcome") == f"You chose {names[1]}."
    assert tab.page.locator("#browser-sides dl").count() == 2
    tab.page.keyboard.press("1")
    assert tab.page.inner_text("#browser-outcome") == f"You chose {names[1]}.", "a vote that saw the names is none"
    tab.page.keyboard.press("ArrowRight")
    assert tab.page.locator("#browser-sides figcaption bdi").count() == 0


def test_blind_mode_shows_the_right_images_on_random_sides(results: Results, tmp_path: Path, visit: Open) -> None:
    """Every method's images have a colour of their own; what is drawn on the left is what the vote calls left."""
    colours = {"standard": (255, 0, 0), "npnet": (0, 0, 255)}
    few = many_pairs.results(20, methods=list(colours))
    for pair in few["pairs"]:
        pair["images"] = {method: f"images/{method}.png" for method in colours}
    (tmp_path / "images").mkdir()
    for method, colour in colours.items():
        Image.new("RGB", (64, 64), colour).save(tmp_path / "images" / f"{method}.png")
    tab = visit(write(tmp_path, few), viewport={"width": 800, "height": 500})
    ballot(tab)
    lefts = []
    for turn in range(20):
        tab.until("document.querySelectorAll('#browser-sides canvas[data-drawn]').length === 2")
        seen = left_colour(tab) if turn < 8 else None
        tab.page.keyboard.press("3")
        name = tab.page.locator("#browser-sides figcaption bdi").first.inner_text()
        assert seen in (colours[name], None)
        lefts.append(name)
        tab.page.keyboard.press("ArrowRight")
    assert set(lefts) == set(colours), "20 fair draws are all the same once in half a million times"
    assert tab.page.locator("#browser-start").is_visible(), "after the last pair the count is shown"
    assert tab.page.locator("#browser-tally tbody td").all_inner_texts() == ["0", "20", "0"]


def test_votes_file_is_as_specified(few: Path, results: Results, visit: Open, tmp_path: Path) -> None:
    tab = visit(few)
    tab.choose("set", "shapes-drawbench")
    tab.page.click("#browser-vote")
    tab.page.fill("#browser-voter", "Ada Ünal")
    tab.page.keyboard.press("Escape")
    ballot(tab, rival="npnet", reveal=False)
    for choice in "1233":
        tab.page.keyboard.press(choice)
    tab.page.get_by_role("button", name="Left").click()
    tab.page.click("#browser-end")
    found = exported(tab, tmp_path / "votes.json")
    assert {name: found[name] for name in found if name not in ("exported", "votes")} == {
        "schema": 1, "kind": "noisebench votes", "suite_id": "ab12cd34", "run": "many-ab12", "voter": "Ada Ünal",
    }  # fmt: skip
    assert [vote["choice"] for vote in found["votes"]] == ["left", "right", "tie", "tie", "left"]
    by_place = {(p["setting"], p["prompts"], p["index"], p["seed"]): p for p in results["pairs"]}
    for vote in found["votes"]:
        place = (many_pairs.SETTINGS.index(vote["setting"]), vote["prompts"], vote["index"], vote["seed"])
        assert vote["prompt"] == by_place[place]["prompt"]
        assert {vote["left"], vote["right"]} == {"standard", "npnet"}
        assert vote["prompts"] == "shapes-drawbench"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", vote["at"])
        assert set(vote) == {"setting", "prompts", "index", "seed", "prompt", "left", "right", "choice", "at", "images"}
        assert vote["images"] == {name: by_place[place]["images"][name] for name in ("standard", "npnet")}
    assert len({(v["prompts"], v["index"], v["seed"]) for v in found["votes"]}) == 5, "no pair is asked twice"


def test_votes_are_kept_and_not_asked_again(few: Path, visit: Open, tmp_path: Path) -> None:
    tab = visit(few)
    tab.choose("set", "shapes-drawbench")
    tab.page.fill("#browser-search", "circle")
    left = int(tab.count().split()[0])
    assert left > 3
    ballot(tab, rival="inversion", reveal=False)
    tab.page.keyboard.press("1")
    tab.page.keyboard.press("3")
    tab.page.reload()
    tab.choose("set", "shapes-drawbench")
    tab.page.fill("#browser-search", "circle")
    tab.page.click("#browser-vote")
    assert "2 votes kept in this browser." in tab.page.inner_text("#browser-kept")
    tab.page.keyboard.press("Escape")
    ballot(tab, rival="inversion", reveal=False)
    assert tab.page.inner_text("#browser-progress") == f"1 of {left - 2}"
    assert len(exported(tab, tmp_path / "votes.json")["votes"]) == 2
    tab.page.on("dialog", lambda dialog: dialog.accept())
    tab.page.click("#browser-discard")
    assert "0 votes" in tab.page.inner_text("#browser-kept")


def test_votes_work_where_the_browser_keeps_nothing(few: Path, visit: Open, tmp_path: Path) -> None:
    refuse = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"
    tab = visit(few, before=refuse)
    ballot(tab, reveal=False)
    tab.page.keyboard.press("2")
    assert "in this page only" in tab.page.inner_text("#browser-kept")
    assert [vote["choice"] for vote in exported(tab, tmp_path / "votes.json")["votes"]] == ["right"]


def test_damaged_votes_in_the_browser_are_no_votes(few: Path, visit: Open) -> None:
    tab = visit(few)
    for stored in ("not json", '{"a": 1}', '[null, 3, {"setting": 1}]'):
        tab.page.evaluate("stored => localStorage.setItem('noisebench-votes:ab12cd34:many-ab12', stored)", stored)
        tab.page.reload()
        tab.page.click("#browser-vote")
        assert "0 votes" in tab.page.inner_text("#browser-kept")
    tab.page.keyboard.press("Escape")
    ballot(tab)


def test_votes_on_a_real_run_become_scores(
    finished: Run, visit: Open, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the page to the ledger: the mean of `human` is wins less losses as a share of the votes."""
    monkeypatch.setenv("BENCH_REPORT", "html")
    run = finished.copy(tmp_path)
    tab = visit(run.folder / "report.html")
    ballot(tab, rival="inversion", reveal=False)
    for _ in range(4):
        tab.page.keyboard.press("1")
    assert tab.page.locator("#browser-start").is_visible(), "four prompts, four votes"
    votes = exported(tab, tmp_path / "votes.json")["votes"]
    done = bench("score", run.folder, "--metric", "human", "--votes", tmp_path / "votes.json")
    assert done.code == 0, done.err
    arms = {arm["method"]: arm["metrics"]["human"] for arm in run.results()["arms"] if arm["prompts"] == "*"}
    won = sum(vote["left"] == "inversion" for vote in votes)
    assert arms["inversion"]["mean"] == (won - (4 - won)) / 4
    assert arms["inversion"]["n"] == 4
    again = visit(run.folder / "report.html")
    assert "Human votes" in again.page.inner_text("#browser-metric")
