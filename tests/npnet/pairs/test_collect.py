"""Noise pairs: what a one-by-one reference computes, once for two arms, whoever makes them and however often killed."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import Plug, call_main
from forked import Forks, killed_while
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench import registry
from bench.errors import UserError
from bench.methods.base import Method
from bench.metrics.base import MetricEntry, Value
from bench.models.base import ModelEntry
from bench.prompts.base import Prompt
from bench.runner import executors
from bench.runner.executors import Wanted
from bench.sampling import noise
from bench.sampling.records import MEMORYLESS, SINGLE, Sampling, Weights
from bench.sampling.session import Memory
from npnet import config as configs
from npnet.cli import main
from npnet.pairs import dataset, prompting
from npnet.pairs.collect import run
from npnet.pairs.collection import CollectConfig, nth_seed, plan, twin
from npnet.pairs.rescore import score
from npnet.teachers import base as teachers
from npnet.teachers.base import BestNearby

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = ("a red circle", "two squares", "a blue star above a ring", "a pink square and an orange star", "a ring")
STEPS, GUIDANCE, PAIRS = 2, 5.0, 12
FEW = 6
"""Pairs where each has candidates; with these prompts and seeds the source is the best in some of them only."""
CONFIGS = Path(configs.__file__).parent / "configs"


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "five.txt"
    path.write_text("\n".join(PROMPTS) + "\n\n")
    return path


def settings_of(prompts: Path | str, **change: Any) -> CollectConfig:
    given = {
        "model": "shapes-sdxl",
        "prompts": str(prompts),
        "pairs": PAIRS,
        "seeds": [0, 9],
        "steps": STEPS,
        "guidance": GUIDANCE,
        "metrics": ["shapes-clipscore"],
        "keep_images": True,
        "chunk": 4,
    }
    return CollectConfig.model_validate({**given, **change})


@pytest.fixture(scope="module")
def whole(prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished collection of twelve pairs, which tests read and never change."""
    out = tmp_path_factory.mktemp("whole")
    assert run(settings_of(prompts), out=out, device="cpu", say=quiet) == PAIRS
    return out


def together(folder: Path) -> dataset.Shard:
    """All pairs of a collection as one shard."""
    parts = list(dataset.read(folder)[1])
    return replace(
        parts[0],
        index=np.concatenate([p.index for p in parts]),
        seed=np.concatenate([p.seed for p in parts]),
        prompts=tuple(t for p in parts for t in p.prompts),
        source=np.concatenate([p.source for p in parts]),
        target=np.concatenate([p.target for p in parts]),
        scores={m: np.concatenate([p.scores[m] for p in parts]) for m in parts[0].scores},
    )


def picture(folder: Path, k: int, side: str) -> np.ndarray:
    with Image.open(dataset.image_path(folder, k, side)) as opened:
        return np.asarray(opened.convert("RGB"))


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """The embedded model as a plain diffusers pipeline with DDIM, nothing of ours around it."""
    from diffusers import DDIMScheduler, DiffusionPipeline

    entry: ModelEntry = registry.get("models", "shapes-sdxl")
    pipe = DiffusionPipeline.from_pretrained(entry.source, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    return pipe


def sampled(pipe: Any, prompt: str, latents: torch.Tensor, steps: int = STEPS) -> np.ndarray:
    image = pipe(prompt, latents=latents[None], num_inference_steps=steps, guidance_scale=GUIDANCE).images[0]
    return np.asarray(image)


def redenoised(pipe: Any, prompt: str, x: torch.Tensor) -> torch.Tensor:
    """Eq. 2 and 3 by hand: x' = x + B (e1 - e2) with A = 1, C = -B where both moves are between t0 and t1."""
    cond, _, pooled, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
    pipe.scheduler.set_timesteps(STEPS)
    t0, t1 = pipe.scheduler.timesteps[:2].tolist()
    ids = torch.tensor([[64, 64, 0, 0, 64, 64]], dtype=cond.dtype)

    def epsilon(y: torch.Tensor, embeds: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        extra = {"text_embeds": text, "time_ids": ids}
        return pipe.unet(y, t0, encoder_hidden_states=embeds, added_cond_kwargs=extra, return_dict=False)[0]

    abar = pipe.scheduler.alphas_cumprod
    a0, s0, a1, s1 = (float(v) for t in (t0, t1) for v in (abar[t] ** 0.5, (1 - abar[t]) ** 0.5))
    with torch.inference_mode():
        x = x[None]
        u, c = epsilon(x, torch.zeros_like(cond), torch.zeros_like(pooled)), epsilon(x, cond, pooled)
        e1 = u + GUIDANCE * (c - u)
        lower = a1 * (x - s0 * e1) / a0 + s1 * e1
        e2 = epsilon(lower, cond, pooled)
        return (a0 * (lower - s1 * e2) / a1 + s0 * e2)[0]


def test_pairs_are_what_a_one_by_one_reference_computes(whole: Path, pipeline: Any) -> None:
    """Source noise, target noise by the closed form, and both images by the plain pipeline."""
    found = together(whole)
    assert found.index.tolist() == list(range(PAIRS))
    assert found.prompts == tuple(PROMPTS[k % len(PROMPTS)] for k in range(PAIRS))
    for k in range(0, PAIRS, 3):
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
    from npnet.pairs import collector

    assert [s.calls for s in dataset.read(whole)[1]] == [2 * STEPS + 1] * 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collector, "Memory", lambda: None)
        run(settings_of(prompts, pairs=4), out=tmp_path, device="cpu", say=quiet)
    assert [s.calls for s in dataset.read(tmp_path)[1]] == [2 * STEPS + 2]
    shared, again = next(dataset.read(whole)[1]), together(tmp_path)
    for name in ("source", "target", "seed"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(again, name))
    np.testing.assert_array_equal(shared.scores["shapes-clipscore"], again.scores["shapes-clipscore"])
    assert images(tmp_path).items() <= images(whole).items()


@pytest.mark.parametrize(("steps", "calls"), [(10, 21), (4, 9)])
def test_the_network_runs_as_often_as_a_shard_says(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, calls: int
) -> None:
    """Counted beside the meter, once a batch: 21 calls a pair at 10 steps, 22 without what is shared."""
    from npnet.pairs import collector

    ran: list[int] = []
    load = ModelEntry.load

    def counted(self: ModelEntry, device: str, dtype: str | None = None) -> Any:
        family = load(self, device, dtype)
        family.modules()["denoiser"].register_forward_hook(lambda *_: ran.append(1))
        return family

    monkeypatch.setattr(ModelEntry, "load", counted)
    memories: list[Memory] = []

    def memory() -> Memory:
        memories.append(Memory())
        return memories[-1]

    monkeypatch.setattr(collector, "Memory", memory)
    run(settings_of(prompts, pairs=1, steps=steps, keep_images=False), out=tmp_path, device="cpu", say=quiet)
    assert [s.calls for s in dataset.read(tmp_path)[1]] == [calls] == [len(ran)]
    assert [(m.calls, m.reused) for m in memories] == [(calls, 1)]


def images(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "images").iterdir())}


def shards(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in dataset.shards(folder)}


def test_shares_merge_to_the_same_bytes(whole: Path, prompts: Path, tmp_path: Path) -> None:
    """A shard each; two for three shards are in tests/npnet/test_npnet_cli.py."""
    shares = 3
    for i in range(shares):
        run(settings_of(prompts), out=tmp_path / str(i), shard=(i + 1, shares), device="cpu", say=quiet)
    dataset.merge([tmp_path / str(i) for i in range(shares)], tmp_path / "all")
    assert shards(tmp_path / "all") == shards(whole)
    assert images(tmp_path / "all") == images(whole)


def test_a_share_without_a_shard_says_so(prompts: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert run(settings_of(prompts), out=tmp_path, shard=(4, 4), device="cpu", say=said.append) == 0
    assert said == ["shard 4/4 is empty: the collection has 3 shards of 4 pairs"]


def test_another_batch_size_changes_the_last_bits_at_most(whole: Path, prompts: Path, tmp_path: Path) -> None:
    run(settings_of(prompts, pairs=4), out=tmp_path, device="cpu", batch_size=3, say=quiet)
    one, other = next(dataset.read(whole)[1]), together(tmp_path)
    np.testing.assert_array_equal(one.source, other.source)
    np.testing.assert_allclose(one.target.astype(float), other.target.astype(float), atol=4e-3)


def test_seeds_are_in_range_and_no_prompt_has_one_twice(prompts: Path) -> None:
    """Fifty pairs of five prompts and ten seeds are all that there are."""
    planned = plan(settings_of(prompts, pairs=50, seeds=[100, 109]))
    found = [(p.text, seed) for p, seed in map(planned.pair, range(50))]
    assert Counter(found) == Counter((text, seed) for text in PROMPTS for seed in range(100, 110))
    assert [text for text, _ in found] == list(PROMPTS) * 10
    assert found[:12] == [(p.text, s) for p, s in map(plan(settings_of(prompts, seeds=[100, 109])).pair, range(12))]


@given(st.text(max_size=5), st.integers(0, 2000), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_a_prompts_seeds_are_a_shuffle(prompt: str, low: int, size: int) -> None:
    assert sorted(nth_seed(prompt, n, (low, low + size - 1)) for n in range(size)) == list(range(low, low + size))


def test_every_seed_is_as_likely_as_another() -> None:
    """Chi-square over the first seeds of 4,000 prompts: 9 degrees of freedom, 27.9 at p = 0.001."""
    counts = Counter(nth_seed(str(i), 0, (0, 9)) for i in range(4000))
    assert sum((counts[k] - 400) ** 2 / 400 for k in range(10)) < 27.9


def test_a_prompt_that_stands_twice_in_the_list_gets_other_seeds(tmp_path: Path) -> None:
    path = tmp_path / "twice.txt"
    path.write_text("a ring\na star\na ring\n")
    planned = plan(settings_of(path, pairs=9, seeds=[0, 5]))
    assert len({(p.text, seed) for p, seed in map(planned.pair, range(9))}) == 9
    with pytest.raises(UserError, match="9 pairs of 3 prompts need 6 seeds of a prompt, and seeds \\[0, 4\\] are 5"):
        plan(settings_of(path, pairs=9, seeds=[0, 4]))


# Kill and resume ---------------------------------------------------------------------------------------------------


def test_a_collection_killed_half_way_ends_as_one_left_alone(
    prompts: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with two of its three shards written, and what it may leave half-written beside them."""
    from npnet.pairs.collector import Collector

    given, out = settings_of(prompts), tmp_path / "killed"
    inner = Collector.batch

    def batch(self: Collector, numbers: Sequence[int]) -> Any:
        if numbers[0] == 8:
            time.sleep(600)
        return inner(self, numbers)

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "batch", batch)
        collecting = partial(run, given, out=out, device="cpu", threads=1, say=quiet)
        number = killed_while(collecting, lambda: len(dataset.shards(out)) == 2)
    (out / f".pairs-000002.safetensors.{number}.tmp").write_bytes(b"half")
    (out / "images" / f".000011-source.png.{number}.tmp").write_bytes(b"half")
    for left in out.rglob("*.tmp"):
        os.utime(left, (0, 0))
    assert run(given, out=out, device="cpu", say=quiet) == 4
    assert not list(out.rglob("*.tmp"))
    assert shards(out) == shards(whole)
    assert images(out) == images(whole)
    assert run(given, out=out, device="cpu", say=quiet) == 0


def copied(folder: Path, to: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, to))


def test_a_truncated_shard_is_named_and_made_again_once_deleted(whole: Path, prompts: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "c")
    path = dataset.shard_path(out, 1)
    good = path.read_bytes()
    path.write_bytes(good[:-100])
    with pytest.raises(UserError, match=r"pairs-000001\.safetensors: not a whole shard.*delete it"):
        run(settings_of(prompts), out=out, device="cpu", say=quiet)
    path.unlink()
    assert run(settings_of(prompts), out=out, device="cpu", say=quiet) == 4
    assert path.read_bytes() == good


def test_what_another_machine_may_still_be_writing_stays(whole: Path, prompts: Path, tmp_path: Path) -> None:
    """Its process number means nothing here; only what was not touched for a day is removed."""
    out = copied(whole, tmp_path / "c")
    fresh, old = out / ".pairs-000001.safetensors.4194305.tmp", out / "images" / ".000004-source.png.4194305.tmp"
    for path in (fresh, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    run(settings_of(prompts), out=out, device="cpu", say=quiet)
    assert (fresh.exists(), old.exists()) == (True, False)


def test_a_batch_that_does_not_fit_a_gpus_memory_is_halved(
    whole: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from npnet.pairs.collector import Collector

    inner, tried = Collector.batch, []

    def batch(self: Collector, numbers: Sequence[int]) -> Any:
        tried.append(len(numbers))
        if len(numbers) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(self, numbers)

    monkeypatch.setattr(Collector, "batch", batch)
    run(settings_of(prompts, pairs=8), out=tmp_path, device="cpu", say=quiet)
    assert tried == [4, 2, 2, 2, 2]
    np.testing.assert_array_equal(together(tmp_path).source, together(whole).source[:8])


def test_two_workers_make_the_same_pairs(
    whole: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "opened", lambda *_, **__: Forks(2, executors.setting(None, 1)))
    assert run(settings_of(prompts), out=tmp_path, device="cpu", say=quiet, spread=Wanted(workers=2)) == PAIRS
    for file in sorted(whole.rglob("*.*")):
        assert (tmp_path / file.relative_to(whole)).read_bytes() == file.read_bytes(), file.name


def test_scores_of_another_scorer_are_not_gone_on_with(whole: Path, prompts: Path, tmp_path: Path, plug: Plug) -> None:
    out = copied(whole, tmp_path / "c")
    dataset.shard_path(out, 2).unlink()
    entry: MetricEntry = registry.get("metrics", "shapes-clipscore")
    other = replace(entry, identify=lambda: "another")
    plug("metrics", **{"shapes-clipscore": other})
    with pytest.raises(
        UserError, match=r"scored by another shapes-clipscore \(\S+ there, another\+code:\w+ here\); score it again"
    ):
        run(settings_of(prompts), out=out, device="cpu", say=quiet)
    assert score(out, metrics=["shapes-clipscore"], device="cpu") == 16
    assert run(settings_of(prompts), out=out, device="cpu", say=quiet) == 4


def test_a_lost_image_is_made_again(whole: Path, prompts: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "c")
    dataset.image_path(out, 5, "target").unlink()
    assert run(settings_of(prompts), out=out, device="cpu", say=quiet) == 4
    assert images(out) == images(whole)


# Teachers ----------------------------------------------------------------------------------------------------------


class Darkness:
    """A scorer that anybody can work out: the mean grey level, turned round."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        return [Value(-float(i.mean())) for i in images]


@pytest.fixture
def darkness(plug: Plug) -> None:
    entry = MetricEntry("darkness", "Darkness", "grey", load=lambda device: Darkness(), identify=lambda: "darkness-1")
    plug("metrics", darkness=entry)


@pytest.mark.usefixtures("darkness")
def test_best_of_n_teaches_the_noise_of_its_best_candidate(prompts: Path, tmp_path: Path, pipeline: Any) -> None:
    from bench.methods.reseed import other_seed

    teacher = {"use": "best_of_n", "n": 3, "chooser": "darkness"}
    made = settings_of(prompts, teacher=teacher, metrics=["darkness"], pairs=FEW, chunk=3)
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
    assert others > 0
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
    prompts: Path, tmp_path: Path, pipeline: Any
) -> None:
    teacher = {"use": "best_nearby", "n": 3, "angle": 0.4, "chooser": "darkness"}
    made = settings_of(prompts, teacher=teacher, metrics=["darkness"], dtype="float32", pairs=FEW, chunk=3)
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
    run(settings_of(prompts, teacher=["reseed", "standard"], pairs=4), out=tmp_path, device="cpu", say=quiet)
    from bench.methods.reseed import other_seed

    found = together(tmp_path)
    for k in range(4):
        x = noise.draw(found.prompts[k], other_seed(int(found.seed[k]), 1), (4, 8, 8))
        np.testing.assert_array_equal(found.target[k], x.numpy().astype("float16"))


class Stepping(Method):
    def step(self, s: Any, x: torch.Tensor, i: int, following: Any) -> Any:
        return following(x)


class Guiding(Method):
    def guide(self, s: Any, i: int, pred: Any) -> Any:
        return pred.cond


class Dressed(Method):
    def adapters(self) -> tuple[Weights, ...]:
        return (Weights("somewhere", "lora", "0"),)


class Longer(Method):
    def sampling(self, p: Sampling) -> Sampling:
        return replace(p, steps=p.steps + 1)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (Stepping, "the steps of the loop"),
        (Guiding, "the guidance of every step"),
        (Dressed, "the denoiser's weights"),
        (Longer, "how images are sampled"),
    ],
)
@pytest.mark.parametrize("chain", [["other"], ["inversion", "other"], ["other", {"use": "best_of_n"}]])
def test_a_teacher_that_changes_more_than_the_initial_noise_is_refused(
    prompts: Path, tmp_path: Path, plug: Plug, kind: type[Method], what: str, chain: list[Any]
) -> None:
    """A network that sees the noise alone could not learn the rest."""
    plug("methods", other=kind)
    with pytest.raises(UserError) as caught:
        run(settings_of(prompts, teacher=chain), out=tmp_path / "out", device="cpu", say=quiet)
    assert str(caught.value) == f"teacher 'other' changes {what}; expected a method that changes the initial noise"
    assert not (tmp_path / "out").exists()


class Picky(Method):
    """Refuses a prompt when planned, or gives it up while it is made."""

    needs: ClassVar[frozenset[str]] = frozenset({SINGLE})
    late: bool = False

    def check(self, prompt: Prompt) -> None:
        if prompt.text == "two squares" and not self.late:
            raise UserError("it has no subject")

    def noise(self, s: Any, x: torch.Tensor) -> torch.Tensor:
        assert len(x) == 1, "one by one"
        if s.prompts == ["two squares"]:
            s.fail(0, "not today")
        return -x


def test_a_prompt_that_a_teacher_cannot_serve_is_reported_by_the_plan_or_left_unfinished(
    prompts: Path, tmp_path: Path, plug: Plug
) -> None:
    """What a method gives up is not finite, so that no selection takes it; a method of one image has batches of one."""
    plug("methods", picky=Picky)
    with pytest.raises(UserError, match=r"^teacher: prompt 1: it has no subject$"):
        run(settings_of(prompts, teacher="picky"), out=tmp_path, device="cpu", say=quiet)
    late = settings_of(prompts, teacher={"use": "picky", "late": True}, pairs=4, dtype="float32")
    run(late, out=tmp_path, device="cpu", say=quiet)
    found = together(tmp_path)
    assert np.isnan(found.target[1]).all()
    for k in (0, 2, 3):
        np.testing.assert_array_equal(found.target[k], -found.source[k])


class Weary(Method):
    """Gives images up for two reasons: those of one prompt, and those of an even seed, or all."""

    all_of_them: bool = False

    def noise(self, s: Any, x: torch.Tensor) -> torch.Tensor:
        for i, item in enumerate(s.items):
            if item.prompt.text == "two squares":
                s.fail(i, "it has no subject")
            elif self.all_of_them or item.seed % 2 == 0:
                s.fail(i, "it did not converge")
        return -x


def test_the_command_prints_why_images_were_given_up_and_how_many(prompts: Path, tmp_path: Path, plug: Plug) -> None:
    plug("methods", weary=Weary)
    file = tmp_path / "weary.yaml"
    text = f"model: shapes-sdxl\nprompts: {prompts}\npairs: 10\nseeds: [0, 9]\nsteps: 2\nchunk: 4\n"
    file.write_text(text + "teacher: weary\nmetrics: [shapes-clipscore]\n")
    done = call_main(main, "collect", file, "--out", tmp_path / "pairs", "--device", "cpu")
    assert done.code == 0, done.err
    found = together(tmp_path / "pairs")
    subjectless = sum(t == "two squares" for t in found.prompts)
    even = sum(s % 2 == 0 and t != "two squares" for s, t in zip(found.seed.tolist(), found.prompts, strict=True))
    assert (subjectless, even > subjectless) == (2, True)
    assert [line for line in done.err.splitlines() if "gave up" in line] == [
        f"the teacher gave up {even} images: it did not converge",
        "the teacher gave up 2 images: it has no subject",
    ], "the most frequent reason first"
    assert f"{even + subjectless} of them with NaN or infinity in their target noise" in done.err

    file.write_text(text + "teacher: {use: weary, all_of_them: true}\n")
    done = call_main(main, "collect", file, "--out", tmp_path / "none", "--device", "cpu")
    assert done.code == 2
    assert "none of the first 4 pairs has finite target noise" in done.error
    assert "the teacher gave up 3 images: it did not converge\nthe teacher gave up 1 image: it has no subj" in done.err


def test_what_a_teacher_needs_of_the_sampler_is_reported_by_the_plan(prompts: Path, tmp_path: Path, plug: Plug) -> None:
    class Needy(Method):
        needs: ClassVar[frozenset[str]] = frozenset({MEMORYLESS})

    plug("methods", needy=Needy)
    with pytest.raises(
        UserError, match=r"^teacher: it needs a memoryless sampler, and 'dpmpp_2m' is none; give one of"
    ):
        run(settings_of(prompts, teacher="needy", sampler="dpmpp_2m"), out=tmp_path, device="cpu", say=quiet)


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
    run(settings_of(prompts, teacher="asking", pairs=4), out=tmp_path, device="cpu", say=quiet)
    assert [len(values) for values in asked] == [4]
    assert dataset.read_manifest(tmp_path).teacher[0]["scorers"] == {
        "darkness": registry.get("metrics", "darkness").digest()
    }
    assert list(teachers.choosers(list(dataset.read_manifest(tmp_path).teacher))) == ["darkness"]


# More scores -------------------------------------------------------------------------------------------------------


def test_a_score_added_later_is_what_collect_would_have_computed(prompts: Path, tmp_path: Path) -> None:
    out, few = tmp_path / "c", partial(settings_of, prompts, pairs=4, steps=2, chunk=2)
    run(few(), out=out, device="cpu", say=quiet)
    assert score(out, metrics=["shapes-aesthetic"], device="cpu") == 2 * 4
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
    from bench.store import exclusive

    out = copied(whole, tmp_path / "c")
    with exclusive(out), pytest.raises(UserError, match=r"another npnet score runs there; wait for it$"):
        score(out, metrics=["shapes-aesthetic"], device="cpu")


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


def test_only_kept_images_can_be_scored_again(prompts: Path, tmp_path: Path) -> None:
    run(settings_of(prompts, pairs=2, steps=2, keep_images=False), out=tmp_path, device="cpu", say=quiet)
    assert not (tmp_path / "images").exists()
    with pytest.raises(UserError, match=r"000000-source\.png: missing; only a collection with keep_images"):
        score(tmp_path, metrics=["shapes-aesthetic"], device="cpu")
    with pytest.raises(UserError, match="not scored by shapes-aesthetic; add scores with npnet score"):
        run(settings_of(prompts, pairs=2, steps=2, metrics=["shapes-aesthetic"]), out=tmp_path, device="cpu", say=quiet)


# What is wrong -----------------------------------------------------------------------------------------------------


def empty_file(folder: Path) -> dict[str, Any]:
    (folder / "empty.txt").write_text("\n  \n")
    return {"prompts": str(folder / "empty.txt")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (empty_file, r"empty\.txt: holds no prompt; expected one a line"),
        (lambda f: {"prompts": str(f / "none.txt")}, r"none\.txt: no such prompt file"),
        (lambda f: {"pairs": 51}, r"51 pairs of 5 prompts need 11 seeds of a prompt, and seeds \[0, 9\] are 10"),
        (lambda f: {"metrics": ["shapes-geneval"]}, "metric 'shapes-geneval' needs prompts with metadata"),
        (lambda f: {"teacher": [{"use": "best_nearby"}, "inversion"]}, "'best_nearby' starts from the source noise"),
        (lambda f: {"metrics": ["human"]}, "metric 'human' is not computed"),
        (lambda f: {"steps": 1}, "inversion moves between a sampler's first two timesteps"),
        (lambda f: {"sampler": "tcd", "steps": 51}, "sampler 'tcd' takes 1 to 50 steps, not 51"),
    ],
)
def test_what_cannot_be_collected_is_one_line(
    prompts: Path, tmp_path: Path, change: Callable[[Path], dict[str, Any]], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        run(settings_of(**{"prompts": prompts, **change(tmp_path)}), out=tmp_path / "out", device="cpu", say=quiet)


def test_another_protocol_in_out_is_refused(whole: Path, prompts: Path) -> None:
    with pytest.raises(UserError, match=r"holds a collection of another protocol \(steps 2 there, 4 here\)"):
        run(settings_of(prompts, steps=4), out=whole, device="cpu", say=quiet)


def test_a_model_whose_latent_does_not_fit_is_refused(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    entry: ModelEntry = registry.get("models", "shapes-sdxl")
    plug("models", **{"shapes-sdxl": replace(entry, latent=(4, 16, 16))})
    monkeypatch.setattr(ModelEntry, "load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match=r"have latents \(4, 8, 8\) by its networks, and its entry says \(4, 16, 16\)"):
        run(settings_of(prompts), out=tmp_path, device="cpu", say=quiet)


def test_a_collection_of_which_no_pair_is_finite_stops_at_once(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.methods.inversion import Inversion

    monkeypatch.setattr(Inversion, "noise", lambda self, s, x: x * float("nan"))
    with pytest.raises(UserError, match=r"none of the first 4 pairs .* \(pair 0: 'a red circle', seed \d\)"):
        run(settings_of(prompts), out=tmp_path, device="cpu", say=quiet)
    assert not dataset.shards(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_a_pair_that_is_not_finite_is_kept_counted_and_not_selected(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """1e6 is finite, but not in the half precision of the disk."""
    from bench.methods.inversion import Inversion
    from npnet.pairs.select import Rule, select

    def noise_with_a_hole(self: Inversion, s: Any, x: torch.Tensor) -> torch.Tensor:
        target = x.clone()
        for i, prompt in enumerate(s.prompts):
            if prompt == "two squares":
                target[i, 0, 0, 0] = value
        return target

    monkeypatch.setattr(Inversion, "noise", noise_with_a_hole)
    said: list[str] = []
    made = settings_of(prompts, pairs=8, steps=2)
    assert run(made, out=tmp_path, device="cpu", say=said.append) == 8
    assert [k for k, x in enumerate(together(tmp_path).target) if not np.isfinite(x).all()] == [1, 6]
    assert [line for line in said if "pair 1: 'two squares'" in line] == said[:1]
    assert said[-1].startswith("2 of them with NaN or infinity")
    kept = select(tmp_path, [Rule(metric="shapes-clipscore", threshold=-100)]).kept
    assert kept == (0, 2, 3, 4, 5, 7)
    assert run(made, out=tmp_path, device="cpu", say=quiet) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: shapes-sdx\n", r"c\.yaml:1: unknown model 'shapes-sdx'; did you mean 'shapes-sdxl'\?"),
        ("prompts: shapes-trian\n", r"c\.yaml:2: unknown prompt set 'shapes-trian'; did you mean 'shapes-train'\?"),
        ("teacher: best_nearbi\n", r"c\.yaml:6: unknown teacher 'best_nearbi'; did you mean 'best_nearby'\?"),
        ("teacher: {use: best_nearby, angel: 1}\n", r"c\.yaml:6: unknown key 'angel'; did you mean 'angle'\?"),
        ("teacher: [inversion, {use: best_of_n, n: 1}]\n", r"c\.yaml:6: parameter 'n' of method 'best_of_n' should be"),
        ("metrics: [shapes-clip]\n", r"c\.yaml:6: unknown metric 'shapes-clip'; did you mean 'shapes-clipscore'\?"),
        ("seeds: [9, 0]\n", r"c\.yaml:6: 'seeds' should be \[lowest, highest\], got \[9, 0\]"),
        ("seeds: [0]\n", r"c\.yaml:6: 'seeds' should be \[lowest, highest\], got \[0\]"),
        ("teacher: {chain: [inversion], n: 2}\n", r"c\.yaml:6: unknown key 'n' beside 'chain'; a parameter belongs to"),
        ("teacher: {chain: inversion}\n", r"c\.yaml:6: 'chain' should be a list of methods, got 'inversion'"),
        ("teacher: {chain: []}\n", r"c\.yaml:6: 'chain' should be a list of methods, got \[\]"),
        ("pairs:\n", r"c\.yaml:3: missing key 'pairs'"),
        ("keep_image: true\n", r"c\.yaml:6: unknown key 'keep_image'; did you mean 'keep_images'\?"),
    ],
)
def test_a_mistake_in_a_file_is_reported_with_its_line(text: str, said: str) -> None:
    lines = {"model": "shapes-sdxl", "prompts": "shapes-train", "pairs": "4", "sampler": "ddim", "steps": "3"}
    written = {k: f"{k}: {v}\n" for k, v in lines.items()}
    key = text.partition(":")[0]
    whole_text = "".join(text if k == key else line for k, line in written.items())
    with pytest.raises(UserError, match=said):
        configs.parse(whole_text if key in lines else whole_text + text, CollectConfig, file="c.yaml")


# Presets and the embedded world's prompts ---------------------------------------------------------------------------


PRESETS = [path for path in sorted(CONFIGS.glob("*.yaml")) if not path.stem.endswith("_train")]


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_a_preset_is_of_a_known_model_and_has_a_twin(path: Path) -> None:
    """A4: the paper collects at 10 steps for SDXL and at 4 for DreamShaper; table 14: seeds 0 to 1024."""
    made, _ = twin(configs.load(path, CollectConfig))
    planned = plan(made)
    steps = 4 if path.stem == "dreamshaper" else 10
    model = "shapes-turbo" if path.stem == "dreamshaper" else "shapes-sdxl"
    assert (planned.protocol.model, planned.protocol.steps, planned.protocol.seeds) == (model, steps, (0, 1024))
    assert planned.protocol.guidance == registry.get("models", model).guidance
    assert planned.protocol.prompts == "shapes-train"


def test_the_training_preset_is_one() -> None:
    from npnet.training.settings import TrainConfig

    made = configs.load(CONFIGS / "shapes_train.yaml", TrainConfig, overrides=["pairs=there"])
    assert made.selection is not None
    assert [rule.metric for rule in made.selection.rules()] == ["shapes-preference"]


@pytest.mark.parametrize(
    ("name", "steps", "guidance", "pairs"),
    [("sdxl", 10, 5.5, 100_000), ("dreamshaper", 4, 3.5, 80_000), ("hunyuan-dit", 10, 5.0, 600)],
)
def test_the_papers_presets(name: str, steps: int, guidance: float, pairs: int) -> None:
    """A.4 and table 1; a preset is of the model that it is named after."""
    made = configs.load(CONFIGS / f"{name}.yaml", CollectConfig)
    assert (made.model, made.steps, made.guidance, made.pairs) == (name, steps, guidance, pairs)
    assert made.metrics == ("hpsv2",)
    assert [link.use for link in made.teacher] == ["inversion"]
    planned = plan(made.model_copy(update={"prompts": "shapes-train"}))
    pair_bytes = 2 * 2 * int(np.prod(planned.protocol.latent))
    assert 2e6 < planned.protocol.chunk * pair_bytes < 32e6


def test_a_twin_keeps_what_was_set_by_hand() -> None:
    given = configs.load(CONFIGS / "sdxl.yaml", CollectConfig, overrides=["guidance=2.5"])
    made, notes = twin(given, overridden={"guidance"})
    assert made.guidance == 2.5
    assert not notes
    assert twin(given)[0].guidance is None


def test_training_captions_are_of_no_evaluation_set() -> None:
    from bench.shapes.captions import SPLITS, bucket, held_out, sample

    training = prompting.read("shapes-train")
    texts = {p.text for p in training}
    assert len(training) == registry.get("prompts", "shapes-train").size == 20_000
    assert {bucket(t) for t in texts} <= set(SPLITS["train"])
    others = [n for n in registry.names("prompts") if n.startswith("shapes-") and n != "shapes-train"]
    assert len(others) == 6
    for name in others:
        assert not texts & {p.text for p in prompting.read(name)}
    assert Counter(p.category for p in training)["position"] == 4000
    assert all(p.metadata and p.metadata["prompt"] == p.text for p in training)
    rng = np.random.default_rng(1)
    assert not any(held_out(sample(rng, "train")) for _ in range(100))
