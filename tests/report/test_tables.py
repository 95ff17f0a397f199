"""Tables as literal text: cost with ratios, seeds, categories."""

from __future__ import annotations

from typing import Any

from bench.report import markdown
from bench.report.breakdown import LONG, category_table, cost_table, seed_table
from bench.report.tables import Table, metric_table
from bench.report.tasks import task_table
from bench.report.wins import strict_table

from .samples import NO_RATIOS, SETTING, arm, metric, of, part

RATIOS = {
    "noise_ms": {"ratio": 193.0, "low": 188.4, "high": 197.5},
    "sampling_ms": {"ratio": 0.996, "low": 0.981, "high": 1.011},
    "total_ms": {"ratio": 1.0781, "low": 1.0702, "high": 1.0859},
    "calls_total": {"ratio": 1.08, "low": 1.08, "high": 1.08},
    "peak_bytes": {"ratio": 1.02, "low": None, "high": None},
    "decode_ms": None,
}

COST = """\
| model | prompts | method | calls: noise | sampling | total | encode ms | noise ms | sampling ms | decode ms | total ms | peak memory | timed | from cache |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| shapes-sdxl | all sets | standard | 2 | 25 | 27 | 6.4 | 38.6 | 486.0 | 9.0 | 540.0 | 612 MiB | 100 | 0 |
| shapes-sdxl | all sets | npnet | 2 | 25 | 27<br>× 1.08 | 6.4 | 38.6<br>× 193.00 [188.40, 197.50] | 486.0<br>× 1.00 [0.98, 1.01] | 9.0 | 540.0<br>× 1.08 [1.07, 1.09] | 612 MiB<br>× 1.02 | 100 | 0 |"""  # noqa: E501

SEEDS = """\
| model | method | seed | Preference (logit) |
| --- | --- | --- | ---: |
| shapes-sdxl | standard | 0 | 1.284 |
| shapes-sdxl | standard | 1 | 1.290 |
| shapes-sdxl | npnet | 0 | 1.384<br>+0.100 [+0.070, +0.130] |
| shapes-sdxl | npnet | 1 | 1.350<br>+0.060 [+0.030, +0.090] |"""

CATEGORIES = """\
| model | prompts | category | method | Preference (logit) |
| --- | --- | --- | --- | ---: |
| shapes-sdxl | drawbench | Colors | standard<br>n 25 | 1.200 |
| shapes-sdxl | drawbench | Colors | npnet<br>n 25 | 1.300 †<br>+0.100 [+0.010, +0.190] |
| shapes-sdxl | drawbench | no category | npnet<br>n 3 | 1.100 † |"""


def lines(table: Table) -> str:
    """A table alone, in Markdown."""
    parts = "\n".join(markdown.table_lines(table, folded=True)).splitlines()
    return "\n".join(line for line in parts if line.startswith("|"))


def test_costs_with_ratios(small: dict[str, Any]) -> None:
    small["arms"] = [small["arms"][0], small["arms"][2]]
    small["arms"][0]["cost"]["ratios"] = {name: {"ratio": 1.0, "low": 1.0, "high": 1.0} for name in NO_RATIOS}
    small["arms"][1]["cost"]["ratios"] = NO_RATIOS | RATIOS
    table = cost_table(of(small))
    assert lines(table) == COST
    assert len(table.notes) == 2, "what × is, and how its interval was made"


def test_ratio_that_could_not_be_measured_is_not_made_up(small: dict[str, Any]) -> None:
    for row in small["arms"]:
        row["cost"]["ratios"] = NO_RATIOS
    assert "×" not in lines(cost_table(of(small)))


def test_seeds(small: dict[str, Any]) -> None:
    small["seeds"] = [
        part("standard", 1.284, seed=0),
        part("standard", 1.29, seed=1),
        part("npnet", 1.384, seed=0, delta=0.1, low=0.07, high=0.13),
        part("npnet", 1.35, seed=1, delta=0.06, low=0.03, high=0.09),
    ]
    assert lines(seed_table(of(small))) == SEEDS
    assert not seed_table(of(small)).folded


def test_an_incomplete_arm_has_no_deltas_by_seed_and_a_mark_goes_by_model(small: dict[str, Any]) -> None:
    npnet = next(a for a in small["arms"] if a["method"] == "npnet" and a["prompts"] == "*")
    npnet["complete"] = False
    small["arms"].append(arm("npnet", 1.1) | {"model": "other", "optimises": ["preference"]})
    given = part("npnet", 1.384, seed=0, delta=0.1, low=0.07, high=0.13)
    small["seeds"] = [given, given | {"model": "other"}]
    shown = lines(seed_table(of(small))).splitlines()
    assert shown[2].endswith("| npnet | 0 | 1.384 |")
    assert shown[3].endswith("| npnet | 0 | 1.384 †<br>+0.100 [+0.070, +0.130] |")


def test_many_seeds_are_folded(small: dict[str, Any]) -> None:
    small["seeds"] = [part("npnet", 1.0, seed=seed) for seed in range(LONG + 1)]
    assert seed_table(of(small)).folded
    said = markdown.table_lines(seed_table(of(small)), folded=True)
    assert said[1].startswith("<details><summary>61 rows</summary>\n\n| model |")


def test_categories(small: dict[str, Any]) -> None:
    small["arms"][2]["optimises"] = ["preference"]
    here = {"prompts": "drawbench", "category": "Colors", "n": 25}
    small["categories"] = [
        part("standard", 1.2, **here),
        part("npnet", 1.3, **here, delta=0.1, low=0.01, high=0.19),
        part("npnet", 1.1, prompts="drawbench", category="", n=3),
    ]
    assert lines(category_table(of(small))) == CATEGORIES


def test_several_settings_are_distinguished(small: dict[str, Any]) -> None:
    small["arms"].append(arm("standard", 1.1, steps=10))
    small["seeds"] = [part("standard", 1.1, steps=10, seed=0)]
    assert "| shapes-sdxl | ddim, 10 steps, g 5.5 | standard | 0 | 1.100 |" in lines(seed_table(of(small)))


def test_without_seeds_categories_and_tasks_there_are_no_such_tables(small: dict[str, Any]) -> None:
    found = of(small)
    assert seed_table(found).rows == category_table(found).rows == task_table(found).rows == []
    assert "## Seeds" not in markdown.render(found)


def test_a_processes_peak_is_no_methods(small: dict[str, Any]) -> None:
    """On a CPU whatever ran before is in the peak: it is said once, and compares nothing."""
    for row in small["arms"]:
        row["cost"]["peak_kind"] = "process peak (CPU)"
    table = cost_table(of(small))
    assert "MiB" not in "\n".join(lines(table).splitlines())
    assert "612 MiB at its peak: whatever ran before a method is in it, so no method's is shown" in table.notes[0]


def test_memory_measured_apart_stands_beside_each_method(small: dict[str, Any]) -> None:
    for row in small["arms"]:
        row["cost"] |= {"peak_kind": "process peak (CPU)", "memory_bytes": 3 * 2**20, "memory_batch": 4}
        row["cost"].setdefault("ratios", {})
        if not row["is_baseline"]:
            row["cost"]["memory_bytes"] = 9 * 2**20
            row["cost"]["ratios"]["memory_bytes"] = {"ratio": 3.0, "low": None, "high": None}
    table = cost_table(of(small))
    assert "3.0 MiB" in lines(table)
    assert "9.0 MiB<br>× 3.00 |" in lines(table), "no interval of one batch"
    assert "a batch of 4 images in a process of its own" in table.notes[0]
    assert "612" not in lines(table) + table.notes[0], "the process's peak is not beside it"


def test_one_geneval_overall_and_the_share_of_images_is_called_so(small: dict[str, Any]) -> None:
    small["tasks"] = [
        {**SETTING, "prompts": "*", "method": "standard", "metric": "preference", "overall": 0.788, "overall_low": 0.7,
         "overall_high": 0.8, "tasks": {"counting": {"mean": 0.5, "n": 10}}}
    ]  # fmt: skip
    said = lines(task_table(of(small)))
    assert "| overall | all images | counting |" in said
    assert "| 0.788<br>[0.700, 0.800] | 1.284 | 0.50<br>n 10 |" in said
    quality = "\n".join(metric_table(of(small)).notes)
    assert "Preference here is the share over all images" in quality


def test_a_mixed_mean_is_called_so_and_its_categories_come_first(small: dict[str, Any]) -> None:
    small["metrics"] = {"t2i_compbench": metric("T2I-CompBench", "share")}
    small["arms"] = [arm("standard", 0.5, prompts="comp", metrics={})]
    small["comparisons"] = []
    labels = {"prompts": "comp", "metric": "t2i_compbench", "n": 9}
    small["categories"] = [
        part("standard", 0.6, **labels, category="color"),
        part("standard", 0.3, **labels, category="non_spatial"),
    ]
    said = markdown.render(of(small))
    assert "| color | non spatial |" in said
    assert said.index("## T2I-CompBench by category") < said.index("## All prompt sets together")
    assert "T2I-CompBench (mixed mean; see its categories)" in said


def test_ties_as_losses_have_a_table_where_the_suite_reproduces_the_paper(small: dict[str, Any]) -> None:
    small["comparisons"][1] |= {"win_strict": 0.6, "win_strict_low": 0.5, "win_strict_high": 0.69}
    assert strict_table(of(small)).rows == []
    small["suite"]["reproduces"] = "final:T2"
    assert "| npnet | 60.0 % [50.0, 69.0] |" in lines(strict_table(of(small)))
