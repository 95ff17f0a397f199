"""The one browser of a test session: Playwright's driver keeps an event loop, and a process cannot have two of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip


def binary() -> str | None:
    """The browser to test in: BENCH_BROWSER, else the first of the usual names on PATH."""
    return os.environ.get("BENCH_BROWSER") or next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One headless Chromium for all tests, with a profile of its own."""
    driven = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    path = binary()
    if path is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is on PATH, and BENCH_BROWSER is not set")
    with driven.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
