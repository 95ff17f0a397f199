"""Teachers of pairs: which noise is the target, and that the best of several is what a plain pipeline finds best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Plug

from bench import registry
from bench.methods.base import Method
from bench.methods.reseed import other_seed
from bench.sampling import noise
from npnet.pairs import dataset
from npnet.pairs.collect import run
from npnet.teachers import base as teachers
from npnet.teachers.base import BestNearby

from .collecting import STEPS, picture, quiet, sampled, settings_of, together

pytestmark = pytest.mark.usefixtures("kept_models")

FEW = 3
"""Pairs where each has candidates."""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts of as many pairs: with their seeds, the source is the best of the first one only."""
    path = tmp_path_factory.mktemp("few") / "three.txt"
    path.write_text("a ring\na red circle\ntwo squares\n")
    return path


@pytest.mark.usefixtures("darkness")
def test_best_of_n_teaches_the_noise_of_its_best_candidate(few: Path, tmp_path: Path, pipeline: Any) -> None:
    teacher = {"use": "best_of_n", "n": 3, "chooser": "darkness"}
    made = settings_of(few, teacher=teacher, metrics=["darkness"], pairs=FEW, chunk=2)
    run(made, out=tmp_path, device="cpu", say=quiet)
    found = together(tmp_path)
    assert [s.calls for s in dataset.read(tmp_path)[1]] == [3 * STEPS] * 2, "the source's image is the first candidate"
    others = 0
    for k in range(FEW):
        prompt, seed = found.prompts[k], int(found.seed[k])
        noises = [noise.draw(prompt, other_seed(seed, i), (4, 8, 8)) for i in range(3)]
        made = [sampled(pipeline, prompt, x) for x in noises]
        best = int(np.argmin([i.mean() for i in made]))
        others += best > 0
        np.testing.assert_array_equal(found.target[k], noises[best].numpy().astype("float16"))
        assert np.abs(picture(tmp_path, k, "target").astype(int) - made[best]).max() <= 1
        source, target = found.scores["darkness"][k]
        assert target >= source
    assert 0 < others < FEW
    assert dataset.read_manifest(tmp_path).teacher[0]["judge_digest"] == registry.get("metrics", "darkness").digest()


@pytest.mark.usefixtures("darkness")
def test_candidates_of_fewer_steps_only_choose(prompts: Path, tmp_path: Path, pipeline: Any) -> None:
    """The chosen noise is sampled at the collection's own steps."""
    teacher = {"use": "best_of_n", "n": 2, "chooser": "darkness", "steps": 2}
    run(settings_of(prompts, teacher=teacher, pairs=2, steps=3), out=tmp_path, device="cpu", say=quiet)
    found = together(tmp_path)
    target = torch.from_numpy(found.target[1]).float()
    difference = picture(tmp_path, 1, "target").astype(int) - sampled(pipeline, found.prompts[1], target, 3)
    assert np.abs(difference).mean() < 1, "from the noise as stored, in fp16"


@pytest.mark.usefixtures("darkness")
def test_best_nearby_stays_on_the_sphere_and_keeps_the_source_where_it_is_best(
    few: Path, tmp_path: Path, pipeline: Any
) -> None:
    teacher = {"use": "best_nearby", "n": 3, "angle": 0.4, "chooser": "darkness"}
    made = settings_of(few, teacher=teacher, metrics=["darkness"], dtype="float32", pairs=FEW, chunk=2)
    run(made, out=tmp_path, device="cpu", say=quiet)
    found = together(tmp_path)
    assert [s.calls for s in dataset.read(tmp_path)[1]] == [3 * STEPS] * 2
    teaching = BestNearby(n=3, angle=0.4, selection_metric="darkness")
    chosen = []
    for k in range(FEW):
        x, prompt, seed = torch.from_numpy(found.source[k]), found.prompts[k], int(found.seed[k])
        near = [x, *(teaching.variation(x[None], [prompt], [seed], i)[0] for i in (1, 2))]
        for y in near[1:]:
            assert float(y.norm()) == pytest.approx(float(x.norm()), rel=1e-5)
            cosine = float((x * y).sum() / (x.norm() * y.norm()))
            assert cosine == pytest.approx(math.cos(0.4), abs=1e-5)
        best = int(np.argmin([sampled(pipeline, prompt, y).mean() for y in near]))
        chosen.append(best)
        np.testing.assert_allclose(found.target[k], near[best].numpy(), atol=1e-6)
        source, target = found.scores["darkness"][k]
        assert (target > source) == (best > 0)
    assert {0} < set(chosen), "the source was best somewhere, and somewhere it was not"


def test_a_chain_teaches_what_its_last_link_makes(prompts: Path, tmp_path: Path) -> None:
    run(settings_of(prompts, teacher=["reseed", "standard"], pairs=2), out=tmp_path, device="cpu", say=quiet)
    found = together(tmp_path)
    for k in range(2):
        x = noise.draw(found.prompts[k], other_seed(int(found.seed[k]), 1), (4, 8, 8))
        np.testing.assert_array_equal(found.target[k], x.numpy().astype("float16"))


@pytest.mark.usefixtures("darkness")
def test_a_teacher_may_ask_a_scorer_of_its_own(prompts: Path, tmp_path: Path, plug: Plug) -> None:
    """It is loaded, though nothing is scored by it, and the protocol says which it was."""
    asked: list[torch.Tensor] = []

    class Asking(Method):
        def metrics(self) -> tuple[str, ...]:
            return ("darkness",)

        def noise(self, s: Any, x: torch.Tensor) -> torch.Tensor:
            asked.append(s.reward("darkness", s.decode(x)))
            return -x

    plug("methods", asking=Asking)
    run(settings_of(prompts, teacher="asking", pairs=2), out=tmp_path, device="cpu", say=quiet)
    assert [len(values) for values in asked] == [2]
    assert dataset.read_manifest(tmp_path).teacher[0]["scorers"] == {
        "darkness": registry.get("metrics", "darkness").digest()
    }
    assert list(teachers.choosers(list(dataset.read_manifest(tmp_path).teacher))) == ["darkness"]


def test_a_plain_teachers_identity_is_what_earlier_collections_hold() -> None:
    """And that of a teacher which something else selected says by what."""
    from bench.suite import Link

    entry = registry.get("models", "shapes-sdxl")
    plain = Link(use="inversion", params={"guidance": None, "inversion_guidance": 1.0})
    inverted = {"use": "inversion", "guidance": None, "inversion_guidance": 1.0, "version": "1"}
    assert teachers.build([plain], entry)[1] == (inverted,)

    class Selected(Method):
        def optimises(self) -> tuple[str, ...]:
            return ("hpsv2",)

    with registry.configured("methods", {"selected": Selected}):
        identity = teachers.build([plain, Link(use="selected", params={})], entry)[1]
    assert identity == (inverted, {"use": "selected", "version": "1", "optimises": ["hpsv2"]})
    assert list(teachers.choosers([list(identity), [{"use": "best_of_n", "chooser": "mps"}]])) == ["hpsv2", "mps"]
    assert list(teachers.choosers("inversion")) == list(teachers.choosers(None)) == []
