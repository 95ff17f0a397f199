"""All pairs of a large run beside its report: what the data files hold, and the browser that loads them from disk."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from handmade import Spot, image, make
from ledgers import write_ledger
from suite_texts import TWO_ARMS, suite_text

from bench import records, registry, report
from bench.analysis import results
from bench.job.writing import write_report
from bench.report import paged
from bench.serve.app import make_app
from bench.site import build, found
from bench.store import Ledger

from . import many_pairs
from .tab import Open, Tab

SETS = ["shapes-drawbench", "shapes-pickapic"]
METRICS = ["shapes-preference", "shapes-clipscore"]
METHODS = ["standard", "inversion", "reseed"]
STEPS = {"first": 8, "second run": 16}
PROMPTS, SEEDS = 16, (0, 1)
TOTAL, IN_PAGE = 128, 20
HOSTILE = "</script><script>window.stolen = 1</script> ' \\' \" \\ ` ${1} <!-- \u2028\u2029 \u202e é"


def score(spot: Spot) -> dict[str, float]:
    """Every value differs from every other; CLIPScore has none of some prompts, and none of `reseed`."""
    place = 1000 * SETS.index(spot.prompts) + 10 * spot.index + spot.seed + 5000 * spot.steps
    values = {METRICS[0]: math.sin(place) + 0.3 * METHODS.index(spot.method) * math.cos(7 * place)}
    if spot.index % 5 != 3 and spot.method != "reseed":
        values[METRICS[1]] = math.cos(place + METHODS.index(spot.method))
    return values


def prompt(prompts: str, index: int) -> str:
    return f"{HOSTILE if index == 4 else 'a circle'} take {index} of {prompts}"


def missing(spot: Spot) -> bool:
    return spot.method == "inversion" and (spot.steps, spot.prompts, spot.index, spot.seed) == (8, SETS[1], 6, 1)


def every() -> list[Spot]:
    """All pairs in the order of the files, as the baseline's."""
    return [Spot("standard", prompts, steps, index, seed)
            for steps in STEPS.values() for prompts in SETS for index in range(PROMPTS) for seed in SEEDS]  # fmt: skip


def key(spot: Spot) -> str:
    return f"{list(STEPS.values()).index(spot.steps)}/{spot.prompts}/{spot.index}/{spot.seed}"


def value(spot: Spot, method: str, metric: str) -> float | None:
    other = Spot(method, spot.prompts, spot.steps, spot.index, spot.seed)
    found = None if missing(other) else score(other).get(metric)
    return None if found is None else float(f"{found:.9g}")


def delta(spot: Spot, method: str, metric: str) -> float | None:
    mine, base = value(spot, method, metric), value(spot, "standard", metric)
    return None if mine is None or base is None else mine - base


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs with their images, whose report has 128 pairs."""
    home = tmp_path_factory.mktemp("paged")
    picture = home / "picture.png"
    many_pairs.picture(3).save(picture)
    folders, scorers = [], {metric: registry.get("metrics", metric).digest() for metric in METRICS}
    for name, steps in STEPS.items():
        suite = suite_text(TWO_ARMS, methods=METHODS, prompts=SETS, metrics=METRICS, steps=steps, seeds=list(SEEDS))
        folders.append(make(
            home / name, score, suite=suite, n=PROMPTS, texts=prompt, category=lambda index: f"of {index % 3}",
            images=lambda spot: None if missing(spot) else image(digest=repr(spot)), scorers=scorers, files=False,
        ))  # fmt: skip
        (home / name / "images").mkdir()
        for file in Ledger(home / name).files():
            (home / name / file).hardlink_to(picture)
    return folders


@pytest.fixture(scope="module")
def both(runs: list[Path]) -> results.Computed:
    """Their results, which carry 20 of the pairs, for a report that lies beside the runs."""
    return results.computed(*map(Ledger, runs), folder=runs[0].parent / "both", most=IN_PAGE)


@pytest.fixture(scope="module")
def large(runs: list[Path], both: results.Computed) -> Path:
    """The folder of their report."""
    folder = runs[0].parent / "both"
    report.write(both.results, folder, formats=["html"], every=both.every)
    return folder


@pytest.fixture
def copied(large: Path, tmp_path: Path) -> Path:
    """A report of one's own to change; its images are gone."""
    return Path(shutil.copytree(large, tmp_path / "both"))


def content(file: Path) -> Any:
    """What a data file gives to the page."""
    given = re.fullmatch(r"document\.currentScript\.data='([^'\n]*)';\n", file.read_text(encoding="ascii"))
    assert given
    return json.loads(given[1].replace("\\\\", "\\"))["held"]


def names(folder: Path) -> set[str]:
    return {file.name for file in (folder / paged.FOLDER).iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# Files ---------------------------------------------------------------------------------------------------------------


def test_pages_have_every_pair_of_the_ledgers(large: Path, runs: list[Path]) -> None:
    index, spots = content(large / "report_pairs" / "index.js"), every()
    said = zip(index["settings"], index["sets"], index["indices"], index["seeds"], strict=True)
    assert [f"{setting}/{index['names']['sets'][of]}/{at}/{seed}" for setting, of, at, seed in said] == [
        *map(key, spots)
    ]
    assert [index["names"]["categories"][of] for of in index["categories"]] == [f"of {s.index % 3}" for s in spots]
    files = [
        {(c.method, c.prompts, c.prompt_index, c.seed): file for c, file, _ in Ledger(run).made_cells()} for run in runs
    ]
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


def test_a_run_writes_them_where_its_results_carry_a_part_of_its_pairs(runs: list[Path]) -> None:
    """By the same call as `bench run` and `bench report`; a report of fewer pairs removes what it does not have."""
    ledger, page = Ledger(runs[1]), runs[1] / "report.html"
    said = write_report(ledger, formats=["html"], most=TOTAL // 2 - 1)
    assert (said.pairs_total, len(said.pairs)) == (TOTAL // 2, TOTAL // 2 - 1)
    assert json.loads((runs[1] / "report_pairs" / "about.json").read_text())["total"] == TOTAL // 2
    assert f"all {TOTAL // 2}" in page.read_text(encoding="utf-8")
    (runs[1] / "report_pairs" / "notes.txt").write_text("mine")
    write_report(ledger, formats=["html"], most=TOTAL // 2)
    assert names(runs[1]) == {"notes.txt"}
    assert "nonce" not in page.read_text(encoding="utf-8").partition("<style>")[0]


def test_a_page_that_is_written_again_keeps_the_files_of_its_results(copied: Path, both: results.Computed) -> None:
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
    said, all_of_them = results.computed(ledger, most=1)
    assert (said.pairs, said.pairs_total, all_of_them) == ((), 3, None)


def test_a_folder_that_is_a_link_is_not_followed(copied: Path, both: results.Computed, tmp_path: Path) -> None:
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
    copied: Path, both: results.Computed, monkeypatch: pytest.MonkeyPatch
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
    copied: Path, both: results.Computed, runs: list[Path], tmp_path: Path
) -> None:
    """Scripts of a stranger would run where a site is published, and any page could read those of `serve`."""
    (copied / "results.json").write_text(both.results.text())
    build(found([copied]), tmp_path / "site", images=False)
    assert not [*(tmp_path / "site").rglob("report_pairs")]
    page = next((tmp_path / "site").rglob("report.html")).read_text(encoding="utf-8")
    assert "nonce" not in page.partition("<style>")[0]
    shutil.copytree(copied / "report_pairs", runs[0] / "report_pairs")
    client, here = make_app(runs[0].parent).test_client(), {"Host": "127.0.0.1"}
    assert client.get("/run/first/", headers=here).status_code == 200
    assert client.get("/run/first/report_pairs/index.js", headers=here).status_code == 404


# The browser ---------------------------------------------------------------------------------------------------------


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


def test_an_address_opens_a_pair_that_the_page_does_not_hold(large: Path, both: results.Computed, visit: Open) -> None:
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
