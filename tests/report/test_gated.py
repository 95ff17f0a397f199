"""The verdicts of a gate in report.html: three colours, the worst first, and never those on other results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Bench, Run, forms

from bench import gate, report
from bench.gate import Judgement, Verdict
from bench.records import Results
from bench.report import html

from .samples import HOSTILE, Page, of, small


def verdict(outcome: Any, sentence: str = "a finding", **given: Any) -> Verdict:
    row = {"check": "baseline", "rule": "m: new - frozen >= 0", "method": "npnet", "outcome": outcome}
    return Verdict(**row, sentence=sentence, **given)


def judged(folder: Path, *verdicts: Verdict, notes: list[str] | None = None) -> Results:
    """Results in a folder, with verdicts on them beside them."""
    found = of(small())
    (folder / "results.json").write_text(found.text())
    gate.keep(Judgement(list(verdicts), notes or [], "frozen.json"), found, folder)
    return found


@pytest.fixture
def page() -> Iterator[None]:
    """Runs of this test write report.html, and none of the other forms."""
    with forms("html"):
        yield


def chips(page: str) -> list[tuple[str, str]]:
    """(colour, words) of every outcome that a page marks, in its order."""
    parts = page.split('<span class="chip ')[1:]
    return [(part.partition('"')[0], part.partition(">")[2].partition("<")[0]) for part in parts]


def test_each_outcome_has_its_colour_and_the_worst_stands_first(tmp_path: Path) -> None:
    outcomes: tuple[Any, ...] = ("passed", "inconclusive", "failed", "not comparable")
    page = html.render(judged(tmp_path, *map(verdict, outcomes), notes=["weights have changed"]), tmp_path)
    assert chips(page) == [
        ("red", "failed"),
        ("red", "1 failed"),
        ("grey", "1 not comparable"),
        ("yellow", "1 inconclusive"),
        ("green", "1 passed"),
        ("red", "failed"),
        ("grey", "not comparable"),
        ("yellow", "changed, inconclusive"),
        ("green", "passed"),
    ]
    style = page.partition("</style>")[0]
    assert all(f".chip.{colour} {{ background: #" in style for colour in ("red", "grey", "yellow", "green"))
    read = Page(page)
    assert read.open == []
    assert "by the baseline frozen.json" in read.text
    assert "weights have changed" in read.text


def test_a_change_that_shows_nothing_makes_the_whole_gate_yellow(tmp_path: Path) -> None:
    found = judged(tmp_path, verdict("passed"), verdict("inconclusive"))
    assert chips(html.render(found, tmp_path))[0] == ("yellow", "inconclusive")


def test_a_rule_of_the_suite_speaks_of_no_change(tmp_path: Path) -> None:
    found = judged(tmp_path, verdict("inconclusive").model_copy(update={"check": "rule"}))
    assert chips(html.render(found, tmp_path))[-1] == ("yellow", "inconclusive")


def test_a_run_that_was_not_gated_has_no_such_section(tmp_path: Path) -> None:
    page = html.render(of(small()), tmp_path)
    assert chips(page) == []
    assert "<h2>Gate</h2>" not in page


def test_verdicts_on_other_results_are_not_shown(tmp_path: Path) -> None:
    found = judged(tmp_path, verdict("passed", "an old finding"))
    (tmp_path / "results.json").write_text(found.model_copy(update={"notes": ("scored again",)}).text())
    page = html.render(found, tmp_path)
    assert chips(page) == [("grey", "no verdict")]
    assert "not those that were gated" in page
    assert "an old finding" not in page


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"schema": 99}'])
def test_a_file_that_is_none_of_ours_shows_no_verdict_and_breaks_no_report(tmp_path: Path, content: str) -> None:
    found = judged(tmp_path, verdict("passed"))
    (tmp_path / "gate.json").write_text(content)
    page = html.render(found, tmp_path)
    assert chips(page) == [("grey", "no verdict")]
    assert "not one that this version reads" in page


def test_words_of_others_are_shown_as_text(tmp_path: Path) -> None:
    read = Page(html.render(judged(tmp_path, verdict("failed", HOSTILE), notes=[HOSTILE]), tmp_path))
    assert read.open == []
    assert read.text.count(HOSTILE) == 2


@pytest.mark.usefixtures("page")
def test_run_gate_shows_its_verdicts_in_the_report_and_a_report_made_again_keeps_them(
    bench: Bench, finished: Run, tmp_path: Path
) -> None:
    copy = finished.copy(tmp_path)
    suite = tmp_path / "gated.yaml"
    suite.write_text(TINY + "gates: {calls: {method: inversion, ratio: 1.4}}\n")
    run = Run(suite, copy.runs, copy.cache, copy.folder)
    assert chips((run.folder / "report.html").read_text()) == []
    done = bench(*run.arguments("--gate"))
    assert done.code == 1, done.err
    page = (run.folder / "report.html").read_text()
    assert chips(page)[0] == ("red", "failed")
    assert "by the suite&#39;s own rules" in page
    assert "1.5 times standard" in page
    assert bench("report", run.folder).code == 0
    assert (run.folder / "report.html").read_text() == page
    before = (run.folder / "gate.json").read_bytes()
    assert bench("gate", run.folder).code == 1
    assert (run.folder / "gate.json").read_bytes() == before, "`gate` only reads the run"


@pytest.mark.usefixtures("page")
def test_what_cannot_be_compared_at_all_is_grey(bench: Bench, finished: Run, tmp_path: Path) -> None:
    copy, frozen = finished.copy(tmp_path), tmp_path / "b.json"
    assert bench("baseline", "freeze", copy.folder, "--out", frozen).code == 0
    content = json.loads(frozen.read_text())
    content["suite"]["name"] = "other"
    frozen.write_text(json.dumps(content))
    assert bench(*copy.arguments("--baseline", frozen)).code == 3
    page = (copy.folder / "report.html").read_text()
    assert chips(page)[0] == ("grey", "not comparable")
    assert "the frozen baseline &#39;other&#39;" in page


def test_the_page_of_a_gated_run_asks_for_nothing(tmp_path: Path) -> None:
    report.write(judged(tmp_path, verdict("failed")), tmp_path, formats=["html"])
    assert "http" not in (tmp_path / "report.html").read_text().partition("<h2>Gate</h2>")[2].partition("</section>")[0]
