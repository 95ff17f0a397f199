"""Singular vectors of source and target noise: what follows from linear algebra, and the command."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from noise_pairs import collection

from bench.errors import UserError
from npnet.pairs import singular


def test_other_singular_values_leave_the_vectors_alone_and_signs_do_not_count() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 8, 8))
    u, s, vh = np.linalg.svd(x)
    np.testing.assert_allclose(singular.cosines(x, -(u * (s**2)[..., None, :]) @ vh), 1, atol=1e-9)


def test_a_small_change_leaves_them_similar_and_another_noise_does_not() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 20, 4, 16, 16))
    near, far = singular.cosines(x, x + 0.02 * y).mean(), singular.cosines(x, y).mean()
    assert near > 0.9 > 0.3 > far
    assert far == pytest.approx(np.sqrt(2 / np.pi / 16), rel=0.1), "the mean |cos| of directions at random"


def nearly(source: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
    return source + 0.02 * np.random.default_rng(len(prompts)).standard_normal(source.shape)


def test_the_command_prints_and_writes_what_a_collection_has(tmp_path: Path) -> None:
    folder, said = tmp_path / "pairs", []
    collection(folder, relation=nearly, pairs=48, chunk=16)
    singular.run(folder, out=tmp_path / "cosines.csv", say=said.append)
    assert said[0].startswith("48 pairs")
    with (tmp_path / "cosines.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    left = [float(row["left"]) for row in rows]
    assert left == sorted(left, reverse=True)
    assert left[0] > 0.99
    assert all(float(row["left"]) > float(row["left_of_another"]) for row in rows)
    singular.run(folder, out=tmp_path / "cosines.svg", say=said.append)
    assert (tmp_path / "cosines.svg").read_text().lstrip().startswith("<?xml")
    assert singular.measured(folder, most=17)[2] == 16, "a pair alone in its shard has no other beside it"
    with pytest.raises(UserError, match="holds 0 pairs"):
        singular.measured(folder, most=1)
