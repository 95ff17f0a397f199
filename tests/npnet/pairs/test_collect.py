"""Noise pairs: what a one-by-one reference computes, once for two arms, and whoever makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_forks import Forks
from PIL import Image

from bench.models.base import ModelEntry
from bench.prompts.base import Prompt
from bench.runner import executors
from bench.runner.executors import Wanted
from bench.sampling import noise
from bench.sampling.session import Memory
from npnet.pairs import collector, dataset
from npnet.pairs.collect import run

from .collecting import (
    GUIDANCE,
    PAIRS,
    PROMPTS,
    STEPS,
    images,
    picture,
    quiet,
    redenoised,
    sampled,
    settings_of,
    shards,
    together,
)

pytestmark = pytest.mark.usefixtures("kept_models")


def test_pairs_are_what_a_one_by_one_reference_computes(whole: Path, pipeline: Any) -> None:
    """Source noise, target noise by the closed form, and both images by the plain pipeline."""
    found = together(whole)
    assert found.index.tolist() == list(range(PAIRS))
    assert found.prompts == tuple(PROMPTS[k % len(PROMPTS)] for k in range(PAIRS))
    for k in (0, 3, 5):
        prompt, seed = found.prompts[k], int(found.seed[k])
        x = noise.draw(prompt, seed, (4, 8, 8))
        target = redenoised(pipeline, prompt, x)
        np.testing.assert_array_equal(found.source[k], x.numpy().astype("float16"))
        np.testing.assert_allclose(found.target[k], target.numpy(), atol=4e-3)  # half a step of fp16 near 4
        for side, latents in (("source", x), ("target", target)):
            difference = picture(whole, k, side).astype(int) - sampled(pipeline, prompt, latents)
            assert np.abs(difference).max() <= 1


def test_source_and_target_images_are_those_of_a_run(whole: Path, tmp_path: Path) -> None:
    """The same prompt, seed, steps and guidance through `bench`: its arms standard and inversion."""
    from bench import suite
    from bench.runner.generate import generate
    from bench.runner.plan import make_plan
    from bench.store import Ledger

    found = together(whole)
    k = 2
    made = suite.parse(
        "models: [shapes-sdxl]\nprompts: [shapes-pickapic]\nsamplers: [ddim]\nbaseline: standard\n"
        f"steps: {STEPS}\nguidance: {GUIDANCE}\nseeds: [{found.seed[k]}]\nmethods: [standard, inversion]\n"
        "metrics: [shapes-clipscore]\n",
        file="pair",
    )
    planned = make_plan(made, read=lambda name: [Prompt(0, found.prompts[k])])
    ledger = Ledger(tmp_path, create=True)
    generate(planned, ledger, None, device="cpu")
    arms = {cell.arm.method: cell.job_id for cell in planned.cells}
    for side, arm in (("source", "standard"), ("target", "inversion")):
        theirs = np.asarray(Image.open(tmp_path / "images" / f"{arms[arm]}.png"))
        assert np.abs(picture(whole, k, side).astype(int) - theirs).max() <= 1


def test_the_first_step_is_shared_bit_by_bit(whole: Path, prompts: Path, tmp_path: Path) -> None:
    """N + N + 2 calls become N + N + 1, and nothing else changes."""
    assert [s.calls for s in dataset.read(whole)[1]] == [2 * STEPS + 1] * 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collector, "Memory", lambda: None)
        run(settings_of(prompts, pairs=2), out=tmp_path, device="cpu", say=quiet)
    assert [s.calls for s in dataset.read(tmp_path)[1]] == [2 * STEPS + 2]
    shared, again = next(dataset.read(whole)[1]), together(tmp_path)
    for name in ("source", "target", "seed"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(again, name))
    np.testing.assert_array_equal(shared.scores["shapes-clipscore"], again.scores["shapes-clipscore"])
    assert images(tmp_path).items() <= images(whole).items()


def test_the_network_runs_as_often_as_a_shard_says(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted beside the meter, once a batch: 21 calls a pair at 10 steps, 22 without what is shared."""
    ran: list[int] = []
    hooks: list[Any] = []
    load = ModelEntry.load

    def counted(self: ModelEntry, device: str, dtype: str | None = None) -> Any:
        family = load(self, device, dtype)
        hooks.append(family.modules()["denoiser"].register_forward_hook(lambda *_: ran.append(1)))
        return family

    monkeypatch.setattr(ModelEntry, "load", counted)
    memories: list[Memory] = []

    def memory() -> Memory:
        memories.append(Memory())
        return memories[-1]

    monkeypatch.setattr(collector, "Memory", memory)
    run(settings_of(prompts, pairs=1, steps=10, keep_images=False), out=tmp_path, device="cpu", say=quiet)
    hooks[0].remove()  # the model stays loaded
    assert [s.calls for s in dataset.read(tmp_path)[1]] == [21] == [len(ran)]
    assert [(m.calls, m.reused) for m in memories] == [(21, 1)]


def test_shares_merge_to_the_same_bytes(whole: Path, prompts: Path, tmp_path: Path) -> None:
    """A shard each; two for three shards are in test_npnet_cli.py."""
    shares = 3
    for i in range(shares):
        run(settings_of(prompts), out=tmp_path / str(i), shard=(i + 1, shares), device="cpu", say=quiet)
    dataset.merge([tmp_path / str(i) for i in range(shares)], tmp_path / "all")
    assert shards(tmp_path / "all") == shards(whole)
    assert images(tmp_path / "all") == images(whole)


def test_a_share_without_a_shard_says_so(prompts: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert run(settings_of(prompts), out=tmp_path, shard=(4, 4), device="cpu", say=said.append) == 0
    assert said == ["shard 4/4 is empty: the collection has 3 shards of 2 pairs"]


def test_another_batch_size_changes_the_last_bits_at_most(whole: Path, prompts: Path, tmp_path: Path) -> None:
    run(settings_of(prompts, pairs=2), out=tmp_path, device="cpu", batch_size=1, say=quiet)
    one, other = next(dataset.read(whole)[1]), together(tmp_path)
    np.testing.assert_array_equal(one.source, other.source)
    np.testing.assert_allclose(one.target.astype(float), other.target.astype(float), atol=4e-3)


def test_two_workers_make_the_same_pairs(
    whole: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "opened", lambda *_, **__: Forks(2, executors.setting(None, 1)))
    assert run(settings_of(prompts), out=tmp_path, device="cpu", say=quiet, spread=Wanted(workers=2)) == PAIRS
    for file in sorted(whole.rglob("*.*")):
        assert (tmp_path / file.relative_to(whole)).read_bytes() == file.read_bytes(), file.name
