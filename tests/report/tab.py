"""A report opened in a browser, and what tests of it share."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.report import html

from .samples import of

Results = dict[str, Any]


VIEW = {"width": 1280, "height": 900}
FRESH = """() => {
  for (const open of document.querySelectorAll("dialog[open]")) open.close();
  const form = document.getElementById("browser-controls"), focus = document.activeElement;
  const chosen = (field) => field.matches("select") ? field.selectedIndex > 0 : field.matches("input") && field.value;
  const turned = !document.getElementById("browser-back").disabled || focus.closest(".browser-list > li");
  const changed = Boolean(turned || location.hash || [...form.elements].some(chosen));
  focus.blur();
  history.replaceState(null, "", location.pathname);
  if (changed) form.reset();
  scrollTo(0, 0);
  return changed;
}"""
SET = """(labels) => {
  for (const [name, label] of Object.entries(labels)) {
    const field = document.getElementById(`browser-${name}`);
    field.value = [...field.options].find((option) => option.label === label).value;
  }
  document.getElementById("browser-controls").dispatchEvent(new Event("input", { bubbles: true }));
}"""


class Tab:
    """A page that remembers what it asked for and what went wrong in it."""

    def __init__(self, chromium: Any, address: str, *, before: str = "", **given: Any) -> None:
        """`before` is a script that runs before those of the page; `given` is what Playwright takes for a context."""
        self.context = chromium.new_context(**({"viewport": VIEW} | given))
        self.looked = False
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        if before:
            self.page.add_init_script(before)
        self.page.goto(address)
        self.all = self.page.text_content("#browser-count") if self.page.query_selector("#browser-count") else ""

    def fresh(self) -> None:
        """The report's page as it was opened: nothing lies over it, nothing is chosen, and nothing has the focus."""
        if self.looked:
            self.look(**VIEW, media="null", color_scheme="null")
            self.looked = False
        if self.page.evaluate(FRESH):
            self.until("document.getElementById('browser-back').disabled")
            self.until(f"document.getElementById('browser-count').textContent === {json.dumps(self.all)}")

    def look(self, width: int, height: int, **media: Any) -> None:
        """Another size of the window, and what Playwright's `emulate_media` takes; until `fresh`."""
        self.looked = True
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(**media)

    def checked(self) -> None:
        """Nothing was logged or thrown since the last check, and nothing but files was ever asked for."""
        faults, self.faults[:] = self.faults[:], []
        assert faults == []
        assert self.requests
        assert [url for url in self.requests if not url.startswith(("file:", "data:"))] == []

    def keys(self) -> list[str]:
        """The pairs that the list shows, in order."""
        return self.page.locator("#browser-list > li").evaluate_all("rows => rows.map(row => row.dataset.key)")

    def choose(self, control: str, label: str) -> None:
        self.page.select_option(f"#browser-{control}", label=label)

    def set(self, **labels: str) -> None:
        """Chooses in several controls together, so that the list is made once."""
        self.page.evaluate(SET, labels)

    def until(self, expression: str) -> None:
        """Waits until JavaScript is true; Playwright's own waiting evaluates strings in the page, which it forbids."""
        end = time.monotonic() + 60
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, expression
            self.page.wait_for_timeout(20)

    def count(self) -> str:
        return self.page.inner_text("#browser-count")

    def width(self) -> int:
        return self.page.evaluate("document.documentElement.scrollWidth")


Open = Callable[..., Tab]
Shoot = Callable[..., None]


def used(tab: Tab) -> Iterator[Tab]:
    """A tab that several tests use, for one of them."""
    tab.fresh()
    yield tab
    tab.checked()


def write(folder: Path, results: Results) -> Path:
    """The report of these results in `folder`."""
    page = folder / "report.html"
    page.write_bytes(html.render(of(results), folder).encode("utf-8", "replace"))
    return page


def key(pair: Results) -> str:
    return f"{pair['setting']}/{pair['prompts']}/{pair['index']}/{pair['seed']}"


def delta(pair: Results, method: str, metric: str) -> float | None:
    mine, base = (pair["scores"][name].get(metric) for name in (method, "standard"))
    return None if mine is None or base is None else mine - base


def ballot(tab: Tab, *, rival: str = "any method", reveal: bool = True) -> None:
    """Starts a blind session."""
    tab.page.click("#browser-vote")
    tab.page.select_option("#browser-rival", label=rival)
    tab.page.set_checked("#browser-reveal", reveal)
    tab.page.click("#browser-begin")
    tab.until("document.querySelectorAll('#browser-sides canvas[data-drawn]').length === 2")


def exported(tab: Tab, to: Path) -> Results:
    """The votes file, downloaded."""
    with tab.page.expect_download() as download:
        tab.page.click("#browser-download")
    assert re.fullmatch(r"votes-[\w.-]+\.json", download.value.suggested_filename)
    download.value.save_as(to)
    found: Results = json.loads(to.read_text(encoding="utf-8"))
    return found
