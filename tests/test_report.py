"""What a reader of a report relies on: the numbers as given, hostile text inert, nothing ranked that must not be."""

from __future__ import annotations

import base64
import copy
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench import report
from bench.report import figures, html, markdown

HOSTILE = "<script>alert(1)</script>| `rm -rf` [x](javascript:alert(2)) ![i](https://evil.example/p.png)\n# @all $a$"
EXAMPLE = Path(__file__).parent / "data" / "results_example.json"
SETTING = {"model": "shapes-sdxl", "sampler": "ddim", "steps": 25, "guidance": 5.5}


def arm(method: str, mean: float, **given: Any) -> dict[str, Any]:
    """A complete arm of 100 images whose only metric is `preference`."""
    cost = {"calls_noise": 2.0, "calls_sampling": 25.0, "calls_total": 27.0, "encode_ms": 6.4, "noise_ms": 38.6,
            "sampling_ms": 486.0, "decode_ms": 9.0, "total_ms": 540.0, "peak_bytes": 612 * 2**20,
            "peak_kind": "process peak (CPU)", "from_cache": 0, "n_timed": 100}  # fmt: skip
    metrics = {"preference": {"mean": mean, "low": mean - 0.064, "high": mean + 0.064, "n": 100}}
    row = {**SETTING, "prompts": "*", "method": method, "n_expected": 100, "n": 100, "complete": True,
           "is_baseline": method == "standard", "metrics": metrics, "optimises": [], "cost": cost}  # fmt: skip
    return row | given


def comparison(method: str, delta: float, low: float, high: float, p: float, **given: Any) -> dict[str, Any]:
    """A complete comparison of 100 pairs on `preference`."""
    row = {**SETTING, "prompts": "*", "method": method, "baseline": "standard", "metric": "preference", "n": 100,
           "n_prompts": 50, "delta": delta, "low": low, "high": high, "p": p, "p_holm": p, "win": 60, "tie": 2,
           "loss": 38, "win_rate": 0.61, "win_low": 0.514, "win_high": 0.706, "detectable": 0.03, "complete": True,
           "marked": False}  # fmt: skip
    return row | given


@pytest.fixture
def small() -> dict[str, Any]:
    """Two methods beside the baseline, one of them clearly better."""
    return {
        "schema": 1,
        "suite": {
            "name": "small",
            "title": "Small",
            "id": "ab12",
            "baseline": "standard",
            "twin": False,
            "limit": None,
        },
        "run": {"folder": "runs/small", "created": "2026-11-21", "finished": True, "provenance": {"commit": "c0ffee"}},
        "notes": [],
        "metrics": {"preference": {"title": "Preference", "unit": "logit", "higher_is_better": True, "digest": "d1"}},
        "arms": [arm("standard", 1.284), arm("inversion", 1.296), arm("npnet", 1.384)],
        "comparisons": [
            comparison("inversion", 0.012, -0.004, 0.028, 0.14, win_rate=0.512, win_low=0.48, win_high=0.543),
            comparison("npnet", 0.1, 0.084, 0.116, 0.0004),
        ],
        "tasks": [],
        "controls": [],
        "pairs": [],
        "verdicts": [],
    }


@pytest.fixture
def example(tmp_path: Path) -> dict[str, Any]:
    """The committed example, with its images in `tmp_path`."""
    results: dict[str, Any] = json.loads(EXAMPLE.read_text())
    for number, path in enumerate(path for pair in results["pairs"] for path in pair["images"].values()):
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (10 * number, 90, 200)).save(file)
    return results


class Page(HTMLParser):
    """Tags that are open at the end, every attribute, and the text."""

    VOID = ("meta", "img", "br", "link", "line", "rect", "circle", "polygon")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


# Numbers and words ---------------------------------------------------------------------------------------------------


def test_sentence_without_effect(small: dict[str, Any]) -> None:
    assert report.sentences(small)[0] == (
        "inversion against standard on preference: +0.012 [-0.004, +0.028], win rate 51.2 % [48.0, 54.3], "
        "n = 100 pairs on 50 prompts; no effect shown (a delta of 0.03 would have been found with 80 % power)."
    )


def test_sentence_with_effect(small: dict[str, Any]) -> None:
    assert report.sentences(small)[1].endswith("; a clear improvement (adjusted p < 0.001).")


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "higher", "said"),
    [
        (0.01, 0.03, 0.05, True, "better"),
        (0.01, 0.03, 0.051, True, "none"),  # the interval alone is not enough after many looks
        (-0.001, 0.03, 0.01, True, "none"),
        (-0.03, -0.01, 0.01, True, "worse"),
        (-0.03, -0.01, 0.01, False, "better"),
        (0.0, 0.03, 0.01, True, "none"),
        (None, 0.03, 0.01, True, "unknown"),
        (0.01, 0.03, None, True, "none"),
        (0.01, float("nan"), 0.01, True, "unknown"),
    ],
)
def test_effect(small: dict[str, Any], low: Any, high: Any, p_holm: Any, higher: bool, said: str) -> None:
    small["metrics"]["preference"]["higher_is_better"] = higher
    row = comparison("npnet", 0.02, low, high, 0.01, p_holm=p_holm)
    assert report.effect(small, row) == said


def test_marked_metric_is_no_evidence(small: dict[str, Any]) -> None:
    small["comparisons"] = [comparison("npnet", 0.1, 0.08, 0.12, 0.001, marked=True)]
    assert report.sentences(small) == [
        "npnet against standard: judged only by what it optimises (preference); no evidence."
    ]


def test_harm_elsewhere_is_said(small: dict[str, Any]) -> None:
    small["metrics"]["pick"] = {"title": "Pick", "unit": "logit", "higher_is_better": True}
    small["comparisons"].append(comparison("npnet", -0.1, -0.12, -0.08, 0.001, metric="pick"))
    assert report.sentences(small)[1].endswith("Elsewhere: clearly worse on pick.")


def test_control_that_does_not_behave_comes_first(small: dict[str, Any]) -> None:
    small["controls"] = [
        {"method": "npnet", "metric": "preference", "expect": "positive", "ok": True, "sentence": "fine."},
        {"method": "reseed", "metric": "preference", "expect": "zero", "ok": False, "sentence": "reseed helped."},
    ]
    assert report.trust(small)[0] == ("alarm", "A control does not behave: reseed helped.")
    assert "- **A control does not behave: reseed helped.**" in markdown.render(small)


@pytest.mark.parametrize(
    ("value", "places", "sign", "text"),
    [
        (-0.0004, 3, True, "0.000"),
        (1234.5, 1, False, "1,234.5"),
        (0.5, 2, True, "+0.50"),
        (None, 2, False, "n/a"),
        (float("nan"), 2, False, "n/a"),
        (float("inf"), 2, False, "n/a"),
    ],
)
def test_number(value: Any, places: int, sign: bool, text: str) -> None:
    assert report.number(value, places, sign=sign) == text


# Markdown ------------------------------------------------------------------------------------------------------------

GOLDEN = """\
## Quality

| model | prompts | method | Preference (logit) |
| --- | --- | --- | ---: |
| shapes-sdxl | all sets | standard | 1.284<br>[1.220, 1.348] |
| shapes-sdxl | all sets | inversion | 1.296<br>+0.012 [-0.004, +0.028] |
| shapes-sdxl | all sets | npnet | **1.384**<br>+0.100 [+0.084, +0.116] ▲ |

Mean with its 95 % interval for standard; for the others the mean, then the paired delta against standard with its 95 % interval. ▲ clearly better, ▼ clearly worse.  
Bold: the best complete method in its column, only where it is clearly better than the baseline; methods are not tested against each other.

## Win rate against standard

| model | prompts | method | Preference |
| --- | --- | --- | ---: |
| shapes-sdxl | all sets | inversion | 51.2 % [48.0, 54.3]<br>60/2/38, p = 0.14 |
| shapes-sdxl | all sets | npnet | 61.0 % [51.4, 70.6]<br>60/2/38, p < 0.001 |
""".replace("p < 0.001", "p &lt; 0.001")  # noqa: E501, W291

GOLDEN_COST = """\
| model | prompts | method | calls: noise | sampling | total | encode ms | noise ms | sampling ms | decode ms | total ms | peak memory | timed | from cache |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| shapes-sdxl | all sets | standard | 2 | 25 | 27 | 6.4 | 38.6 | 486.0 | 9.0 | 540.0 | 612 MiB | 100 | 0 |
| shapes-sdxl | all sets | inversion | 2 | 25 | 27 | 6.4 | 38.6 | 486.0 | 9.0 | 540.0<br>× 1.00 | 612 MiB | 100 | 0 |
"""  # noqa: E501


def test_markdown_tables(small: dict[str, Any]) -> None:
    text = markdown.render(small)
    assert GOLDEN in text
    assert GOLDEN_COST in text


def test_incomplete_arm_is_shown_but_not_ranked(small: dict[str, Any]) -> None:
    small["arms"][2] |= {"complete": False, "n": 60}
    small["comparisons"][1]["complete"] = False
    text = markdown.render(small)
    assert "| npnet<br>incomplete: 60 of 100 | 1.384 |" in text
    assert "**1.384**" not in text
    assert "npnet against standard: incomplete, not judged." in text
    assert "| npnet<br>incomplete: 60 of 100 | n/a |" in text


def test_marked_method_has_a_footnote_and_is_never_bold(small: dict[str, Any]) -> None:
    small["arms"][2]["optimises"] = ["preference"]
    small["comparisons"][1]["marked"] = True
    text = markdown.render(small)
    assert "| npnet | 1.384 †<br>+0.100 [+0.084, +0.116] |" in text
    assert "† The method optimises this metric: not ranked, not counted as evidence." in text
    assert "npnet optimises preference: its preference is marked †" in text


def test_lower_is_better_turns_bold_and_glyphs(small: dict[str, Any]) -> None:
    small["metrics"]["preference"]["higher_is_better"] = False
    text = markdown.render(small)
    assert "Preference (logit) ↓" in text
    assert "1.384<br>+0.100 [+0.084, +0.116] ▼" in text
    assert "**1." not in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", "a\\|b"),
        ("`x`", "\\`x\\`"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("a\nb\r\n\u2028c", "a b c"),
        ("[x](y)", "[x\\](y)"),
        ("[x]: y", "[x\\]: y"),
        ("best_of_4", "best_of_4"),
        ("_so_", "\\_so\\_"),
        ("see https://a.b", "see https&#58;//a.b"),
        ("WWW.a.b", "WWW&#46;a.b"),
        ("@user #1", "&#64;user \\#1"),
        ("[-0.1, +0.2]", "[-0.1, +0.2]"),
    ],
)
def test_escape(text: str, escaped: str) -> None:
    assert markdown.escape(text) == escaped


def test_hostile_text_in_markdown_is_inert(example: dict[str, Any]) -> None:
    text = markdown.render(spoil(example))
    assert "<script" not in text
    assert "javascript:" not in text
    assert not re.search(r"https?://", text)
    assert not re.search(r"(?<!\\)\]\((?!images/)", text), "only images of the run are linked"
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, "no cell was split"


def spoil(results: dict[str, Any]) -> dict[str, Any]:
    """Hostile text wherever somebody else's text goes."""
    results = copy.deepcopy(results)
    results["suite"] |= {"title": HOSTILE, "command": HOSTILE, "reproduces": HOSTILE}
    results["notes"] = results["verdicts"] = [HOSTILE]
    results["pairs"][0] |= {"prompt": HOSTILE, "prompts": HOSTILE}
    results["pairs"][0]["images"]["inversion"] = "javascript:alert(3)"
    results["pairs"][0]["images"]["npnet"] = "../../etc/passwd"
    results["metrics"]["preference"] |= {"title": HOSTILE, "scale": HOSTILE}
    results["controls"][0] |= {"ok": False, "sentence": HOSTILE}
    return results


def test_long_report_is_cut_below_the_limit(example: dict[str, Any]) -> None:
    example["notes"] = ["word " * 40] * 1000
    text = markdown.render(example)
    assert len(text) < 65_000
    assert text.endswith("(Cut here for length; report.html and results.json hold everything.)\n")


def test_long_tables_keep_the_pooled_rows(example: dict[str, Any]) -> None:
    many = [
        row | {"prompts": f"set-{copy_}"} for copy_ in range(60) for row in example["arms"] if row["prompts"] != "*"
    ]
    example["arms"] = [*many, *(row for row in example["arms"] if row["prompts"] == "*")]
    text = markdown.render(example)
    assert len(text) < 65_000
    assert "| shapes-sdxl | all sets | npnet |" in text
    assert "## Provenance" in text


# HTML ----------------------------------------------------------------------------------------------------------------


def test_html_is_well_formed_and_whole(example: dict[str, Any], tmp_path: Path) -> None:
    page = Page(html.render(example, tmp_path))
    assert page.open == []
    for method in {row["method"] for row in example["arms"]}:
        assert method in page.text
    for title in ("Verdict", "How far to trust this", "Quality", "GenEval tasks", "Cost", "Image pairs", "Provenance"):
        assert title in page.text
    assert "three green triangles" in page.text
    assert "† The method optimises this metric" in page.text
    assert "incomplete: 320 of 400" in page.text


def test_html_asks_for_nothing(example: dict[str, Any], tmp_path: Path) -> None:
    text = html.render(spoil(example), tmp_path)
    page = Page(text)
    policy = [tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data: 'self'; style-src 'unsafe-inline'"]
    addresses = [str(tag[key]) for _, tag in page.tags for key in ("src", "href", "xlink:href", "action") if key in tag]
    assert addresses
    assert all(address.startswith(("data:image/", "images/")) for address in addresses)
    assert not page.all("script")
    assert not [key for _, tag in page.tags for key in tag if key.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text


def test_plain_example_names_no_address(example: dict[str, Any], tmp_path: Path) -> None:
    assert not re.search(r"https?://", html.render(example, tmp_path))


def test_hostile_text_is_shown_as_text(example: dict[str, Any], tmp_path: Path) -> None:
    page = Page(html.render(spoil(example), tmp_path))
    assert page.open == []
    assert HOSTILE in page.text
    assert f"standard: {HOSTILE}" in [tag["alt"] for tag in page.all("img")]


def test_images_are_embedded_as_they_are(example: dict[str, Any], tmp_path: Path) -> None:
    sources = [str(tag["src"]) for tag in Page(html.render(example, tmp_path)).all("img")]
    first = tmp_path / example["pairs"][0]["images"]["standard"]
    assert len(sources) == sum(len(pair["images"]) for pair in example["pairs"])
    assert sources[0] == "data:image/png;base64," + base64.b64encode(first.read_bytes()).decode()


def test_large_images_are_reduced(example: dict[str, Any], tmp_path: Path) -> None:
    path = example["pairs"][0]["images"]["standard"]
    Image.effect_noise((1024, 1024), 80).save(tmp_path / path)
    source = str(Page(html.render(example, tmp_path)).all("img")[0]["src"])
    assert source.startswith("data:image/jpeg;base64,")
    assert len(source) < 200_000


def test_images_over_the_budget_are_linked(
    example: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "BUDGET", 300)
    page = Page(html.render(example, tmp_path))
    shown = sum(len(str(tag["src"])) for tag in page.all("img"))
    assert shown <= 300
    links = {str(tag["href"]) for tag in page.all("a")}
    assert links == {path for pair in example["pairs"] for path in pair["images"].values()}


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n\x00\x00", None])
def test_broken_image_does_not_break_the_report(example: dict[str, Any], tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / example["pairs"][0]["images"]["standard"]
    file.unlink() if content is None else file.write_bytes(content)
    page = Page(html.render(example, tmp_path))
    assert len(page.all("img")) == sum(len(pair["images"]) for pair in example["pairs"]) - 1


@pytest.mark.parametrize(
    "path", ["../secret.png", "/etc/secret.png", "javascript:x", "https://a/b.png", "C:\\x.png", ""]
)
def test_paths_out_of_the_folder_are_refused(path: str) -> None:
    assert markdown.safe_path(path) == ""


def test_link_out_of_the_folder_is_not_followed(example: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "secret.png")
    (folder / "images").mkdir()
    (folder / "images" / "a.png").symlink_to(tmp_path / "secret.png")
    example["pairs"] = [example["pairs"][0] | {"images": {"standard": "images/a.png"}}]
    assert Page(html.render(example, folder)).all("img") == []


def test_calls_replace_missing_times(small: dict[str, Any], tmp_path: Path) -> None:
    assert "delta against ms per image" in html.render(small, tmp_path)
    small["arms"][0]["cost"]["total_ms"] = None
    assert "delta against denoiser calls per image" in html.render(small, tmp_path)


def test_ticks_are_round_and_inside() -> None:
    assert figures.ticks(0.43, 0.57) == [0.45, 0.5, 0.55]
    assert figures.ticks(0, 2100, 4) == [0, 1000, 2000]
    assert figures.ticks(1.0, 1.0) == [1.0]


def test_marks_of_equal_cost_do_not_hide_one_another() -> None:
    moved = figures._side_by_side([100.0, 101.0, 300.0, 102.0])
    assert moved == [94.0, 101.0, 300.0, 108.0]


# Both ----------------------------------------------------------------------------------------------------------------


def test_write_leaves_two_files_and_no_scraps(example: dict[str, Any], tmp_path: Path) -> None:
    paths = report.write(example, tmp_path)
    assert [path.name for path in paths] == ["report.md", "report.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "report.html", "report.md"]


def test_nothing_measured_is_said(small: dict[str, Any], tmp_path: Path) -> None:
    small |= {"arms": [], "comparisons": [], "metrics": {}}
    assert "- Nothing was compared." in markdown.render(small)
    assert "Nothing was compared." in Page(html.render(small, tmp_path)).text


def test_nulls_everywhere(example: dict[str, Any], tmp_path: Path) -> None:
    keep = ("n", "n_prompts", "n_expected")

    def blank(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: part if key in keep else blank(part) for key, part in value.items()}
        return (
            [blank(part) for part in value]
            if isinstance(value, list)
            else value
            if isinstance(value, str | bool)
            else None
        )

    results = example | {key: blank(example[key]) for key in ("comparisons", "tasks", "pairs")}
    results["arms"] = [row | {"metrics": blank(row["metrics"]), "cost": blank(row["cost"])} for row in example["arms"]]
    assert "n/a" in markdown.render(results)
    assert Page(html.render(results, tmp_path)).open == []


def test_report_needs_no_torch() -> None:
    code = (
        "import bench.report, bench.report.html, bench.report.markdown, bench.gate, sys; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
