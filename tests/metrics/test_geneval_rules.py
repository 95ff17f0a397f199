"""GenEval's public rules on boxes made by hand (PROTOCOL 2; djghosh13/geneval, evaluate_images.py)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.metrics.geneval_rules import Detection, GenEval, judge, relations
from bench.prompts.base import Prompt

Box = tuple[float, float, float, float]


def seen(name: str, confidence: float = 0.95, *, color: str | None = None, at: Box = (0, 0, 10, 10)) -> Detection:
    return Detection(name, confidence, at, color=color)


def around(x: float, y: float, width: float = 10, height: float = 10) -> Detection:
    return seen("bench", at=(x - width / 2, y - height / 2, x + width / 2, y + height / 2))


def colors(some: Sequence[Detection]) -> list[str]:
    return [d.color or "" for d in some]


def right(metadata: dict[str, Any], *detections: Detection) -> bool:
    verdict, wrong = judge(metadata, detections, colors)
    assert verdict == (not wrong)
    return verdict


def include(*clauses: dict[str, Any], tag: str = "two_object", **more: Any) -> dict[str, Any]:
    return {"tag": tag, "include": list(clauses), **more}


BENCH = {"class": "bench", "count": 1}


def test_a_clause_needs_its_class() -> None:
    assert right(include(BENCH), seen("bench"))
    assert not right(include(BENCH), seen("cow"))
    assert not right(include(BENCH))


def test_all_include_clauses_must_hold() -> None:
    both = include(BENCH, {"class": "cow", "count": 1})
    assert right(both, seen("cow"), seen("bench"))
    assert not right(both, seen("bench"), seen("bench"))


def test_more_than_the_count_is_no_mistake_without_an_exclude_clause() -> None:
    two = include({"class": "bench", "count": 2}, tag="counting")
    assert [right(two, *[seen("bench")] * n) for n in range(5)] == [False, False, True, True, True]


def test_counting_prompts_exclude_one_more() -> None:
    """The public file's counting lines: include n, exclude n + 1."""
    three = include({"class": "bench", "count": 3}, tag="counting", exclude=[{"class": "bench", "count": 4}])
    assert [right(three, *[seen("bench")] * n) for n in range(6)] == [False, False, False, True, False, False]


@pytest.mark.parametrize(
    ("tag", "confidence", "expected"),
    [
        ("single_object", 0.29, False),
        ("single_object", 0.3, False),
        ("single_object", 0.31, True),
        ("colors", 0.31, True),
        ("counting", 0.31, False),
        ("counting", 0.9, False),
        ("counting", 0.91, True),
    ],
)
def test_a_detection_counts_above_the_bar_of_its_task(tag: str, confidence: float, expected: bool) -> None:
    """Confidence over 0.3, and over 0.9 where objects are counted."""
    assert right(include(BENCH, tag=tag), seen("bench", confidence)) == expected


def test_unsure_detections_do_not_exceed_a_count() -> None:
    two = include({"class": "bench", "count": 2}, tag="counting", exclude=[{"class": "bench", "count": 3}])
    assert right(two, seen("bench"), seen("bench"), seen("bench", 0.85))
    assert not right(two, seen("bench"), seen("bench"), seen("bench", 0.92))


@given(st.permutations([("red", 0.95), ("blue", 0.6), ("blue", 0.5)]))
def test_only_the_most_confident_count_is_judged(order: list[tuple[str, float]]) -> None:
    """The colour of a less confident object is ignored, in whatever order the detector names them."""
    found = [seen("bench", c, color=name) for name, c in order]
    assert right(include({**BENCH, "color": "red"}), *found)
    assert not right(include({**BENCH, "color": "blue"}), *found)
    assert not right(include({"class": "bench", "count": 2, "color": "blue"}), *found)
    assert not right(include({"class": "bench", "count": 2, "color": "red"}), *found)


def test_as_many_objects_as_the_count_need_the_color() -> None:
    two = include({"class": "bench", "count": 2, "color": "red"})
    assert right(two, seen("bench", color="red"), seen("bench", color="red"))
    assert not right(two, seen("bench", color="red"), seen("bench", color="blue"))
    assert not right(two, seen("bench", color="red"), seen("cow", color="red"))


def test_colors_are_asked_for_only_where_a_clause_names_one() -> None:
    def never(some: Sequence[Detection]) -> list[str]:
        raise AssertionError("the colour classifier is a network; it was called for nothing")

    assert judge(include(BENCH), [seen("bench")], never) == (True, [])
    assert not judge(include({**BENCH, "color": "red"}), [seen("cow")], never)[0]


def test_exclude_fails_from_its_count_on() -> None:
    no_cows = include(BENCH, exclude=[{"class": "cow", "count": 2}])
    assert right(no_cows, seen("bench"))
    assert right(no_cows, seen("bench"), seen("cow"))
    assert not right(no_cows, seen("bench"), seen("cow"), seen("cow"))
    assert right(no_cows, seen("bench"), seen("cow"), seen("cow", 0.3))


def test_no_more_than_sixteen_of_a_class_are_looked_at() -> None:
    crowd = [seen("bench")] * 20
    assert right(include({"class": "bench", "count": 16}, tag="counting"), *crowd)
    assert not right(include({"class": "bench", "count": 17}, tag="counting"), *crowd)
    assert right(include(BENCH, tag="counting", exclude=[{"class": "bench", "count": 17}]), *crowd)
    assert not right(include(BENCH, tag="counting", exclude=[{"class": "bench", "count": 16}]), *crowd)
    # Sixteen of one class leave room for another.
    assert right(include({"class": "cow", "count": 1}), *crowd, seen("cow", 0.31))


# Positions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "named"),
    [
        (-50, 0, {"left of"}),
        (50, 0, {"right of"}),
        (0, -50, {"above"}),
        (0, 50, {"below"}),
        # On a diagonal both components are 0.71 of the offset, less 0.1·20 px.
        (-50, -50, {"left of", "above"}),
        (50, 50, {"right of", "below"}),
        (50, -50, {"right of", "above"}),
        (0, 0, set()),
    ],
)
def test_relations_have_y_pointing_down(x: float, y: float, named: set[str]) -> None:
    assert relations(around(x, y), around(0, 0)) == named


@pytest.mark.parametrize(("degrees", "both"), [(35, False), (40, True), (45, True), (50, True), (55, False)])
def test_two_relations_hold_where_both_components_pass_one_half(degrees: float, both: bool) -> None:
    """Offset 100 px, boxes of 10 px: a component is sin (or cos) less 0.1·20/100 = 0.02, and 0.5 is at 31.3°.

    Wider boxes shrink more: of 50 px, by 0.1, and 0.5 is at 36.9°.
    """
    x, y = 100 * math.cos(math.radians(degrees)), 100 * math.sin(math.radians(degrees))
    assert relations(around(x, y), around(0, 0)) == {"right of", "below"}
    expected = {"right of", "below"} if both else {"right of" if degrees < 45 else "below"}
    assert relations(around(x, y, 50, 50), around(0, 0, 50, 50)) == expected


def test_the_offset_is_shrunk_by_a_tenth_of_the_summed_sizes_on_each_axis() -> None:
    """Widths 60 and 40, heights 10: 10 px off the x offset and 2 px off the y offset, over the unshrunk length."""
    wide, other = around(0, 0, 60, 10), around(20.1, 0, 40, 10)
    assert relations(other, wide) == {"right of"}
    # (20 - 10) / 20 is one half, and one half is not enough.
    assert relations(around(20, 0, 40, 10), wide) == set()
    assert relations(around(0, 5, 40, 10), wide) == {"below"}
    assert relations(around(0, 3.9, 40, 10), wide) == set()


def test_objects_within_a_tenth_of_their_sizes_have_no_relation() -> None:
    assert relations(around(9.9, 9.9, 50, 50), around(0, 0, 50, 50)) == set()
    assert relations(around(7, 7, 50, 50), around(7, 7, 20, 20)) == set()


numbers = st.floats(-100, 100)
sizes = st.floats(1, 60)


@given(numbers, numbers, sizes, sizes, sizes, sizes)
def test_a_turned_pair_has_the_opposite_relations(x: float, y: float, w: float, h: float, w2: float, h2: float) -> None:
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    a, b = around(x, y, w, h), around(0, 0, w2, h2)
    found = relations(a, b)
    assert relations(b, a) == {opposite[r] for r in found}
    assert not {"left of", "right of"} <= found
    assert not {"above", "below"} <= found


LEFT = {"class": "bench", "count": 1, "position": ["left of", 0]}


def test_position_is_read_against_the_clause_that_it_points_to() -> None:
    metadata = include({"class": "cow", "count": 1}, LEFT, tag="position")
    left, middle = (0, 0, 10, 10), (50, 0, 60, 10)
    assert right(metadata, seen("bench", at=left), seen("cow", at=middle))
    assert not right(metadata, seen("bench", at=middle), seen("cow", at=left))


def test_position_without_its_target_fails() -> None:
    metadata = include({"class": "cow", "count": 1}, LEFT, tag="position")
    verdict, wrong = judge(metadata, [seen("bench")], colors)
    assert not verdict
    assert wrong == ["expected cow >= 1, found 0", "no target for bench to be left of"]
    # A target of the wrong colour is no target either.
    colored = include({"class": "cow", "count": 1, "color": "red"}, LEFT, tag="position")
    assert not right(colored, seen("bench"), seen("cow", color="blue", at=(50, 0, 60, 10)))


def test_every_pair_of_subject_and_target_must_hold() -> None:
    metadata = include(
        {"class": "cow", "count": 2}, {"class": "bench", "count": 1, "position": ["left of", 0]}, tag="position"
    )
    near, middle, far = (0, 0, 10, 10), (50, 0, 60, 10), (90, 0, 99, 10)
    assert right(metadata, seen("bench", at=near), seen("cow", at=middle), seen("cow", at=far))
    assert not right(metadata, seen("bench", at=middle), seen("cow", at=near), seen("cow", at=far))


def test_only_the_most_confident_pair_is_placed() -> None:
    metadata = include({"class": "cow", "count": 1}, LEFT, tag="position")
    found = [
        seen("bench", 0.9, at=(0, 0, 10, 10)),
        seen("bench", 0.5, at=(90, 0, 99, 10)),
        seen("cow", 0.9, at=(50, 0, 60, 10)),
    ]
    assert right(metadata, *found)
    assert right(metadata, *reversed(found))


# The metric ---------------------------------------------------------------------------------------------------------


class Fixed:
    """Answers with given detections, and with the colours that they carry."""

    def __init__(self, *found: list[Detection]):
        self.found = list(found)

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        return self.found

    def colors(self, image: np.ndarray, detections: Sequence[Detection]) -> list[str]:
        # The image holds the answer, so that a colour asked of another image would show.
        return [str(image.flat[0])] * len(detections)


def test_the_metric_is_one_for_a_right_image_and_says_what_is_wrong_with_others() -> None:
    images = [np.full((2, 2, 3), k, np.uint8) for k in range(3)]
    prompts = [Prompt(k, "a bench", "colors", include({**BENCH, "color": "1"}, tag="colors")) for k in range(3)]
    values = GenEval(Fixed([seen("bench")], [seen("bench")], [])).score(images, prompts)
    assert [v.value for v in values] == [0.0, 1.0, 0.0]
    assert [v.detail["tag"] for v in values] == ["colors"] * 3
    assert [v.detail["wrong"] for v in values] == [
        ["expected 1 bench >= 1, found 0"],
        [],
        ["expected bench >= 1, found 0"],
    ]


def test_a_prompt_without_metadata_has_no_score_and_the_reason_is_reported() -> None:
    (value,) = GenEval(Fixed([])).score([np.zeros((2, 2, 3), np.uint8)], [Prompt(0, "a bench")])
    assert value.reason == "its prompt carries no metadata of GenEval's kind"
