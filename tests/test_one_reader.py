"""One reader of the ledger, one sign of a metric, one division of costs, and a metric's own categories."""

from __future__ import annotations

import ast
import importlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ledgers import write_ledger

import bench
from bench import moved, registry
from bench.analysis.arms import read_arms
from bench.analysis.comparisons import Tabulation
from bench.analysis.costs import cost_of, of_means
from bench.analysis.pairing import Source
from bench.analysis.results import load_suite
from bench.identity.source import parse
from bench.metrics import direction
from bench.metrics.base import MetricEntry
from bench.metrics.geneval_rules import TASKS
from bench.shapes import captions
from bench.store import Cell, as_json, prompt_key

PACKAGES = [Path(bench.__file__).parent, Path(bench.__file__).parents[1] / "npnet"]


def sources() -> Iterator[Path]:
    return (path for package in PACKAGES for path in package.rglob("*.py"))


def asks(path: Path) -> bool:
    """Whether a file calls `execute` or a method like it."""
    called = (node.func for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call))
    return any(isinstance(one, ast.Attribute) and one.attr.startswith("execute") for one in called)


def test_sql_stands_in_the_store_only() -> None:
    store = PACKAGES[0] / "store"
    found = {path for path in sources() if asks(path)}
    assert {path.name for path in found if path.is_relative_to(store)} >= {"ledger.py", "reading.py", "schema.py"}
    assert {path for path in found if not path.is_relative_to(store)} == set()


# Rows ----------------------------------------------------------------------------------------------------------------


def test_a_cell_says_its_prompts_key_as_scores_have_it() -> None:
    metadata = {"tag": "counting", "include": [{"class": "circle", "count": 2}]}
    cell = Cell("standard", "m", "p", "ddim", 4, 5.0, 3, 7, "two circles", "counting", as_json(metadata), "j")
    assert cell.key == prompt_key(SimpleNamespace(text="two circles", metadata=metadata))  # type: ignore[arg-type]
    assert cell.key != cell._replace(metadata=None).key
    assert cell.carried == metadata
    assert cell.setting == ("m", "ddim", 4, 5.0)
    assert cell.place == ("m", "p", "ddim", 4, 5.0, 3, 7)


def test_a_page_of_cells_is_cut_in_order_and_filtered_by_what_is_asked(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path, lambda *_: 1.0, prompts=7, sets=("shapes-drawbench", "shapes-pickapic"))
    every = [c.prompt_index for c in ledger.page("standard", prompts="shapes-pickapic", start=0, most=100)]
    assert every == list(range(7))
    assert [c.prompt_index for c in ledger.page("standard", prompts="shapes-pickapic", start=2, most=3)] == [2, 3, 4]
    assert ledger.count("standard") == 14
    assert ledger.count("standard", text="TAKE 3 OF") == 2
    assert ledger.count("standard", text="take_3") == 0, "an underscore is a letter, not a wildcard"
    cell = ledger.page("standard", start=0, most=1)[0]
    assert [one.method for one in ledger.shown(cell, ["reseed"])] == ["reseed"]


def test_an_arm_is_read_with_none_where_its_image_is_not_made(tmp_path: Path) -> None:
    write_ledger(tmp_path, lambda *_: 0.5, prompts=4, missing=lambda method, index: index == 2).close()
    with Source(tmp_path) as run:
        (arm,) = [arm for arm in run.arms if arm.method == "reseed"]
        rows = run.rows(arm, {"shapes-preference": run.scorer("shapes-preference") or ""})
    assert rows.made.tolist() == [True, True, False, True]
    assert np.isnan(rows.scores["shapes-preference"]).tolist() == [False, False, True, False]


# Names that moved ----------------------------------------------------------------------------------------------------


def test_a_name_at_its_old_place_is_given_with_one_line_that_names_the_new_one() -> None:
    find = moved.moved("bench.old", {"prompt_key": "bench.store"})
    with pytest.warns(FutureWarning, match=r"bench\.old\.prompt_key is now bench\.store\.prompt_key"):
        assert find("prompt_key") is prompt_key
    with pytest.warns(FutureWarning, match=r"arms\.cost_of is now bench\.analysis\.costs\.cost_of"):
        assert importlib.import_module("bench.analysis.arms").cost_of is cost_of
    with pytest.raises(AttributeError, match=r"'bench\.old' has no attribute 'other'"):
        find("other")


def test_a_plugin_that_names_no_key_of_its_metadata_works_for_one_release_and_is_given_what_to_write() -> None:
    with pytest.warns(FutureWarning, match=r"metric 'theirs'.*metadata_key='include'"):
        entry = MetricEntry("theirs", title="", unit="", load=None, identify=str, needs_metadata=True)
    assert entry.judges({"include"})
    assert not entry.judges({"compbench"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MetricEntry("theirs", title="", unit="", load=None, identify=str, needs_metadata=True, metadata_key="mine")


# Signs and ratios ----------------------------------------------------------------------------------------------------


def test_a_gain_is_a_change_turned_so_that_more_is_better() -> None:
    change = np.array([-0.25, 0.0, 2.0])
    assert direction.gain(change, SimpleNamespace(higher_is_better=True)).tolist() == [-0.25, 0.0, 2.0]
    assert direction.gain(change, SimpleNamespace(higher_is_better=False)).tolist() == [0.25, 0.0, -2.0]
    assert (direction.sign(True), direction.sign(False)) == (1, -1)
    assert registry.get("metrics", "fid").sign == -1
    assert registry.get("metrics", "pickscore").sign == 1


def test_no_ratio_is_made_of_a_cost_of_nothing() -> None:
    assert of_means(3.0, 2.0) == 1.5
    assert of_means(3.0, 0.0) is None
    assert of_means(None, 2.0) is None


# Categories ----------------------------------------------------------------------------------------------------------


def test_whoever_applies_genevals_rules_reports_by_its_six_tasks() -> None:
    assert captions.TASKS == TASKS
    for name in ("geneval", "shapes-geneval", "original_geneval"):
        entry = registry.get("metrics", name)
        assert (entry.categories, entry.overall, entry.metadata_key) == (TASKS, "categories", "include"), name


def test_t2i_compbench_finds_its_category_in_the_prompts_metadata_and_has_no_overall_number() -> None:
    entry = registry.get("metrics", "t2i_compbench")
    prompt: Any = SimpleNamespace(category="val", metadata={"compbench": "3d_spatial"})
    assert entry.category_of(prompt) == "3d_spatial"
    assert entry.category_of(prompt) in entry.categories
    assert entry.overall == "none"


def test_an_overall_of_categories_needs_some() -> None:
    with pytest.raises(ValueError, match="overall 'categories' is of categories, and it has none"):
        MetricEntry("m", title="", unit="", load=None, identify=str, overall="categories")


def test_a_table_has_a_metrics_mean_by_its_own_categories(tmp_path: Path) -> None:
    """By a hook on the metadata, in the metric's order; the overall mean counts each category the same."""
    ledger = write_ledger(tmp_path, lambda m, s, index, seed, metric: float(index < 2), prompts=6,
                          category=lambda index: "of the set", described=True)  # fmt: skip
    cells = [c._replace(metadata=json.dumps({"include": [], "kind": "odd" if c.prompt_index % 3 else "even"}))
             for c in ledger.cells()]  # fmt: skip
    scores = [s._replace(prompt=key) for s, key in zip(ledger.scores(), _keys(ledger, cells), strict=True)]
    ledger.put_cells(cells)
    ledger.put_scores((*s, "{}", None) for s in scores)
    entry = MetricEntry(
        "shapes-preference", title="", unit="", load=None, identify=str, needs_metadata=True, metadata_key="include",
        categories=("odd", "even", "third"), category=lambda p: str((p.metadata or {})["kind"]), overall="categories",
    )  # fmt: skip
    entries, scorer = {entry.name: entry}, {entry.name: scores[0].scorer}
    measured = read_arms([(ledger, load_suite(ledger), [entry.name])], entries, scorer)
    tables = Tabulation(measured, measured.arms, entries, baseline="standard", optimised=lambda arm: (),
                        siblings=lambda arm: ()).tables()  # fmt: skip
    for row in tables.tasks:
        assert list(row.tasks) == ["odd", "even"]
        assert [(t.mean, t.n) for t in row.tasks.values()] == [(0.25, 4), (0.5, 2)]
        assert row.overall == pytest.approx(0.375)
    assert len(tables.tasks) == 2


def _keys(ledger: Any, cells: list[Cell]) -> Iterator[str]:
    by_job = {image.digest: job for job, image in ledger.images().items()}
    keys = {cell.job_id: cell.key for cell in cells}
    return (keys[by_job[score.digest]] for score in ledger.scores())


def test_what_says_how_a_metric_is_reported_is_in_no_digest() -> None:
    def digest(row: str) -> str:
        return parse(f"def add():\n    return {row}\n".encode(), "a.b", package=False, rows=True)[""].digest

    plain = digest("MetricEntry('m', load=None)")
    assert digest("MetricEntry('m', load=None, metadata_key='include', categories=('a',), overall='none')") == plain
    assert digest("MetricEntry('m', load=None, kind='set')") != plain
    assert digest("other('m', load=None, categories=('a',))") != digest("other('m', load=None)")
