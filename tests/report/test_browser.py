"""The image browser of report.html as a person uses it: in real headless Chromium, from disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run

from . import many_pairs
from .tab import Open, Results, Tab, ballot, delta, key, write

# The list ------------------------------------------------------------------------------------------------------------


def test_tables_and_first_pairs_are_there(tab: Tab, results: Results) -> None:
    assert tab.page.locator("table").count() >= 2
    assert tab.keys() == [key(pair) for pair in results["pairs"][:50]]
    assert tab.count() == "130 of 130 pairs (evenly spaced among 1300 of the run)"
    first = tab.page.locator("#browser-list > li").first
    assert first.locator(".browser-text").inner_text() == results["pairs"][0]["prompt"]
    assert first.locator("figcaption bdi").all_inner_texts() == many_pairs.METHODS
    sizes = first.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert sizes == [64, 64, 64, 64]


def test_scores_stand_beside_their_deltas(tab: Tab, results: Results) -> None:
    cards = tab.page.locator("#browser-list > li").first.locator("figure")
    scores = results["pairs"][0]["scores"]
    texts = cards.nth(2).locator("dd").all_inner_texts()
    expected = [
        f"{scores['npnet'][m]:.3f}{scores['npnet'][m] - scores['standard'][m]:+.3f}" for m in many_pairs.METRICS
    ]
    assert [text.replace("\n", "").replace(" ", "") for text in texts] == [
        t.replace("+0.000", "0.000") for t in expected
    ]
    assert not any("+" in text for text in cards.nth(0).locator("dd").all_inner_texts()), "no delta to itself"
    assert cards.nth(3).locator("dt").all_inner_texts()[-1] == "GenEval †", "best_of_4 optimises GenEval"
    assert "†" not in cards.nth(2).inner_text()


SETS = many_pairs.SETS
FILTERS: dict[str, tuple[dict[str, str], Callable[[Results], bool]]] = {
    "prompt set": ({"set": "shapes-drawbench"}, lambda p: p["prompts"] == "shapes-drawbench"),
    "category": ({"category": "colours"}, lambda p: p["category"] == "colours"),
    "setting": ({"setting": "shapes-sdxl, ddim, 50 steps, g 5.5"}, lambda p: p["setting"] == 1),
    "method won": (
        {"metric": "Preference", "method": "npnet", "won": "the method"},
        lambda p: delta(p, "npnet", "preference") > 0,
    ),
    "baseline won, lower is better": (
        {"metric": "Artefacts (lower is better)", "method": "inversion", "won": "the baseline"},
        lambda p: delta(p, "inversion", "artefacts") > 0,
    ),
    "tie, where it was scored": (
        {"metric": "GenEval", "method": "best_of_4", "won": "tie"},
        lambda p: p["prompts"] == "shapes-pickapic" and delta(p, "best_of_4", "geneval") == 0,
    ),
    "several": (
        {"set": SETS[0], "category": "counting", "metric": "CLIPScore", "method": "npnet", "won": "the method"},
        lambda p: (p["prompts"], p["category"]) == (SETS[0], "counting") and delta(p, "npnet", "clipscore") > 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERS)
def test_filter_leaves_what_it_says(tab: Tab, results: Results, name: str) -> None:
    chosen, keeps = FILTERS[name]
    *others, (control, label) = chosen.items()
    if others:
        tab.set(**dict(others))
    tab.choose(control, label)
    expected = [key(pair) for pair in results["pairs"] if keeps(pair)]
    assert 0 < len(expected) < len(results["pairs"])
    assert tab.keys() == expected[:50]
    assert tab.count().startswith(f"{len(expected)} of 130 pairs")


def test_reset_brings_all_pairs_back(tab: Tab) -> None:
    tab.choose("category", "colours")
    assert not tab.count().startswith("130 of 130 pairs")
    tab.page.click("#browser-reset")
    tab.until("document.querySelector('#browser-count').textContent.startsWith('130 of 130 pairs')")
    assert len(tab.keys()) == 50


def test_size_of_delta_and_search(tab: Tab, results: Results) -> None:
    tab.set(metric="Preference", method="inversion")
    tab.page.fill("#browser-least", "0.75")
    expected = [key(pair) for pair in results["pairs"] if abs(delta(pair, "inversion", "preference")) >= 0.75]
    assert 0 < len(expected) < 50
    assert tab.keys() == expected
    tab.page.fill("#browser-search", "no such words")
    assert tab.keys() == []
    assert tab.count().startswith("0 of 130 pairs")
    tab.page.fill("#browser-least", "")
    tab.page.fill("#browser-search", "  Triangle GREEN ")
    expected = [key(p) for p in results["pairs"] if "triangle" in p["prompt"] and "green" in p["prompt"]]
    assert 0 < len(expected) < 50
    assert tab.keys() == expected


SORTED: dict[str, Callable[[float], float]] = {
    "delta: method's gains first": lambda change: change,  # artefacts: lower is better
    "delta: method's losses first": lambda change: -change,
    "size of delta": lambda change: -abs(change),
    "prompt order": lambda change: 0,
}


def test_sorting(tab: Tab, results: Results) -> None:
    tab.set(metric="Artefacts (lower is better)", method="npnet")
    for label, value in SORTED.items():
        tab.choose("sort", label)
        expected = sorted(results["pairs"], key=lambda pair, of=value: of(delta(pair, "npnet", "artefacts")))
        assert tab.keys() == [key(pair) for pair in expected[:50]], label


def test_pairs_that_the_metric_did_not_score_come_last(tab: Tab, results: Results) -> None:
    tab.set(metric="GenEval", sort="size of delta")
    tab.page.click("#browser-forward")
    assert tab.keys()[-1] == [key(p) for p in results["pairs"] if p["prompts"] == "shapes-drawbench"][34]
    assert tab.page.locator("#browser-page").inner_text() == "51 to 100 of 130"
    tab.page.click("#browser-forward")
    assert len(tab.keys()) == 30
    assert tab.page.locator("#browser-forward").is_disabled()


def test_a_metric_that_the_method_optimises_is_called_no_evidence(few: Path, visit: Open) -> None:
    tab = visit(few)
    tab.set(metric="GenEval", method="npnet")
    assert not tab.page.locator("#browser-marked").is_visible()
    tab.choose("method", "best_of_4")
    assert (
        tab.page.inner_text("#browser-marked")
        == "† best_of_4 was chosen using GenEval, so a gain there does not count."
    )
    tab.choose("metric", "CLIPScore")
    assert tab.page.inner_text("#browser-marked").startswith(
        "‡ best_of_4 was chosen or tuned by a sibling of CLIPScore"
    )
    tab.choose("method", "npnet")
    assert not tab.page.locator("#browser-marked").is_visible()


# One pair ------------------------------------------------------------------------------------------------------------


def test_a_pair_opens_by_click_and_an_image_large(tab: Tab, results: Results) -> None:
    tab.page.locator(".browser-row").nth(3).locator(".browser-shot").nth(1).click()
    dialog = tab.page.locator("#browser-pair")
    assert dialog.is_visible()
    assert dialog.locator("#browser-prompt").inner_text() == results["pairs"][3]["prompt"]
    assert dialog.locator("figure").count() == 4
    assert tab.page.url.endswith(f"#pair={key(results['pairs'][3])}")
    dialog.locator(".browser-shot").nth(1).click()
    large = dialog.locator("#browser-zoom img")
    wanted = results["pairs"][3]["images"]["inversion"]
    tab.until(f"document.querySelector('#browser-zoom img').src.endsWith('{wanted}')")
    assert large.bounding_box()["height"] > 400
    tab.page.keyboard.press("ArrowRight")
    assert dialog.locator("#browser-zoom [aria-label=Methods] [aria-pressed=true]").inner_text() == "npnet"
    tab.page.keyboard.press("Escape")
    assert dialog.locator("figure").first.is_visible(), "Escape goes back to the pair first"
    dialog.locator("#browser-close").click()
    assert not dialog.is_visible()
    assert "#" not in tab.page.url


def test_a_pair_opens_by_keys(tab: Tab, results: Results) -> None:
    for _ in range(3):
        tab.page.keyboard.press("j")
    tab.page.keyboard.press("k")
    tab.page.keyboard.press("Enter")
    prompt = tab.page.locator("#browser-prompt")
    assert prompt.inner_text() == results["pairs"][1]["prompt"]
    tab.page.keyboard.press("ArrowRight")
    assert prompt.inner_text() == results["pairs"][2]["prompt"]
    assert tab.page.inner_text("#browser-position") == "3 of 130"
    tab.page.keyboard.press("ArrowLeft")
    tab.page.keyboard.press("ArrowLeft")
    tab.page.keyboard.press("ArrowLeft")
    assert prompt.inner_text() == results["pairs"][0]["prompt"], "the first pair has none before it"
    tab.page.keyboard.press("Escape")
    assert not tab.page.locator("#browser-pair").is_visible()
    tab.page.keyboard.press("?")
    assert tab.page.locator("#browser-keys").is_visible()
    assert "vote left, right, tie" in tab.page.inner_text("#browser-keys")


def test_keys_type_in_fields_and_can_be_switched_off(tab: Tab) -> None:
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("b?jk")
    assert tab.page.input_value("#browser-search") == "b?jk"
    assert tab.page.locator("dialog:visible").count() == 0
    tab.page.click("#browser-help")
    tab.page.uncheck("#browser-letters")
    tab.page.click("#browser-keys-close")
    tab.page.locator("#browser-title").click()
    tab.page.keyboard.press("b")
    tab.page.keyboard.press("?")
    assert tab.page.locator("dialog:visible").count() == 0
    tab.page.click("#browser-help")
    tab.page.check("#browser-letters")
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("b")
    assert tab.page.locator("#browser-blind").is_visible()


def test_j_moves_on_to_the_next_page(tab: Tab, results: Results) -> None:
    tab.page.locator(".browser-row").last.focus()
    tab.page.keyboard.press("j")
    assert tab.keys()[0] == key(results["pairs"][50])
    assert tab.page.evaluate("document.activeElement.dataset.key") == key(results["pairs"][50])


def test_an_address_opens_its_pair(page: Path, results: Results, visit: Open) -> None:
    wanted = results["pairs"][77]
    tab = visit(page, f"#pair={key(wanted)}")
    assert tab.page.inner_text("#browser-prompt") == wanted["prompt"]
    assert tab.page.get_attribute("#browser-link", "href") == f"#pair={key(wanted)}"
    other = results["pairs"][5]
    tab.page.evaluate(f"location.hash = '#pair={key(other)}'")
    tab.until("document.getElementById('browser-prompt').textContent.endsWith('number 5')")
    tab.page.keyboard.press("Escape")
    tab.page.evaluate("location.hash = '#pair=9/none/9/9'")
    tab.until("document.getElementById('browser-count').textContent.includes('does not hold')")


# One method, one metric, the older schema, a real run ----------------------------------------------------------------


def test_a_run_of_the_baseline_alone_offers_no_comparison(tmp_path: Path, visit: Open) -> None:
    alone = many_pairs.results(3, methods=["standard"])
    many_pairs.draw_images(tmp_path, alone)
    tab = visit(write(tmp_path, alone))
    assert len(tab.keys()) == 3
    assert not tab.page.locator("#browser-won").is_visible()
    assert not tab.page.locator("#browser-vote").is_visible()
    tab.page.locator("#browser-title").click()
    tab.page.keyboard.press("b")
    assert tab.page.locator("dialog:visible").count() == 0


def test_a_real_run(finished: Run, visit: Open) -> None:
    found = finished.results()
    tab = visit(finished.folder / "report.html")
    shown = [f"{p.get('setting', 0)}/{p['prompts']}/{p['index']}/{p['seed']}" for p in found["pairs"]]
    assert tab.keys() == shown
    sizes = tab.page.locator("#browser-list img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert sizes == [64] * sum(len(pair["images"]) for pair in found["pairs"])
    ballot(tab)
    tab.page.keyboard.press("1")
    assert tab.page.locator("#browser-sides figcaption bdi").count() == 2
