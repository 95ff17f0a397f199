"""All pairs of a large run beside its report: what the data files hold, and who writes, keeps and removes them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from handmade import Spot
from ledgers import write_ledger

from bench import records, report
from bench.analysis.results import Computed, computed
from bench.job.writing import write_report
from bench.report import paged
from bench.serve.app import make_app
from bench.site import build, found
from bench.store import Ledger

from .paged_run import METHODS, METRICS, PROMPTS, SETS, STEPS, TOTAL, every, key, missing, prompt, value


def content(file: Path) -> Any:
    """What a data file gives to the page."""
    given = re.fullmatch(r"document\.currentScript\.data='([^'\n]*)';\n", file.read_text(encoding="ascii"))
    assert given
    return json.loads(given[1].replace("\\\\", "\\"))["held"]


def names(folder: Path) -> set[str]:
    return {file.name for file in (folder / paged.FOLDER).iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_pages_have_every_pair_of_the_ledgers(large: Path, paged_runs: list[Path]) -> None:
    index, spots = content(large / "report_pairs" / "index.js"), every()
    said = zip(index["settings"], index["sets"], index["indices"], index["seeds"], strict=True)
    assert [f"{setting}/{index['names']['sets'][of]}/{at}/{seed}" for setting, of, at, seed in said] == [
        *map(key, spots)
    ]
    assert [index["names"]["categories"][of] for of in index["categories"]] == [f"of {s.index % 3}" for s in spots]
    made = [Ledger(run).made_cells() for run in paged_runs]
    files = [{(c.method, c.prompts, c.prompt_index, c.seed): file for c, file, _ in cells} for cells in made]
    met = 0
    for number in range(3):
        page = content(large / "report_pairs" / f"p{number}.js")
        for row, text in enumerate(page["prompts"]):
            spot = spots[met]
            assert text == prompt(spot.prompts, spot.index)
            for m, method in enumerate(METHODS):
                run = list(STEPS.values()).index(spot.steps)
                file = files[run].get((method, spot.prompts, spot.index, spot.seed))
                assert page["images"][m][row] == ([run, file] if file else None)
                assert file or missing(Spot(method, spot.prompts, spot.steps, spot.index, spot.seed))
                expected = [value(spot, method, metric) for metric in METRICS]
                assert [page["scores"][m][k][row] for k in range(2)] == expected
            met += 1
    assert met == TOTAL


def test_columns_and_texts_are_those_of_the_pages(large: Path) -> None:
    folder, pages = large / "report_pairs", [content(large / "report_pairs" / f"p{k}.js") for k in range(3)]
    for m in range(len(METHODS)):
        for k in range(len(METRICS)):
            column = content(folder / f"s{m}-{k}.js")["scores"]
            assert column == [one for page in pages for one in page["scores"][m][k]]
            assert any(one is not None for one in column) == (METHODS[m] != "reseed" or k == 0)
    prompts = content(folder / "prompts.js")
    assert [prompts["texts"][of] for of in prompts["of"]] == [text for page in pages for text in page["prompts"]]
    assert len(prompts["texts"]) == 2 * PROMPTS, "a text is there once"
    columns = {f"s{m}-{k}.js" for m in range(3) for k in range(2)}
    assert names(large) == {"about.json", "index.js", "prompts.js", "p0.js", "p1.js", "p2.js"} | columns


def test_no_text_can_act_in_a_data_file(large: Path) -> None:
    """One string in ASCII without a quote in it, whatever a prompt holds; `content` reads it by these rules alone."""
    for file in (large / "report_pairs").glob("*.js"):
        text = file.read_text(encoding="ascii")
        inside = text.removeprefix("document.currentScript.data='").removesuffix("';\n")
        assert not set("<>&'\n\r") & set(inside), file.name
        assert re.fullmatch(r"(?:[^\\]|\\\\)*", inside), "every backslash is one of a pair"
    assert prompt(SETS[0], 4) in content(large / "report_pairs" / "prompts.js")["texts"]


def test_a_run_writes_them_where_its_results_carry_a_part_of_its_pairs(paged_runs: list[Path]) -> None:
    """By the same call as `bench run` and `bench report`; a report of fewer pairs removes what it does not have."""
    ledger, page = Ledger(paged_runs[1]), paged_runs[1] / "report.html"
    said = write_report(ledger, formats=["html"], most=TOTAL // 2 - 1)
    assert (said.pairs_total, len(said.pairs)) == (TOTAL // 2, TOTAL // 2 - 1)
    assert json.loads((paged_runs[1] / "report_pairs" / "about.json").read_text())["total"] == TOTAL // 2
    assert f"all {TOTAL // 2}" in page.read_text(encoding="utf-8")
    (paged_runs[1] / "report_pairs" / "notes.txt").write_text("mine")
    write_report(ledger, formats=["html"], most=TOTAL // 2)
    assert names(paged_runs[1]) == {"notes.txt"}
    assert "nonce" not in page.read_text(encoding="utf-8").partition("<style>")[0]


def test_a_page_that_is_written_again_keeps_the_files_of_its_results(copied: Path, both: Computed) -> None:
    """As `run --gate` does, which adds its verdicts to the page and has the results from their file."""
    before = names(copied)
    (copied / "results.json").write_text(both.results.text())
    again = records.read(copied / "results.json")
    report.write(again, copied, formats=["html"])
    assert names(copied) == before
    assert f"all {TOTAL}" in (copied / "report.html").read_text(encoding="utf-8")
    assert paged.beside(again.model_copy(update={"notes": ("another",)}), copied) is None, "of other results"


def test_a_run_that_has_its_baseline_alone_so_far_writes_none(tmp_path: Path) -> None:
    """No pair can be shown, so there is no browser that would read them."""
    ledger = write_ledger(tmp_path, lambda *_: 1.0, prompts=3, missing=lambda method, _: method != "standard")
    said, all_of_them = computed(ledger, most=1)
    assert (said.pairs, said.pairs_total, all_of_them) == ((), 3, None)


def test_a_folder_that_is_a_link_is_not_followed(copied: Path, both: Computed, tmp_path: Path) -> None:
    elsewhere = (copied / "report_pairs").rename(tmp_path / "elsewhere")
    (copied / "report_pairs").symlink_to(elsewhere)
    before = contents(elsewhere)
    assert paged.beside(both.results, copied) is None
    assert both.every
    paged.write(both.results, both.every, copied)
    assert contents(elsewhere) == before
    assert not (copied / "report_pairs").is_symlink()
    assert contents(copied / "report_pairs") == before


def test_a_full_disk_leaves_the_files_of_the_report_before(
    copied: Path, both: Computed, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, before = Path.write_text, contents(copied / "report_pairs")

    def fails(path: Path, *given: Any, **named: Any) -> int:
        if path.name == "p1.js":
            raise OSError(28, "No space left on device")
        return whole(path, *given, **named)

    monkeypatch.setattr(Path, "write_text", fails)
    assert both.every
    with pytest.raises(OSError, match="No space"):
        paged.write(both.results, both.every, copied)
    assert contents(copied / "report_pairs") == before
    assert not [file for file in copied.iterdir() if file.name.endswith(".tmp")]


def test_neither_a_site_nor_serve_carries_them(
    copied: Path, both: Computed, paged_runs: list[Path], tmp_path: Path
) -> None:
    """Scripts of a stranger would run where a site is published, and any page could read those of `serve`."""
    (copied / "results.json").write_text(both.results.text())
    build(found([copied]), tmp_path / "site", images=False)
    assert not [*(tmp_path / "site").rglob("report_pairs")]
    page = next((tmp_path / "site").rglob("report.html")).read_text(encoding="utf-8")
    assert "nonce" not in page.partition("<style>")[0]
    shutil.copytree(copied / "report_pairs", paged_runs[0] / "report_pairs")
    client, here = make_app(paged_runs[0].parent).test_client(), {"Host": "127.0.0.1"}
    assert client.get("/run/first/", headers=here).status_code == 200
    assert client.get("/run/first/report_pairs/index.js", headers=here).status_code == 404
