"""Scores added to a collection later are those that collecting would have computed, for images that were kept."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bench.errors import UserError
from bench.store import exclusive
from npnet.pairs.collect import run
from npnet.pairs.rescore import score

from .collecting import quiet, settings_of, together

pytestmark = pytest.mark.usefixtures("kept_models")


def test_a_score_added_later_is_what_collect_would_have_computed(prompts: Path, tmp_path: Path) -> None:
    out, few = tmp_path / "c", partial(settings_of, prompts, pairs=2, chunk=1)
    run(few(), out=out, device="cpu", say=quiet)
    assert score(out, metrics=["shapes-aesthetic"], device="cpu") == 2 * 2
    assert score(out, metrics=["shapes-aesthetic"], device="cpu") == 0
    both = ["shapes-clipscore", "shapes-aesthetic"]
    run(few(metrics=both), out=tmp_path / "both", device="cpu", say=quiet)
    one, other = together(out), together(tmp_path / "both")
    for name in both:
        np.testing.assert_allclose(one.scores[name], other.scores[name], atol=1e-5)
    assert one.metric_digests == other.metric_digests
    np.testing.assert_array_equal(one.target, other.target)
    assert run(few(metrics=both), out=out, device="cpu", say=quiet) == 0


def test_a_metric_of_metadata_judges_a_registered_set_later(tmp_path: Path) -> None:
    given = settings_of("shapes-pickapic", pairs=2, steps=2, metrics=[])
    run(given, out=tmp_path / "c", device="cpu", say=quiet)
    score(tmp_path / "c", metrics=["shapes-geneval"], device="cpu")
    now = given.model_copy(update={"metrics": ("shapes-geneval",)})
    run(now, out=tmp_path / "d", device="cpu", say=quiet)
    np.testing.assert_array_equal(
        together(tmp_path / "c").scores["shapes-geneval"], together(tmp_path / "d").scores["shapes-geneval"]
    )


def test_only_one_process_scores_a_collection(whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "c"))
    with exclusive(out), pytest.raises(UserError, match=r"another npnet score runs there; wait for it$"):
        score(out, metrics=["shapes-aesthetic"], device="cpu")


def test_only_kept_images_can_be_scored_again(prompts: Path, tmp_path: Path) -> None:
    run(settings_of(prompts, pairs=2, steps=2, keep_images=False), out=tmp_path, device="cpu", say=quiet)
    assert not (tmp_path / "images").exists()
    with pytest.raises(UserError, match=r"000000-source\.png: missing; only a collection with keep_images"):
        score(tmp_path, metrics=["shapes-aesthetic"], device="cpu")
    with pytest.raises(UserError, match="not scored by shapes-aesthetic; add scores with npnet score"):
        run(settings_of(prompts, pairs=2, steps=2, metrics=["shapes-aesthetic"]), out=tmp_path, device="cpu", say=quiet)
