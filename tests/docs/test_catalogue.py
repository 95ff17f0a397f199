"""docs/catalogue is what the registry says, and every method has a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import call

from bench import registry
from bench.catalogue.tables import PACKAGES, PAGES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("kind", PAGES)
def test_the_page_is_what_the_command_prints(kind: str) -> None:
    done = call("ls", kind, "--markdown")
    assert done.code == 0, done.err
    written = (DOCS / "catalogue" / f"{kind}.md").read_text(encoding="utf-8")
    assert written == done.out, f"python -m bench ls {kind} --markdown > docs/catalogue/{kind}.md"


def test_every_method_of_the_project_has_a_page_with_its_facts() -> None:
    names = {name for name in registry.names("methods") if registry.source("methods", name) in PACKAGES}
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (DOCS / "methods").glob("*.md")}
    assert set(pages) == names
    for name, text in pages.items():
        assert f"<!-- facts: {name} -->\n| | |" in text, "python docs/figures.py --write"
        shown = f"pictures/{name}.png"
        assert (shown in text) is (DOCS / "methods" / shown).is_file(), "python docs/method_pictures.py"
