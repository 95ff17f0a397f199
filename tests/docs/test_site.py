"""The documentation site: built with warnings as errors, from disk alone, and every local link leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["']?(?P<to>[^"'\s>]+)""")
LINK = re.compile(r'<a\b[^>]*?\bhref="(?P<to>[^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="`pip install -e .[docs]` installs mkdocs-material, as tox -e docs does")
    out = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return out


def pages(site: Path) -> list[Path]:
    """Of the site itself: reports have tests of their own."""
    return [page for page in site.rglob("*.html") if "reports" not in page.relative_to(site).parts]


def test_it_has_a_page_for_each_text(site: Path) -> None:
    texts = [path for path in (ROOT / "docs").rglob("*.md") if path.name != "index.md"]
    assert len(texts) > 40
    for text in texts:
        assert (site / text.relative_to(ROOT / "docs").with_suffix(".html")).is_file()
    assert (site / "reports" / "sdxl_main_twin" / "report.html").is_file()
    assert 'href="first_comparison.ipynb"' in (site / "notebooks/first_comparison.html").read_text(encoding="utf-8")


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    found = {m["to"] for page in pages(site) for m in LOADED.finditer(page.read_text(encoding="utf-8"))}
    assert any(to.endswith(".js") for to in found)
    assert not [to for to in found if re.match(r"(?:https?:)?//", to)]
    sheets = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.findall(r"""(?:@import|url\()\s*["']?(?:https?:)?//""", sheets)


def test_search_works_from_disk(site: Path, chromium: Any) -> None:
    """In a real browser, which starts no Worker for such a page."""
    asked: list[str] = []
    with chromium.new_context() as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "methods" / "inversion.html").as_uri())
        page.keyboard.press("/")
        page.keyboard.type("repaint jump")
        page.locator(".md-search-result__item a").first.wait_for(timeout=60_000)
        found = page.locator(".md-search-result__item a").evaluate_all("links => links.map(link => link.href)")
    assert any("methods/repaint_jump.html" in link for link in found)
    assert [url for url in asked if not url.startswith("file:")] == []


def test_every_local_link_leads_to_a_file(site: Path) -> None:
    lost = set()
    for page in pages(site):
        for found in LINK.finditer(page.read_text(encoding="utf-8")):
            to = unquote(found["to"].partition("#")[0])
            if to and not re.match(r"\w+:", to) and page.name != "404.html" and not (page.parent / to).is_file():
                lost.add((page.name, to))
    assert not lost
