"""The static site in a real browser, opened from disk: filters, two runs side by side, and its width on a phone."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from bench.site import build, found

from . import samples
from .tab import Open


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three reports: two of one protocol, one of another number of steps and another scorer."""
    root = tmp_path_factory.mktemp("site")
    plain = samples.small()
    for name, steps, digest in (("one", 25, "d1"), ("two", 25, "d1"), ("other", 50, "d2")):
        document = json.loads(json.dumps(copy.deepcopy(plain)).replace('"steps": 25', f'"steps": {steps}'))
        document["suite"] |= {"name": name, "title": f"The run {name}"}
        for metric in document["metrics"].values():
            metric["digest"] = digest
        (root / name).mkdir()
        (root / name / "results.json").write_text(json.dumps(document))
    return build(found([root]), root / "out").folder


def test_filters_keep_what_is_asked_for(site: Path, visit: Open) -> None:
    tab = visit(site / "index.html")
    shown = "() => [...document.querySelectorAll('.board tbody tr')].filter((row) => row.offsetParent).length"
    everything = tab.page.evaluate(shown)
    tab.page.fill("[data-filter=text]", "the run other")
    few = tab.page.evaluate(shown)
    assert 0 < few < everything
    tab.page.fill("[data-filter=text]", "no such method")
    assert tab.page.evaluate(shown) == 0
    tab.page.fill("[data-filter=text]", "")
    assert tab.page.evaluate(shown) == everything


def test_two_runs_stand_side_by_side_or_the_page_says_why_not(site: Path, visit: Open) -> None:
    tab = visit(site / "compare.html")
    runs = {text: value for value, text in tab.page.eval_on_selector_all(
        "[data-side=a] option", "options => options.map((one) => [one.value, one.textContent])")}  # fmt: skip
    names = {name: next(value for text, value in runs.items() if f"The run {name} " in text) for name in
             ("one", "two", "other")}  # fmt: skip
    tab.page.select_option("[data-side=a]", names["one"])
    tab.page.select_option("[data-side=b]", names["two"])
    assert tab.page.locator("[data-result] tbody tr").count() > 2
    assert "Not comparable" not in tab.page.inner_text("[data-result]")
    tab.page.select_option("[data-side=b]", names["other"])
    said = tab.page.inner_text("[data-result]")
    assert "Not comparable: no protocol of A is one of B." in said
    assert "steps: 25 in A, 50 in B" in said
    tab.page.goto("about:blank")
    tab.page.goto((site / "compare.html").as_uri() + f"#{names['one']}--{names['other']}")
    assert "steps: 25 in A, 50 in B" in tab.page.inner_text("[data-result]"), "an address names both runs"


def test_no_page_is_wider_than_the_screen(site: Path, visit: Open) -> None:
    (run,) = (site / "run").glob("one-*")
    tab = visit(site / "index.html")
    for file in (site / "index.html", site / "compare.html", run / "index.html"):
        tab.page.goto(file.as_uri())
        for width in (400, 1300):
            tab.look(width, 800)
            assert tab.width() <= width, file.name
