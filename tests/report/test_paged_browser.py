"""All pairs of a large run in the browser of its report, loaded from disk as a person gets to them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from handmade import Spot

from bench.analysis.results import Computed

from .paged_run import IN_PAGE, METRICS, SETS, TOTAL, delta, every, key, prompt
from .tab import Open, Tab


def shown(tab: Tab, first: Spot) -> None:
    """Waits for a pair at the head of the list."""
    tab.until(f"document.querySelector('#browser-list > li')?.dataset.key === {json.dumps(key(first))}")


def test_all_pairs_are_listed_sorted_filtered_and_searched(large: Path, visit: Open) -> None:
    tab, spots = visit(large / "report.html"), every()
    assert tab.count() == f"{IN_PAGE} of {IN_PAGE} pairs (evenly spaced among {TOTAL} of the run)"
    loaded = lambda: sorted(Path(url).name for url in tab.requests if url.endswith(".js"))  # noqa: E731
    assert loaded() == [], "nothing is loaded before it is asked for"

    tab.choose("among", f"all {TOTAL}")
    tab.until("document.querySelectorAll('#browser-list > li').length === 50")
    assert tab.keys() == [*map(key, spots[:50])]
    assert tab.count() == f"{TOTAL} of {TOTAL} pairs; how far pictures changed is known only of those in this page"
    assert tab.page.is_disabled("#browser-moved")
    assert loaded() == ["index.js", "p0.js"]
    row = tab.page.locator("#browser-list > li").nth(8)
    assert row.locator(".browser-text").evaluate("text => text.textContent") == prompt(SETS[0], 4), (
        "hostile text is text"
    )
    assert tab.page.evaluate("window.stolen === undefined && document.scripts.length === 3")

    tab.page.fill("#browser-to", "121")
    tab.page.press("#browser-to", "Enter")
    shown(tab, spots[100])
    assert tab.page.evaluate("document.activeElement.dataset.key") == key(spots[120])
    assert tab.page.inner_text("#browser-page") == f"101 to {TOTAL} of {TOTAL}"
    assert loaded() == ["index.js", "p0.js", "p2.js"]
    tab.until("[...document.querySelectorAll('.browser-row:focus img')].every(image => image.naturalWidth === 64)")

    tab.choose("method", "inversion")
    tab.choose("metric", next(t for t in tab.page.locator("#browser-metric option").all_inner_texts() if "CLIP" in t))
    tab.choose("sort", "delta: method's losses first")
    known = sorted((d, at) for at, spot in enumerate(spots) if (d := delta(spot, "inversion", METRICS[1])) is not None)
    shown(tab, spots[known[0][1]])
    assert tab.keys() == [key(spots[at]) for _, at in known[:50]]
    assert {"s0-1.js", "s1-1.js"} <= set(loaded())
    assert not {"s0-0.js", "s2-1.js", "prompts.js"} & set(loaded())

    tab.choose("won", "the method")
    tab.choose("sort", "prompt order")
    tab.choose("set", SETS[1])
    tab.page.fill("#browser-search", "take 7")
    kept = [s for s in spots if s.prompts == SETS[1] and s.index == 7 and (delta(s, "inversion", METRICS[1]) or 0) > 0]
    tab.until(f"document.querySelectorAll('#browser-list > li').length === {len(kept)}")
    assert kept
    assert tab.keys() == [*map(key, kept)]
    assert tab.count().startswith(f"{len(kept)} of {TOTAL} pairs")

    tab.page.click("#browser-reset")
    tab.until(f"document.querySelector('#browser-count').textContent.startsWith('{IN_PAGE} of {IN_PAGE}')")
    assert not tab.page.is_disabled("#browser-moved")


def test_an_address_opens_a_pair_that_the_page_does_not_hold(large: Path, both: Computed, visit: Open) -> None:
    spots, there = every(), {f"{p.setting}/{p.prompts}/{p.index}/{p.seed}" for p in both.results.pairs}
    assert len(there) == IN_PAGE
    at = next(i for i, spot in enumerate(spots) if i > 60 and key(spot) not in there)
    tab = visit(large / "report.html", f"#pair={key(spots[at])}")
    tab.until("document.getElementById('browser-pair').open")
    assert tab.page.inner_text("#browser-prompt") == prompt(spots[at].prompts, spots[at].index)
    assert tab.page.inner_text("#browser-position") == f"{at + 1} of {TOTAL}"
    assert tab.page.locator("#browser-cards figure").count() == 3
    tab.page.keyboard.press("ArrowRight")
    assert tab.page.inner_text("#browser-position") == f"{at + 2} of {TOTAL}"
    tab.page.keyboard.press("Escape")
    tab.page.evaluate("location.hash = '#pair=9/none/9/9'")
    tab.until("document.getElementById('browser-count').textContent.includes('does not hold')")


def test_a_page_without_its_folder_says_so_and_has_its_own_pairs(copied: Path, visit: Open) -> None:
    shutil.rmtree(copied / "report_pairs")
    tab = visit(copied / "report.html")
    tab.choose("among", f"all {TOTAL}")
    tab.until("!document.getElementById('browser-fault').hidden")
    assert tab.page.inner_text("#browser-fault") == (
        "report_pairs/index.js is not beside this page: keep the folder report_pairs with report.html to see all "
        f"{TOTAL} pairs."
    )
    assert len(tab.keys()) == IN_PAGE
    assert tab.count().startswith(f"{IN_PAGE} of {IN_PAGE} pairs (evenly spaced")
    assert tab.page.input_value("#browser-among") == ""
    tab.faults.clear()  # Chromium names the missing files


def test_files_that_are_missing_or_of_another_report_are_said_to_be(copied: Path, visit: Open) -> None:
    folder = copied / "report_pairs"
    (folder / "p1.js").unlink()
    other = (folder / "s1-0.js").read_text(encoding="ascii")
    (folder / "s1-0.js").write_text(re.sub(r'"of":"\w+"', '"of":"00"', other), encoding="ascii")
    tab = visit(copied / "report.html")
    tab.choose("among", f"all {TOTAL}")
    tab.until("document.querySelectorAll('#browser-list > li').length === 50")
    tab.page.click("#browser-forward")
    tab.until("!document.getElementById('browser-fault').hidden")
    assert tab.page.inner_text("#browser-fault").startswith("report_pairs/p1.js is not beside this page")
    assert tab.page.locator("#browser-list > li").all_inner_texts() == ["data file not found: p1.js"] * 50
    tab.page.click("#browser-forward")
    shown(tab, every()[100])
    tab.choose("method", "inversion")
    tab.choose("sort", "size of delta")
    tab.until("document.getElementById('browser-fault').textContent.includes('belongs to another report')")
    assert tab.count().startswith(f"{IN_PAGE} of {IN_PAGE} pairs"), "an order is shown of pairs whose scores are there"
    tab.faults.clear()
    (folder / "p2.js").write_text("window.ran = 1;\n")
    tab.page.evaluate(
        """() => { const script = document.createElement("script"); script.src = "report_pairs/p2.js";
        document.head.append(script); }"""
    )
    tab.page.wait_for_timeout(200)
    assert tab.page.evaluate("typeof window.ran") == "undefined", "the page's own script loads files, and no other"
    assert [fault for fault in tab.faults if "Content Security Policy" in fault] == tab.faults != []
    tab.faults.clear()
