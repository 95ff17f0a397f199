"""MPS on a small random checkpoint: a preference between two images, and the words that it leaves out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import small_clips as small
from small_scorers import PROMPTS, entry_at, pictures
from small_scorers import hps as hps

from bench.errors import UserError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def mps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.mps_folder(tmp_path_factory.mktemp("mps"), "pairs")


def test_mps_prefers_one_image_as_far_as_it_refuses_the_other(mps: Path) -> None:
    scorer: Any = entry_at("mps", mps).loaded("cpu")
    ours, theirs = pictures(), small.near("settings")[1:3]
    there = scorer.score_pairs(theirs, ours, PROMPTS)
    back = scorer.score_pairs(ours, theirs, PROMPTS)
    logits = [v.value for v in scorer.score(ours, PROMPTS)]
    for one, other, logit in zip(there, back, logits, strict=True):
        assert one.value + other.value == pytest.approx(1, abs=1e-5)
        assert one.value == pytest.approx(1 / (1 + np.exp(one.detail["logits"][0] - one.detail["logits"][1])))
        assert one.detail["logits"][1] == pytest.approx(logit, abs=1e-4)
        assert abs(one.value - 0.5) > 1e-3
    assert [v.value for v in scorer.score_pairs(ours, ours, PROMPTS)] == pytest.approx([0.5, 0.5], abs=1e-5)


def test_mps_leaves_out_the_words_that_the_condition_does_not_ask_for(
    mps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer: Any = entry_at("mps", mps).loaded("cpu")
    found = []
    for threshold in (0.01, -1e9):
        monkeypatch.setattr("bench.metrics.mps.THRESHOLD", threshold)
        found.append([v.value for v in scorer.score(pictures(), PROMPTS)])
    assert np.abs(np.subtract(*found)).min() > 0.01


def test_a_logit_that_is_not_a_number_is_no_preference() -> None:
    from bench.metrics.mps import _logistic

    assert np.isnan(_logistic(float("nan")))
    assert [_logistic(x) for x in (-1000.0, 0.0, 1000.0)] == [0.0, 0.5, 1.0]


def test_a_state_dict_of_mps_without_its_cross_attention_is_refused(mps: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mps, tmp_path / "mps"))
    state = {n: v for n, v in small.mps_state("pairs").items() if not n.endswith("layers.1.0.fn.to_q.weight")}
    torch.save(state, folder / "MPS_overall_state.pth")
    with pytest.raises(UserError, match=r"another version or architecture: it lacks layers\.1\.0\.fn\.to_q\.weight"):
        entry_at("mps", folder).loaded("cpu")
