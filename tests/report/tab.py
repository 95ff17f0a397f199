"""A report opened in a browser, and what tests of it share."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.report import html

from .samples import of

Results = dict[str, Any]


class Tab:
    """A page that remembers what it asked for and what went wrong in it."""

    def __init__(self, chromium: Any, address: str, **given: Any) -> None:
        self.context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | given))
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(address)

    def keys(self) -> list[str]:
        """The pairs that the list shows, in order."""
        return self.page.locator("#browser-list > li").evaluate_all("rows => rows.map(row => row.dataset.key)")

    def choose(self, control: str, label: str) -> None:
        self.page.select_option(f"#browser-{control}", label=label)

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
