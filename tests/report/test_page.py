"""The report as a page, without a browser: well-formed, self-contained, inert; and what `write` leaves behind."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench import report
from bench.errors import UserError
from bench.report import html, markdown

from .samples import HOSTILE, SETTING, Page, of, pair, part, spoil


def test_html_is_well_formed_and_whole(example: dict[str, Any], tmp_path: Path) -> None:
    page = Page(html.render(of(example), tmp_path))
    assert page.open == []
    for method in {row["method"] for row in example["arms"]}:
        assert method in page.text
    titles = ("Four prompts", "All prompt sets together", "How far to trust this", "Verdict", "GenEval tasks", "Cost")
    for title in (*titles, "Image pairs", "Provenance"):
        assert title in page.text
    assert "three green triangles" in page.text
    assert "† Chosen using this score, so a gain here does not count." in page.text
    assert "incomplete: 320 of 400" in page.text


def test_html_asks_for_nothing(example: dict[str, Any], tmp_path: Path) -> None:
    text = html.render(of(spoil(example)), tmp_path)
    page = Page(text)
    policy = [tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    (parts,) = [dict(part.strip().split(" ", 1) for part in str(one).split(";")) for one in policy]
    assert (parts["default-src"], parts["base-uri"], parts["form-action"]) == ("'none'", "'none'", "'none'")
    assert set(parts["img-src"].split()) <= {"data:", "file:", "'self'"}
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in scripts]
    assert parts["script-src"].split() == [f"'sha256-{digest}'" for digest in digests], "no script but the page's own"
    addresses = [str(tag[key]) for _, tag in page.tags for key in ("src", "href", "xlink:href", "action") if key in tag]
    assert addresses
    assert all(address.startswith(("data:image/", "images/", "#")) for address in addresses)
    assert all(tag in ({}, {"type": "application/json", "id": "browser-data"}) for tag in page.all("script"))
    assert len(scripts) == 2, "the page's, and the image browser's"
    assert not [key for _, tag in page.tags for key in tag if key.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text


def test_plain_example_names_no_address(example: dict[str, Any], tmp_path: Path) -> None:
    assert not re.search(r"https?://", html.render(of(example), tmp_path))


def test_hostile_text_is_shown_as_text(example: dict[str, Any], tmp_path: Path) -> None:
    page = Page(html.render(of(spoil(example)), tmp_path))
    assert page.open == []
    assert HOSTILE in page.text
    assert f"standard: {HOSTILE}" in [tag["alt"] for tag in page.all("img")]


def without_scripts(found: dict[str, Any], folder: Path) -> Page:
    """The pairs that a page without scripts shows."""
    text = html.render(of(found), folder)
    return Page(text[text.index("<noscript>") : text.index("</noscript>")])


def test_images_are_embedded_as_they_are(example: dict[str, Any], tmp_path: Path) -> None:
    sources = [str(tag["src"]) for tag in without_scripts(example, tmp_path).all("img")]
    first = tmp_path / example["pairs"][0]["images"]["standard"]
    assert len(sources) == sum(len(pair["images"]) for pair in example["pairs"])
    assert sources[0] == "data:image/png;base64," + base64.b64encode(first.read_bytes()).decode()


def test_large_images_are_reduced(example: dict[str, Any], tmp_path: Path) -> None:
    path = example["pairs"][0]["images"]["standard"]
    Image.effect_noise((1024, 1024), 80).save(tmp_path / path)
    source = str(Page(html.render(of(example), tmp_path)).all("img")[0]["src"])
    assert source.startswith("data:image/")
    assert len(source) < 200_000


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n\x00\x00", None])
def test_broken_image_does_not_break_the_report(example: dict[str, Any], tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / example["pairs"][0]["images"]["standard"]
    file.unlink() if content is None else file.write_bytes(content)
    page = without_scripts(example, tmp_path)
    assert len(page.all("img")) == sum(len(pair["images"]) for pair in example["pairs"]) - 1


def test_link_out_of_the_folder_is_not_followed(example: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "secret.png")
    (folder / "images").mkdir()
    (folder / "images" / "a.png").symlink_to(tmp_path / "secret.png")
    example["pairs"] = [pair(0, {"standard": "images/a.png"})]
    assert Page(html.render(of(example), folder)).all("img") == []


def test_calls_replace_missing_times(small: dict[str, Any], tmp_path: Path) -> None:
    assert "delta against ms per image" in html.render(of(small), tmp_path)
    small["arms"][0]["cost"]["total_ms"] = None
    assert "delta against denoiser calls per image" in html.render(of(small), tmp_path)


@pytest.mark.usefixtures("whole_report")
def test_write_leaves_what_it_says_and_no_scraps(example: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures are an optional extra")
    paths = report.write(of(example), tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
    drawn = [
        f"figures/{name}.{kind}" for name in ("win_rates", "quality_cost", "stage_split") for kind in ("png", "svg")
    ]
    assert names == ["report.md", "report.html", "report.tex", *drawn]
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in left if not name.startswith("images/")} == set(names)


@pytest.mark.parametrize("formats", [["md"], ["html", "tex"], [], ("tex",)])
def test_formats_are_chosen(example: dict[str, Any], tmp_path: Path, formats: list[str]) -> None:
    folder = tmp_path / "new" / "folder"
    assert [path.name for path in report.write(of(example), folder, formats=formats)] == [
        f"report.{name}" for name in formats
    ]
    assert {path.name for path in folder.iterdir()} == {f"report.{name}" for name in formats}


def test_unknown_format_is_the_users_mistake(example: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown report format 'latex'; did you mean 'tex'"):
        report.write(of(example), tmp_path, formats=["md", "latex"])
    with pytest.raises(UserError, match="unknown report format 'pdf'; known: figures, html, md, tex"):
        report.write(of(example), tmp_path, formats=["pdf"])
    assert not (tmp_path / "report.md").exists()


def test_a_variable_names_the_forms_that_are_written_where_none_are_asked_for(
    example: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = of(example)
    monkeypatch.setenv("BENCH_REPORT", "md, tex")
    assert {p.name for p in report.write(found, tmp_path)} == {"report.md", "report.tex"}
    assert {p.name for p in report.write(found, tmp_path, formats=["html"])} == {"report.html"}
    monkeypatch.setenv("BENCH_REPORT", "md,htm")
    with pytest.raises(UserError, match=r"BENCH_REPORT=md,htm: unknown report format 'htm'; did you mean 'html'"):
        report.write(found, tmp_path)


def test_half_a_surrogate_pair_is_a_question_mark(example: dict[str, Any], tmp_path: Path) -> None:
    """UTF-8 cannot hold one, so no record does and no report has to."""
    example["pairs"][0]["prompt"] = "half \ud83d a face"
    assert "half ? a face" in Page(html.render(of(example), tmp_path)).text


def test_run_whose_images_were_deleted_still_reports(example: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    report.write(of(example), folder, formats=["md", "html", "tex"])
    page = Page((folder / "report.html").read_text())
    assert page.all("img") == []
    assert "no image" in page.text
    assert "Quality" in page.text


def test_older_results_still_report(example: dict[str, Any], tmp_path: Path) -> None:
    """Schema 1 had no runs, settings, seeds, categories or ratios."""
    example["schema"] = 1
    for name in ("runs", "settings", "seeds", "categories", "pairs_total"):
        del example[name]
    for row in example["arms"]:
        del row["cost"]["ratios"]
    for one in example["pairs"]:
        for name in ("setting", "category", "runs"):
            del one[name]
    page = Page(html.render(of(example), tmp_path))
    assert "three green triangles" in page.text
    assert len(markdown.render(of(example))) > 5000


def test_breakdowns_are_shown_and_long_ones_folded(small: dict[str, Any], tmp_path: Path) -> None:
    small["seeds"] = [part("npnet", 1.0, seed=3)]
    small["categories"] = [part("npnet", 1.0, prompts="drawbench", category="Colors")]
    page = Page(html.render(of(small), tmp_path))
    assert page.open == []
    assert "Seeds" in page.text
    assert "Categories" in page.text
    folds = [tag for tag in page.all("details") if tag.get("class") == "fold"]
    assert folds
    assert not [tag for tag in folds if "open" in tag], "only what failed stands open"


def test_a_sanity_check_that_failed_stands_open_and_first(small: dict[str, Any], tmp_path: Path) -> None:
    failed = {"method": "reseed", "metric": "preference", "expect": "zero", "ok": False, "sentence": "It helps."}
    small["controls"] = [failed]
    text = html.render(of(small), tmp_path)
    assert '<details class="fold" open><summary><h2>How far to trust this</h2>' in text
    said = text.index('<li class="alarm">A sanity check failed: It helps.</li>')
    assert said < text.index("All prompt sets together")


def test_figures_beyond_the_limit_are_said(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "PANELS", 2)
    small["comparisons"] = [row | {"steps": steps} for steps in (5, 6, 7) for row in small["comparisons"]]
    assert "1 more of these are not drawn; the tables have their numbers." in html.render(of(small), tmp_path)


def test_nothing_measured_is_said(small: dict[str, Any], tmp_path: Path) -> None:
    small |= {"arms": [], "comparisons": [], "metrics": {}}
    assert "- Nothing was compared." in markdown.render(of(small))
    assert "Nothing was compared." in Page(html.render(of(small), tmp_path)).text


def test_nulls_everywhere(example: dict[str, Any], tmp_path: Path) -> None:
    """Nothing was measured of what need not be."""
    kept = ("n", "n_prompts", "n_timed", "from_cache", "add_steps")

    def blank(row: dict[str, Any]) -> dict[str, Any]:
        known = {name: None for name, value in row.items() if isinstance(value, float | int) and name not in kept}
        return row | {name: None for name in known if not isinstance(row[name], bool) and name not in SETTING}

    for row in example["arms"]:
        row["metrics"] = {name: blank(one) for name, one in row["metrics"].items()}
        row["cost"] = blank(row["cost"])
    example["comparisons"] = [blank(row) for row in example["comparisons"]]
    example["tasks"] = [blank(row) for row in example["tasks"]]
    for one in example["pairs"]:
        one["scores"] = {}
    found = of(example)
    assert "n/a" in markdown.render(found)
    assert Page(html.render(found, tmp_path)).open == []
