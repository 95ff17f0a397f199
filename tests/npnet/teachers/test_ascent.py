"""The teacher that climbs: it goes uphill, on the sphere, pair by pair, and says what that cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Plug
from kept_models import kept_models as kept_models

from bench import registry
from bench.errors import UserError
from bench.metrics.base import Differentiable, MetricEntry, Value
from bench.prompts.base import Prompt
from npnet.pairs import collect, dataset
from npnet.pairs.collection import CollectConfig, plan, twin
from npnet.pairs.collector import Collector
from npnet.teachers import base as teachers
from npnet.teachers.ascent import Ascent, sampled
from npnet.teachers.work import BACKWARD_CALLS, Work

pytestmark = pytest.mark.usefixtures("kept_models", "metrics")

PROMPTS = ("a red circle", "two squares", "a blue star above a ring", "a pink square and an orange star", "a ring")
STEPS, PAIRS = 3, 4


def quiet(_: str) -> None:
    pass


class Warmth:
    """Red less blue, as a share of white: a metric with a gradient that anybody can work out."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        return [Value(float(i[..., 0].mean() - i[..., 2].mean()) / 255) for i in images]

    def differentiable(self, images: torch.Tensor, prompts: Sequence[Prompt]) -> torch.Tensor:
        return (images[:, 0] - images[:, 2]).mean((1, 2))


class Indifference(Warmth):
    """A metric whose gradient vanishes everywhere."""

    def differentiable(self, images: torch.Tensor, prompts: Sequence[Prompt]) -> torch.Tensor:
        return 0 * images.sum((1, 2, 3))


@pytest.fixture
def metrics(plug: Plug) -> None:
    for name, scorer, higher in (("warmth", Warmth, True), ("chill", Warmth, False), ("nothing", Indifference, True)):
        entry = MetricEntry(
            name, name, "", load=lambda device, made=scorer: made(), identify=lambda: "1", higher_is_better=higher
        )
        plug("metrics", **{name: entry})


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "five.txt"
    path.write_text("\n".join(PROMPTS) + "\n")
    return path


def settings_of(prompts: Path | str, *, metric: str = "warmth", **change: Any) -> CollectConfig:
    """A small collection; `steps`, `size` and `backprop_steps` are the teacher's."""
    given = {k: change.pop(k) for k in ("size", "backprop_steps") if k in change}
    own = {"steps": 2, "size": 0.1, "backprop_steps": STEPS} | given
    own["steps"] = change.pop("rounds", own["steps"])
    given = {
        "model": "shapes-sdxl",
        "prompts": str(prompts),
        "pairs": PAIRS,
        "seeds": [0, 9],
        "steps": STEPS,
        "guidance": 5.0,
        "teacher": {"use": "ascent", "metric": metric, **own},
        "metrics": [metric],
        "chunk": 4,
        "dtype": "float32",
    }
    return CollectConfig.model_validate({**given, **change})


def collected(config: CollectConfig, out: Path, **given: Any) -> list[dataset.Shard]:
    collect.run(config, out=out, device="cpu", say=quiet, **given)
    return list(dataset.read(out)[1])


def gathered(shards: list[dataset.Shard]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source (n, d), target (n, d), and scores by the one metric (n, 2)."""
    source, target = (np.concatenate([getattr(s, side) for s in shards]) for side in dataset.SIDES)
    return (
        source.reshape(len(source), -1),
        target.reshape(len(target), -1),
        np.concatenate([next(iter(s.scores.values())) for s in shards]),
    )


@pytest.fixture
def work_of() -> Iterator[Callable[[CollectConfig], tuple[Ascent, Work]]]:
    """Gives the teacher of a collection, and its first batch."""
    with ExitStack() as stack:

        def work_of(config: CollectConfig) -> tuple[Ascent, Work]:
            planned = plan(config)
            collector = stack.enter_context(closing(Collector(planned, "cpu", {})))
            with torch.no_grad():
                work = collector.work([planned.pair(k) for k in range(PAIRS)])
            assert isinstance(planned.teacher, Ascent)
            return planned.teacher, work

        yield work_of


@pytest.mark.parametrize(("metric", "sign"), [("warmth", 1), ("chill", -1)])
def test_pairs_go_uphill_on_their_spheres(prompts: Path, tmp_path: Path, metric: str, sign: int) -> None:
    """Also where uphill is down; by at most the angle of all steps, at the source's length.

    Three sampling steps make a rough slope: a step may overshoot for a pair.
    """
    config = settings_of(prompts, metric=metric, rounds=2, size=0.003)
    source, target, scores = gathered(collected(config, tmp_path / "c"))
    gains = sign * (scores[:, 1] - scores[:, 0])
    assert (gains > 0).sum() >= PAIRS - 1
    assert np.median(gains) > 0.001
    lengths = np.linalg.norm(source, axis=1), np.linalg.norm(target, axis=1)
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-6)
    angles = np.arccos((source * target).sum(1) / lengths[0] / lengths[1])
    assert (angles <= 2 * 0.003 + 1e-4).all()
    assert (angles > 1e-3).all()


def test_the_preference_model_is_climbed(prompts: Path, tmp_path: Path) -> None:
    """A small step along the gradient raises utility nearly everywhere; rounding to grey levels may spoil a little."""
    config = settings_of(prompts, metric="shapes-preference", rounds=1, size=0.02)
    _, _, scores = gathered(collected(config, tmp_path / "c"))
    assert (scores[:, 1] > scores[:, 0]).sum() >= PAIRS - 1
    assert (scores[:, 1] - scores[:, 0]).mean() > 0


def test_the_gradient_is_that_of_the_sampled_image(prompts: Path, work_of: Any) -> None:
    """Against central differences, through all of sampling, decoder and scorer."""
    teacher, work = work_of(settings_of(prompts, metric="shapes-preference"))
    session = work.session()
    scorer: Any = work.engine.scorers["shapes-preference"]

    def value(noise: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            final = sampled(session, noise, STEPS)
            found: torch.Tensor = scorer.differentiable(work.engine.family.pixels(final), work.prompts)
        return found

    gradient = teacher.gradient(session, work.source)
    direction = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    slope = (gradient * direction).flatten(1).sum(1)
    h = 2e-3
    measured = (value(work.source + h * direction) - value(work.source - h * direction)) / (2 * h)
    np.testing.assert_allclose(measured.numpy(), slope.numpy(), rtol=0.1)


def test_sampling_for_the_gradient_is_ddim(prompts: Path, work_of: Any) -> None:
    """Through as many calls as the collection has steps it ends near the loop's own image: by two grey levels at most.

    The pipeline stops at the noise of timestep 0 and this at none.
    """
    _, work = work_of(settings_of(prompts))
    with torch.no_grad():
        made = work.engine.family.decode(sampled(work.session(), work.source, STEPS))
    real = work.images(work.source, work.seeds, STEPS)
    assert np.abs(made.astype(int) - real).mean() < 2


def test_the_rest_of_the_batch_does_not_matter(prompts: Path, tmp_path: Path) -> None:
    few = settings_of(prompts, pairs=2, rounds=1)
    alone = gathered(collected(few, tmp_path / "one", batch_size=1))[1]
    together = gathered(collected(few, tmp_path / "two", batch_size=2))[1]
    np.testing.assert_allclose(alone, together, atol=1e-3)


@pytest.mark.parametrize(("rounds", "through"), [(1, 3), (2, 1), (3, 2)])
def test_a_gradient_counts_three_calls_for_each_it_goes_through(
    prompts: Path, tmp_path: Path, rounds: int, through: int
) -> None:
    """One forward and two for going back, beside both images; nothing is answered from memory without its graph."""
    shards = collected(settings_of(prompts, pairs=1, rounds=rounds, backprop_steps=through), tmp_path / "c")
    assert [shard.calls for shard in shards] == [2 * STEPS + 3 * rounds * through]


def test_a_lost_shard_is_made_again_to_the_same_bytes(prompts: Path, tmp_path: Path) -> None:
    config = settings_of(prompts, pairs=2, rounds=1, chunk=1)
    collected(config, tmp_path / "c")
    path = dataset.shard_path(tmp_path / "c", 1)
    before = path.read_bytes()
    path.unlink()
    assert collect.run(config, out=tmp_path / "c", device="cpu", say=quiet) == 1
    assert path.read_bytes() == before


def test_where_there_is_no_direction_the_noise_stays(prompts: Path, tmp_path: Path) -> None:
    source, target, scores = gathered(collected(settings_of(prompts, pairs=1, metric="nothing"), tmp_path / "c"))
    np.testing.assert_array_equal(source, target)
    np.testing.assert_array_equal(scores[:, 0], scores[:, 1])


def test_a_metric_without_a_gradient_is_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.models.base import ModelEntry

    monkeypatch.setattr(ModelEntry, "load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match="climbs by a gradient, and metric 'shapes-geneval' has none") as caught:
        collect.run(settings_of("shapes-pickapic", metric="shapes-geneval"), out=tmp_path, device="cpu", say=quiet)
    assert "\n" not in str(caught.value)


def test_more_calls_than_steps_are_refused_by_the_plan(prompts: Path) -> None:
    with pytest.raises(UserError, match="backprop_steps is 4, and the collection samples in 3 steps; give at most 3"):
        plan(settings_of(prompts, backprop_steps=4))


def test_a_differentiable_score_is_the_score() -> None:
    """On whole grey levels, at the model's own size and at another."""
    scorer = registry.get("metrics", "shapes-preference").scorer("cpu")
    assert isinstance(scorer, Differentiable)
    rng = np.random.default_rng(0)
    prompts = [Prompt(i, text) for i, text in enumerate(PROMPTS[:2])]
    for size in (64, 96):
        images = rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
        tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).requires_grad_()
        values = scorer.differentiable(tensor, prompts)
        np.testing.assert_allclose(values.detach(), [v.value for v in scorer.score(list(images), prompts)], atol=1e-4)
        (gradient,) = torch.autograd.grad(values.sum(), tensor)
        assert gradient.abs().amax((1, 2, 3)).min() > 0


def test_reports_and_twins_know_what_is_climbed(prompts: Path) -> None:
    """The metric marks what is learnt from it, and its stand-in takes its place."""
    planned = plan(settings_of(prompts))
    assert planned.protocol.teacher[0]["judge_digest"] == registry.get("metrics", "warmth").digest()
    assert list(teachers.choosers(list(planned.protocol.teacher))) == ["warmth"]
    made, _ = twin(settings_of("shapes-train", metric="hpsv2"))
    assert made.teacher[0].params["metric"] == "shapes-preference"


def test_the_first_step_of_an_arm_is_still_shared_where_no_gradient_is_asked(prompts: Path, work_of: Any) -> None:
    """The same noise asked for with and without a gradient is computed twice, and without one only once."""
    _, work = work_of(settings_of(prompts))
    memory, first = work.memory, work.session()
    assert memory is not None
    with torch.no_grad():
        plain = first.predict(work.source, first.timesteps[0]).eps
        again = work.session().predict(work.source, first.timesteps[0], 5.0).eps
    noise = work.source.clone().requires_grad_()
    graph = first.predict(noise, first.timesteps[0], 5.0).eps  # the same numbers, but what is remembered has no graph
    assert (memory.calls, memory.reused) == (2, 1)
    assert work.calls == 2, "no gradient was taken yet"
    graph.sum().backward()
    assert work.calls == 2 + BACKWARD_CALLS
    assert torch.equal(plain, again)
    assert graph.requires_grad
    torch.testing.assert_close(graph.detach(), plain)
