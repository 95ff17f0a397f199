"""The report as Markdown: golden text, hostile text inert, short enough."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bench.report import markdown

from .samples import of, pair, part, run, spoil

# Every number stands in `samples.small` as it is here; two spaces at a line's end are Markdown's line break.
GOLDEN = """\
# Small

Suite small (ab12).

inversion, npnet against standard, each on the same prompts, seeds and starting noise; model shapes-sdxl; prompts all sets; ddim, 25 steps, g 5.5.

## Verdict

**npnet raises Preference by 0.100 [0.084, 0.116] at 1.0 times the time; no other method shows a change; this run could have seen 0.03 with 80 % power.**

- inversion against standard on preference: +0.012 [-0.004, +0.028], win rate 51.2 % [48.0, 54.3], n = 100 pairs on 50 prompts; no effect shown (a delta of 0.03 would have been found with 80 % power).
- npnet against standard on preference: +0.100 [+0.084, +0.116], win rate 61.0 % [51.4, 70.6], n = 100 pairs on 50 prompts; a clear improvement (adjusted p &lt; 0.001).

## How far to trust this

- No control was run.
- The headline is by Preference: the first metric of the suite that is independent evidence for the most methods (2 of 2); no result plays a part in the choice.
- 100 pairs on 50 prompts a comparison; intervals are 95 %, paired and clustered by prompt; an effect counts as shown when its interval excludes zero and its Holm-adjusted p is at most 0.05.
- Smallest delta found with 80 % power, in the least certain comparison: preference 0.03.

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
| shapes-sdxl | all sets | npnet | 61.0 % [51.4, 70.6]<br>60/2/38, p &lt; 0.001 |

Share of pairs won, ties counted half, with its 95 % interval; then wins/ties/losses and the Holm-adjusted p of the delta.

## Cost

| model | prompts | method | calls: noise | sampling | total | encode ms | noise ms | sampling ms | decode ms | total ms | peak memory | timed | from cache |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| shapes-sdxl | all sets | standard | 2 | 25 | 27 | 6.4 | 38.6 | 486.0 | 9.0 | 540.0 | 612 MiB | 100 | 0 |
| shapes-sdxl | all sets | inversion | 2 | 25 | 27 | 6.4 | 38.6 | 486.0 | 9.0 | 540.0<br>× 1.00 | 612 MiB | 100 | 0 |
| shapes-sdxl | all sets | npnet | 2 | 25 | 27 | 6.4 | 38.6 | 486.0 | 9.0 | 540.0<br>× 1.00 | 612 MiB | 100 | 0 |

Per image. Calls are denoiser calls; timed is the number of images that the times are means of; from cache is the number taken over from earlier runs. × is against standard. Peak memory: CUDA allocator.  
× with an interval: the ratio of the two means over images that this run made on the same hardware, with its 95 % interval over batches, of 5 or more; no ratio of stages under 1 ms.

## Provenance

- run: runs/small
- created: 2026-11-21
- suite id: ab12
- commit: c0ffee
- metric preference: d1
"""  # noqa: E501, W291


def test_whole_report(small: dict[str, Any]) -> None:
    assert markdown.render(of(small)) == GOLDEN


def test_incomplete_arm_is_shown_but_not_ranked(small: dict[str, Any]) -> None:
    small["arms"][2] |= {"complete": False, "n": 60}
    small["comparisons"][1]["complete"] = False
    text = markdown.render(of(small))
    assert "| npnet<br>incomplete: 60 of 100 | 1.384 |" in text
    assert "**1.384**" not in text
    assert "npnet against standard: incomplete, not judged." in text
    assert "| npnet<br>incomplete: 60 of 100 | n/a |" in text


def test_marked_method_has_a_footnote_and_is_never_bold(small: dict[str, Any]) -> None:
    small["arms"][2]["optimises"] = ["preference"]
    small["comparisons"][1]["marked"] = True
    text = markdown.render(of(small))
    assert "| npnet | 1.384 †<br>+0.100 [+0.084, +0.116] |" in text
    assert "† The method optimises this metric: not ranked, not counted as evidence." in text
    assert "npnet optimises preference: its preference is marked †" in text


def test_a_sibling_of_what_chose_the_method_has_a_mark_of_its_own_and_is_still_shown(small: dict[str, Any]) -> None:
    shares = [{"kind": "detector", "name": "eyes"}]
    small["arms"][2]["siblings"] = [{"metric": "preference", "of": "hps", "shares": shares}]
    small["comparisons"][1]["sibling"] = True
    text = markdown.render(of(small))
    assert "| npnet | **1.384 ‡**<br>+0.100 [+0.084, +0.116] ▲ |" in text
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


def test_long_report_is_cut_below_the_limit(example: dict[str, Any]) -> None:
    example["notes"] = ["word " * 40] * 1000
    text = markdown.render(of(example))
    assert len(text) < 65_000
    assert text.endswith("(Cut here for length; report.html and results.json hold everything.)\n")


def test_long_tables_keep_the_pooled_rows(example: dict[str, Any]) -> None:
    many = [
        row | {"prompts": f"set-{copy_}"} for copy_ in range(60) for row in example["arms"] if row["prompts"] != "*"
    ]
    example["arms"] = [*many, *(row for row in example["arms"] if row["prompts"] == "*")]
    text = markdown.render(of(example))
    assert len(text) < 65_000
    assert "| shapes-sdxl | all sets | npnet |" in text
    assert "## Provenance" in text


def test_long_categories_go_first(small: dict[str, Any]) -> None:
    small["categories"] = [
        part("standard", 1.0, prompts="drawbench", category=f"category {number}", n=9) for number in range(900)
    ]
    text = markdown.render(of(small))
    assert len(text) < 65_000
    assert "## Categories\n\n900 rows, left out here for length; see report.html." in text
    assert "category 7" not in text


def test_pairs_are_evenly_spaced(small: dict[str, Any]) -> None:
    small["pairs_total"] = 50_000
    small["pairs"] = [pair(number, {"standard": "images/a.png"}) for number in range(111)]
    text = markdown.render(of(small))
    assert [int(found) for found in re.findall(r"\| prompt (\d+) \|", text)] == list(range(0, 111, 10))
    assert "Evenly spaced over all pairs, not picked by looking; 49,988 more in report.html." in text


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
