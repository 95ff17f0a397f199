"""The report in a browser: its first screen, tables that sort and are taken along, widths, light and dark, keys."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import many_pairs, samples
from .samples import part
from .tab import Open, Results, Shoot, Tab, used, write


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every section, whose names are long."""
    folder = tmp_path_factory.mktemp("full")
    long = "lcm_as_released_npnet"
    found = many_pairs.results(20, methods=["standard", long, "npnet", "best_of_4"])
    found["seeds"] = [part(long, 1.0, seed=seed) for seed in range(3)]
    found["categories"] = [part(long, 1.0, prompts="drawbench", category="Colors")]
    found["notes"] = ["A note."]
    many_pairs.draw_images(folder, found)
    return write(folder, found)


@pytest.fixture(scope="module")
def opened(full: Path, chromium: Any) -> Iterator[Tab]:
    tab = Tab(chromium, full.as_uri())
    yield tab
    tab.context.close()


@pytest.fixture
def tab(opened: Tab) -> Iterator[Tab]:
    """That page, with its folds closed."""
    opened.look(1300, 900)
    opened.page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = false")
    yield from used(opened)


@pytest.mark.parametrize(("width", "light"), [(1300, "light"), (800, "dark"), (400, "light")])
def test_nothing_is_cut_off_at_any_width(tab: Tab, width: int, light: str, shoot: Shoot) -> None:
    tab.look(width, 900, color_scheme=light)
    assert tab.width() == width, "the page itself never scrolls sideways"
    shoot(tab, f"first-{width}-{light}")
    tab.page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    assert tab.width() == width
    tab.page.wait_for_timeout(100)
    hints = tab.page.evaluate(
        """[...document.querySelectorAll(".scroll")].map((box) => [box.scrollWidth - box.clientWidth > 1,
        !box.previousElementSibling.querySelector(".more").hidden])"""
    )
    assert hints
    assert all(cut == said for cut, said in hints), "a table that continues says so"
    shoot(tab, f"whole-{width}-{light}", full_page=True)


def test_names_break_at_underscores_only(tab: Tab) -> None:
    tab.look(400, 900)
    pieces = tab.page.evaluate(
        """[...document.querySelectorAll("#summary tbody tr:not(.group) th > span")].map((name) => {
          const lines = new Map();
          for (const node of name.childNodes) {
            if (node.nodeType !== Node.TEXT_NODE) continue;
            const range = document.createRange();
            range.selectNodeContents(node);
            lines.set(node.textContent, range.getClientRects().length);
          }
          return [...lines];
        })"""
    )
    assert any(len(name) > 2 for name in pieces), "a name of several words"
    assert all(count == 1 for name in pieces for _, count in name), pieces


def test_the_first_screen_has_the_headline_images_the_scatter_and_one_table_in_order(tab: Tab) -> None:
    tops = tab.page.evaluate(
        """[".headline", "#strip img", "#tradeoff svg:not(.broad)", "#summary table", ".fold"].map((part) =>
        document.querySelector(part).getBoundingClientRect().top)"""
    )
    assert tops[0] < tops[1] < tops[3] < tops[4]
    assert tops[1] < 600, "a picture on the first screen"
    assert tops[2] < 600
    assert tab.page.locator("#strip tbody tr").count() == 4
    widths = tab.page.evaluate(
        """[document.querySelector("#tradeoff svg:not(.broad)"), document.querySelector("#tradeoff")].map((part) =>
        part.getBoundingClientRect().width)"""
    )
    assert widths[0] == pytest.approx(widths[1], abs=2), "a figure fills its width"
    tab.page.locator("#strip img").first.click()
    assert tab.page.locator("#browser-pair").is_visible()


def test_contents_open_what_they_lead_to(tab: Tab) -> None:
    assert not tab.page.locator("#provenance").is_visible()
    for name in ("Provenance", "Seeds"):
        tab.page.locator(".contents").get_by_role("link", name=name).click()
        tab.until(f"document.getElementById('{name.lower()}').closest('details').open")
    ids = tab.page.evaluate("[...document.querySelectorAll('.contents a')].map((link) => link.hash.slice(1))")
    assert len(ids) > 9
    assert tab.page.evaluate(f"{ids}.every((id) => document.getElementById(id))")


def column(tab: Tab, table: str, number: int) -> list[str]:
    found: list[str] = tab.page.evaluate(
        f"""[...document.querySelectorAll("{table} tbody tr:not(.group)")].map((row) =>
        row.cells[{number}].firstElementChild.textContent)"""
    )
    return found


def test_tables_sort_within_their_groups(tab: Tab) -> None:
    before = column(tab, "#summary", 1)
    head = tab.page.locator("#summary thead th").nth(1)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    sorted_ = column(tab, "#summary", 1)
    half = len(before) // 2
    assert sorted_[:half] == sorted(before[:half], key=lambda text: -float(text.split()[0]))
    assert sorted_[half:] == sorted(before[half:], key=lambda text: -float(text.split()[0]))
    head.get_by_role("button").click()
    assert column(tab, "#summary", 1)[:half] == sorted(before[:half], key=lambda text: float(text.split()[0]))
    head.get_by_role("button").click()
    assert column(tab, "#summary", 1) == before
    assert head.get_attribute("aria-sort") is None


def downloaded(tab: Tab, table: str) -> list[list[str]]:
    with tab.page.expect_download() as download:
        tab.page.locator(f"{table} .tools").first.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename.endswith(".csv")
    return list(csv.reader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig"), newline="")))


def test_a_table_is_downloaded_as_csv_with_every_number_in_a_cell_of_its_own(visit: Open, tmp_path: Path) -> None:
    small = samples.small()
    for row in [*small["arms"], *small["comparisons"]]:
        row["method"] = "=HYPERLINK(1)" if row["method"] == "inversion" else row["method"]
    tab = visit(write(tmp_path, small))
    head, *rows = downloaded(tab, "#summary")
    name = "Preference (logit)"
    assert head[:8] == [
        "model",
        "prompts",
        "method",
        name,
        f"{name}: delta",
        f"{name}: low",
        f"{name}: high",
        f"{name}: p",
    ]
    assert rows[0][:8] == ["shapes-sdxl", "all sets", "standard", "1.284", "", "1.220", "1.348", ""]
    assert rows[1][2] == "'=HYPERLINK(1)", "no formula"
    assert rows[2][3:8] == ["1.384", "+0.100", "+0.084", "+0.116", "<0.001"]


def test_a_table_is_copied_with_tabs(visit: Open, tmp_path: Path) -> None:
    tab = visit(write(tmp_path, samples.small()), permissions=["clipboard-read", "clipboard-write"])
    tab.page.locator("#summary .tools").get_by_role("button", name="Copy").click()
    tab.until("document.querySelector('#summary .tools [role=status]').textContent === 'Copied.'")
    lines = tab.page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[1].split("\t")[:4] == ["shapes-sdxl", "all sets", "standard", "1.284"]
    assert len(lines) == 4


def test_a_number_says_what_it_means(visit: Open, tmp_path: Path) -> None:
    tab = visit(write(tmp_path, samples.small()))
    cell = tab.page.locator("#summary tbody tr").nth(3).locator("td").first
    assert cell.get_attribute("title") == (
        "On the same prompts and seeds npnet has 0.100 more Preference than standard, and the true difference is "
        "between +0.084 and +0.116 with 95 % confidence; p < 0.001 is how often chance alone would show so much, "
        "adjusted for all tests."
    )
    head = tab.page.locator("#summary thead th").nth(1)
    assert head.get_attribute("title") == "Preference: the mean over a row's images, in logit; more is better."
    tab.page.locator("#summary .meaning summary").click()
    assert "the mean over a row's images" in tab.page.locator("#summary .meaning dl").inner_text(), (
        "without a mouse too"
    )


def test_by_keys_alone(full: Path, visit: Open) -> None:
    """Tab reaches the contents, the strip, the table's tools, its heads and the folds; Enter works on each."""
    tab = visit(full)  # what was last clicked is where Tab starts
    wanted = {"contents true", "image true", "tools true", "head true", "fold true"}
    seen = set()
    for _ in range(80):
        if wanted <= seen:
            break
        tab.page.keyboard.press("Tab")
        seen.add(tab.page.evaluate(
            """(() => { const on = document.activeElement; const style = getComputedStyle(on);
            return [on.closest(".contents") ? "contents" : on.closest(".strip") ? "image" : on.closest(".tools") ?
            "tools" : on.closest("thead") ? "head" : on.matches(".fold > summary") ? "fold" : on.tagName,
            style.outlineStyle !== "none"].join(" "); })()"""
        ))  # fmt: skip
    assert wanted <= seen
    fold = tab.page.locator(".fold > summary").first
    fold.focus()
    tab.page.keyboard.press("Enter")
    assert fold.evaluate("summary => summary.parentElement.open")
    head = tab.page.locator("#summary thead button").nth(1)
    head.focus()
    tab.page.keyboard.press("Enter")
    assert tab.page.locator("#summary thead th").nth(1).get_attribute("aria-sort") == "descending"


def axe() -> Path | None:
    """axe-core's script, where BENCH_AXE names it: `npm pack axe-core` has it as package/axe.min.js."""
    given = os.environ.get("BENCH_AXE")
    return Path(given) if given else None


@pytest.mark.parametrize("light", ["light", "dark"])
@pytest.mark.parametrize("opened", ["page", "pair", "difference"])
def test_axe_finds_no_violation(full: Path, visit: Open, light: str, opened: str) -> None:
    script = axe()
    if script is None:
        pytest.skip("needs axe-core: set BENCH_AXE to its axe.min.js (npm pack axe-core)")
    tab = visit(full, viewport={"width": 1300, "height": 900}, color_scheme=light)
    tab.page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    if opened != "page":
        tab.page.locator("#browser-list .browser-shot").first.click()
    if opened == "difference":
        tab.page.locator("#browser-pair .browser-shot").nth(1).click()
        tab.page.keyboard.press("d")
    tab.page.evaluate(script.read_text(encoding="utf-8"))
    found: Results = tab.page.evaluate("axe.run()")
    assert [(rule["id"], [node["html"][:200] for node in rule["nodes"][:3]]) for rule in found["violations"]] == []
