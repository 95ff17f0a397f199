"""A ledger as columns: whose each score is, which scorer gave it, and what each number is of."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.judged import Judged
from bench.metrics.base import MetricEntry
from bench.registry import get
from bench.stats.resampling import SPARSE, numbered
from bench.store import Image, Ledger, columns

METRICS = ("pickscore", "hpsv2")
TODAY = {name: f"{name}-2" for name in METRICS}
SCORES = [
    # Not in the order of the table's key.
    ("b", "prompt", "pickscore", "pickscore-2", 0.5, "{}", 4.0),
    ("a", "prompt", "hpsv2", "hpsv2-2", 0.25, "{}", None),
    ("a", "prompt", "hpsv2", "hpsv2-1", 0.75, "{}", 64.0),
    ("a", "prompt", "pickscore", "pickscore-2", 0.125, "{}", 2.0),
    ("a", "prompt", "aesthetic", "aesthetic-1", 6.0, "{}", 1.0),
    ("candidate", "prompt", "pickscore", "pickscore-2", 9.0, "{}", 8.0),
]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger(tmp_path, create=True)
    found.put_scores(SCORES)
    yield found
    found.close()


def test_a_score_is_of_its_image_its_metric_and_its_scorer(ledger: Ledger) -> None:
    found = columns.image_scores(ledger, TODAY)
    rows = zip(found.image, found.metric, found.ours, found.value, found.ms, strict=True)
    named = {(found.images[image][0], int(metric), bool(ours), value, None if np.isnan(ms) else ms)
             for image, metric, ours, value, ms in rows}  # fmt: skip
    assert named == {
        ("a", 0, True, 0.125, 2.0),
        ("a", 1, True, 0.25, None),
        ("a", 1, False, 0.75, 64.0),
        ("a", -1, False, 6.0, 1.0),
        ("b", 0, True, 0.5, 4.0),
        ("candidate", 0, True, 9.0, 8.0),
    }
    assert {prompt for _, prompt in found.images} == {"prompt"}


def test_no_metric_of_images_is_asked_for(ledger: Ledger) -> None:
    found = columns.image_scores(ledger, {})
    assert set(found.metric) == {-1}
    assert not found.ours.any()


def test_scores_of_todays_scorers_count_and_all_their_times_do(ledger: Ledger) -> None:
    """A candidate is in no cell: its score stands in no row, and its milliseconds were spent all the same."""
    entries: dict[str, MetricEntry] = {name: get("metrics", name) for name in METRICS}
    judged = Judged(entries, TODAY)
    assert judged.number([("a", "prompt"), None, ("b", "prompt"), ("a", "prompt")]) == [0, -1, 1, 0]
    judged.read(ledger)
    assert np.array_equal(judged.scores(), [[0.125, 0.5, np.nan], [0.25, np.nan, np.nan]], equal_nan=True)
    assert judged.unused == {"pickscore": 0, "hpsv2": 1}
    assert judged.ms == {"pickscore": (14.0, 3), "hpsv2": (0.0, 0)}


def test_it_is_read_as_it_was_at_one_moment_and_leaves_no_transaction_open(ledger: Ledger) -> None:
    columns.image_scores(ledger, TODAY)
    assert not ledger.db.in_transaction
    ledger.hold_still()
    columns.image_scores(ledger, TODAY)
    assert ledger.db.in_transaction
    ledger.db.execute("COMMIT")


def image(name: str, cost: str) -> Image:
    return Image(name, name, f"{name}.png", 0, 4, 1.0, 2.0, 3.0, 4.0, 100, "process", 8, "CPU", "", "", cost=cost)


def test_counts_of_a_cost_are_those_of_the_stages_that_a_method_decides(ledger: Ledger) -> None:
    """Encoding and decoding are every method's; a stage without a count has none of it."""
    cost = ('{"encode": {"networks": 9}, "noise": {"backwards": 2, "rewards": 0.5}, "sampling": {"backwards": 3}, '
            '"select": {"rewards": 4, "ms": 7.5}}')  # fmt: skip
    ledger.put_images([image("x", cost), image("y", "{}")])
    found = columns.image_costs(ledger)
    order = found["job_id"].index("x"), found["job_id"].index("y")
    assert [[found[name][row] for name in ("backwards", "networks", "rewards")] for row in order] == [
        [5, 0, 4.5],
        [0, 0, 0],
    ]


@pytest.mark.parametrize("cost", ["[]", "no JSON", '{"noise": 3}'])
def test_a_cost_that_is_none_is_a_broken_ledger(ledger: Ledger, cost: str) -> None:
    ledger.put_images([image("x", cost)])
    with pytest.raises(sqlite3.DatabaseError, match="cost record"):
        columns.image_costs(ledger)


@given(st.lists(st.integers(-2, 40), min_size=1, max_size=30))
def test_prompts_are_numbered_in_their_order_and_without_gaps(labels: list[int]) -> None:
    place = {label: i for i, label in enumerate(sorted({*labels}))}
    for unit in (1, SPARSE * len(labels)):  # counted, and sorted
        assert numbered(np.array(labels) * unit).tolist() == [place[label] for label in labels]
