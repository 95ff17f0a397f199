"""What is no data, no pair or no option of the statistics is one clear line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from drawn_pairs import rng as rng

from bench.stats import (
    cluster_mean,
    clusters_needed,
    holm,
    outcomes,
    paired_delta,
    ratio,
    sign_flip_p,
    smallest_detectable,
    win_rate,
)

# Mistakes -------------------------------------------------------------------------------------------------------------

ON_VALUES = [cluster_mean, sign_flip_p, smallest_detectable, lambda d, c: clusters_needed(d, c, 1.0)]

ON_PAIRS = [paired_delta, win_rate, ratio]


@pytest.mark.parametrize("statistic", ON_VALUES)
@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([], [], "at least one value"),
        ([[1, 2]], [1], "one dimension"),
        ([1, 2, 3], [1, 2], r"3, clusters 2"),
        ([1, math.nan], [1, 2], "nan at row 1; every value must be finite"),
        ([math.inf, 1], [1, 2], "inf at row 0"),
        ([1, 2], [1, math.nan], "NaN label"),
        ([1, 2], [[1], [2]], "unhashable"),
    ],
)
def test_bad_values_are_one_clear_line(
    statistic: Callable[..., Any], values: list[float], clusters: list[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        statistic(values, clusters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("statistic", ON_PAIRS)
@pytest.mark.parametrize(
    ("first", "second", "clusters", "message"),
    [
        ([], [], [], "at least one value"),
        ([1, 2], [1], [1, 2], "different lengths"),
        ([1, 2], [1, 2], [1], r"2, clusters 1"),
        ([1, 2], [1, math.nan], [1, 2], "(baseline|denominator) has nan at row 1"),
    ],
)
def test_bad_pairs_are_one_clear_line(
    statistic: Callable[..., Any], first: list[float], second: list[float], clusters: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        statistic(first, second, clusters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: outcomes([1], [1, 2]), "different lengths: treated 1, baseline 2"),
        (lambda: outcomes([1], [math.nan]), "baseline has nan"),
        (lambda: outcomes([1], [2], tie=-0.1), "tie is -0.1"),
        (lambda: win_rate([1, 2], [2, 1], "ab", tie=math.nan), "tie is nan"),
        (lambda: win_rate([1], [2], "a", level=95), "level is 95"),
        (lambda: cluster_mean([1, 2], "ab", level=0), "level is 0"),
        (lambda: cluster_mean([1, 2], "ab", (2, 1)), r"bounds is \(2, 1\)"),
        (lambda: cluster_mean([1, 2], "ab", (0, math.inf)), "a range with two ends"),
        (lambda: cluster_mean([0, 2], "ab", (0, 1)), r"values has 2, outside its bounds \(0, 1\)"),
        (lambda: paired_delta([0, 2], [0, 0], "ab", (-1, 1)), "treated - baseline has 2"),
        (lambda: ratio([1, 2], [1, 0], "ab"), "denominator has 0"),
        (lambda: sign_flip_p([1, 2], "ab", permutations=0), "permutations is 0"),
        (lambda: holm([]), "at least one value"),
        (lambda: holm([0.1, 1.1]), "outside 0 to 1"),
        (lambda: holm([-0.1]), "outside 0 to 1"),
        (lambda: smallest_detectable([1, 2], "ab", power=80), "power is 80"),
        (lambda: smallest_detectable([1, 2], "ab", alpha=0), "alpha is 0"),
        (lambda: clusters_needed([1, 2], "ab", 0.0), "delta is 0"),
        (lambda: clusters_needed([1, 2], "ab", math.nan), "delta is nan"),
        (lambda: clusters_needed([1, 2], "aa", 1.0), "one label"),
    ],
)
def test_bad_options_say_what_was_given(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
