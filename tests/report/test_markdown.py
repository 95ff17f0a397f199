"""The report as Markdown: golden text, hostile text inert, short enough."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bench.report import markdown
from bench.report.strip import strip

from .samples import metric, of, pair, run, spoil

# Every number stands in `samples.small` as it is here; two spaces at a line's end are Markdown's line break.
GOLDEN = """\
# Small

Suite small (ab12).

inversion, npnet against standard, each on the same prompts, seeds and starting noise; model shapes-sdxl; prompts all sets; ddim, 25 steps, g 5.5.

**npnet raises Preference by 0.100 [0.084, 0.116] at 1.0 times the time; no other method shows a change; this run could only detect changes of about 0.03 or more.**

- No sanity check was run.
- This run could only detect changes of about 0.03 or more on Preference; a true change of that size is found in 80 % of such runs.

## All prompt sets together

| method | Preference (logit) | denoiser calls | ms an image |
| --- | ---: | ---: | ---: |
| standard | 1.284<br>[1.220, 1.348] | 27 | 540.0 |
| inversion | 1.296<br>+0.012 [-0.004, +0.028], p = 0.14 | 27 | 540.0<br>× 1.00 |
| npnet | **1.384**<br>+0.100 [+0.084, +0.116] ▲, p &lt; 0.001 | 27 | 540.0<br>× 1.00 |

Mean with its 95 % interval for standard; for the others the mean, then the paired delta against standard with its 95 % interval and the Holm-adjusted p. ▲ clearly better, ▼ clearly worse.  
Bold: the best complete method in its column, only where it is clearly better than the baseline; methods are not tested against each other.  
× how many times standard's, with the 95 % interval of times over batches.

## Cost

| method | calls: noise | sampling | total | encode ms | noise ms | sampling ms | decode ms | total ms | peak memory | timed | from cache |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| standard | 2 | 25 | 27 | 6.4 | 38.6 | 486.0 | 9.0 | 540.0 | 612 MiB | 100 | 0 |
| inversion | 2 | 25 | 27 | 6.4 | 38.6 | 486.0 | 9.0 | 540.0<br>× 1.00 | 612 MiB | 100 | 0 |
| npnet | 2 | 25 | 27 | 6.4 | 38.6 | 486.0 | 9.0 | 540.0<br>× 1.00 | 612 MiB | 100 | 0 |

Per image. Calls are denoiser calls; timed is the number of images that the times are means of; from cache is the number taken over from earlier runs. × is against standard. Peak memory: CUDA allocator.  
× with an interval: the ratio of the two means over images that this run made on the same hardware, with its 95 % interval over batches, of 5 or more; no ratio of stages under 1 ms.

## How far to trust this

- The headline is by Preference: the first metric of the suite that is independent evidence for the most methods (2 of 2); no result plays a part in the choice.
- 100 pairs on 50 prompts a comparison; intervals are 95 %, paired and clustered by prompt; an effect counts as shown when its interval excludes zero and its Holm-adjusted p is at most 0.05.

## Verdict

- inversion against standard on Preference: +0.012 [-0.004, +0.028], adjusted p = 0.14, win rate 51.2 % [48.0, 54.3], n = 100 pairs on 50 prompts; no effect shown (only changes of about 0.03 or more could be detected).
- npnet against standard on Preference: +0.100 [+0.084, +0.116], adjusted p &lt; 0.001, win rate 61.0 % [51.4, 70.6], n = 100 pairs on 50 prompts; a clear improvement.

## Provenance

- run: runs/small
- created: 2026-11-21
- suite id: ab12
- commit: c0ffee
- metric preference: d1

Prompt sets, seeds, categories, all figures and image pairs: report.html; every number: results.json.
"""  # noqa: E501, W291


def test_whole_report(small: dict[str, Any]) -> None:
    assert markdown.render(of(small)) == GOLDEN


def test_incomplete_arm_is_shown_but_not_ranked(small: dict[str, Any]) -> None:
    small["arms"][2] |= {"complete": False, "n": 60}
    small["comparisons"][1]["complete"] = False
    text = markdown.render(of(small))
    assert "| npnet<br>incomplete: 60 of 100 | 1.384 | 27 |" in text
    assert "**1.384**" not in text
    assert "npnet against standard: incomplete, not judged." in text


def test_marked_method_has_a_footnote_and_is_never_bold(small: dict[str, Any]) -> None:
    small["arms"][2]["optimises"] = ["preference"]
    small["comparisons"][1]["marked"] = True
    text = markdown.render(of(small))
    assert "| npnet | 1.384 †<br>+0.100 [+0.084, +0.116], p &lt; 0.001 |" in text
    assert "† Chosen using this score, so a gain here does not count." in text
    assert "npnet was chosen using Preference (†), so a gain there does not count." in text


def test_a_sibling_of_what_chose_the_method_has_a_mark_of_its_own_and_is_still_shown(small: dict[str, Any]) -> None:
    shares = [{"kind": "detector", "name": "eyes"}]
    small["arms"][2]["siblings"] = [{"metric": "preference", "of": "hps", "shares": shares}]
    small["comparisons"][1]["sibling"] = True
    text = markdown.render(of(small))
    assert "| npnet | **1.384 ‡**<br>+0.100 [+0.084, +0.116] ▲, p &lt; 0.001 |" in text
    assert (
        "‡ The method was chosen or tuned by a metric with which this one shares labels, a detector or a rule" in text
    )
    assert "†" not in text


def test_lower_is_better_turns_bold_and_glyphs(small: dict[str, Any]) -> None:
    small["metrics"]["preference"]["higher_is_better"] = False
    text = markdown.render(of(small))
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
    text = markdown.render(of(spoil(example)))
    assert "<script" not in text
    assert "javascript:" not in text
    assert not re.search(r"https?://", text)
    assert not re.search(r"(?<!\\)\]\((?!images/)", text), "only images of the run are linked"
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, "no cell was split"


def words(text: str) -> int:
    return len(text.split())


def test_a_report_has_fewer_than_1200_words(example: dict[str, Any]) -> None:
    assert words(markdown.render(of(example))) < 1_200


def test_long_notes_are_cut_first_and_said(example: dict[str, Any]) -> None:
    example["notes"] = ["word " * 8] * 1000
    text = markdown.render(of(example))
    assert words(text) < 1_200
    assert "992 more in report.html." in text
    assert "## Provenance" in text
    example["suite"]["title"] = "long " * 3000
    text = markdown.render(of(example))
    assert words(text) < 1_200
    assert text.endswith("(Cut here for length; report.html and results.json hold everything.)\n")


def test_many_arms_lose_metrics_and_rows_before_the_end_is_cut(small: dict[str, Any]) -> None:
    small["metrics"] |= {"pick": metric("Pick"), "clip": metric("CLIP")}
    for row in small["arms"]:
        row["metrics"] = dict.fromkeys(small["metrics"], row["metrics"]["preference"])
    small["arms"] = [row | {"steps": steps} for steps in range(1, 40) for row in small["arms"]]
    small["comparisons"] = [row | {"steps": steps} for steps in range(1, 40) for row in small["comparisons"]]
    text = markdown.render(of(small))
    assert words(text) < 1_200
    assert re.search(r"[12] more metrics? in report\.html\.", text)
    assert "more rows in report.html." in text
    assert "Cut here" not in text


def test_the_strip_has_the_largest_gain_the_median_the_largest_loss_and_one_at_random(small: dict[str, Any]) -> None:
    gains = [0.3, -0.2, 0.0, 0.9, 0.1, -0.7, 0.2]
    images = {"standard": "images/s.png", "npnet": "images/n.png"}
    small["pairs"] = [
        pair(at, images, scores={"standard": {"preference": 1.0}, "npnet": {"preference": 1.0 + gain}})
        for at, gain in enumerate(gains)
    ]
    text = markdown.render(of(small))
    rows = re.findall(r"^\| ([a-z ]+)<br>prompt (\d)<br>Preference (\S+) \| (.*) \|$", text, re.MULTILINE)
    assert [(why, int(at), delta) for why, at, delta, _ in rows[:3]] == [
        ("largest gain", 3, "+0.900"), ("median", 4, "+0.100"), ("largest loss", 5, "-0.700"),
    ]  # fmt: skip
    assert rows[3][0] == "random"
    assert int(rows[3][1]) not in (3, 4, 5)
    assert rows[0][3] == "![standard](images/s.png) | ![npnet](images/n.png) | n/a", (
        "standard, the headline's, the others"
    )
    assert "Chosen by Preference of npnet against standard, of 7 pairs: the largest gain, the median" in text
    assert markdown.render(of(small)) == text, "the same seed draws the same pair"


def test_where_lower_is_better_the_largest_gain_is_the_largest_fall(small: dict[str, Any]) -> None:
    small["metrics"]["preference"]["higher_is_better"] = False
    images = dict.fromkeys(("standard", "inversion", "npnet"), "images/s.png")
    small["pairs"] = [
        pair(at, images, scores={name: {"preference": 1.0 if name == "standard" else value} for name in images})
        for at, value in enumerate((0.5, 1.0, 1.5))
    ]
    found = strip(of(small))
    assert found is not None
    assert [(row.why, row.pair.index) for row in found.rows] == [
        ("largest gain", 0),
        ("median", 1),
        ("largest loss", 2),
    ]


def test_without_scores_the_strip_is_evenly_spaced_and_says_so(small: dict[str, Any]) -> None:
    small["pairs"] = [pair(number, {"standard": "images/a.png", "npnet": "images/b.png"}) for number in range(10)]
    text = markdown.render(of(small))
    assert re.findall(r"^\| prompt (\d+) \|", text, re.MULTILINE) == ["0", "3", "6", "9"]
    assert "Evenly spaced over the 10 pairs of this report, for no score orders them." in text


def test_the_figure_is_shown_where_it_lies_beside_the_report(small: dict[str, Any]) -> None:
    assert "figures/" not in markdown.render(of(small))
    assert "![Quality against cost](figures/quality_cost.png)" in markdown.render(of(small), figures=True)


def test_images_of_merged_runs_are_linked_where_they_lie(small: dict[str, Any]) -> None:
    small["runs"] = [run("run", path=path) for path in ("../one", "../t wo", "/etc", "javascript:x")]
    images = dict.fromkeys("abcd", "images/x.png") | {"e": "../secret.png"}
    small["pairs"] = [pair(0, images, runs={"a": 0, "b": 1, "c": 2, "d": 3, "e": 0})]
    found = of(small)
    links = [markdown.image_path(found, found.pairs[0], name) for name in "abcdef"]
    assert links == ["../one/images/x.png", "../t%20wo/images/x.png", "", "", "", ""], "no image of f"


@pytest.mark.parametrize(
    "path", ["../secret.png", "/etc/secret.png", "javascript:x", "https://a/b.png", "C:\\x.png", ""]
)
def test_paths_out_of_the_folder_are_refused(path: str) -> None:
    assert markdown.safe_path(path) == ""
