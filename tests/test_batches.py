"""Which images share a batch, in which order arms take turns, and what becomes of a batch that does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from batch_plans import made, plan_of
from conftest import Plug
from kept_models import kept_models as kept_models

from bench.methods.base import Method
from bench.runner.generate import batches

BEST_OF_2 = "{use: best_of_n, n: 2, selection_metric: shapes-preference}"


@pytest.mark.usefixtures("kept_models")
def test_a_batch_that_does_not_fit_a_gpus_memory_is_halved(tmp_path: Path, plug: Plug) -> None:
    import torch

    from bench.errors import UserError

    room, tried = 2, []

    class Large(Method):
        def noise(self, s: Any, x: Any) -> Any:
            tried.append(len(x))
            if len(x) > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return x

    plug("methods", large=Large)
    plan = plan_of("ddim", methods=["standard", "large"], steps=2, limit=5)
    assert len(made(plan, tmp_path / "run", batch_size=5).images()) == 10
    assert tried == [5, 2, 2, 1]
    room = 0
    with pytest.raises(UserError, match="one image does not fit this GPU's memory"):
        made(plan, tmp_path / "other", batch_size=5)


@pytest.mark.usefixtures("one_thread")
def test_a_failed_batch_is_let_go_before_a_smaller_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tensors hang on the exception's traceback; while they do, emptying the cache frees nothing."""
    import weakref

    import torch

    from bench.backoff import Backoff

    references: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(references[-1]() is not None))

    def make(part: Sequence[int]) -> None:
        tensor = torch.zeros(len(part))
        references.append(weakref.ref(tensor))
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.append(list(part))

    done: list[list[int]] = []
    backoff = Backoff()
    backoff.each(range(8), make, model="large", one="image")
    assert done == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert alive == [False, False]
    backoff.each(range(8, 11), make, model="large", one="image")
    assert (done[4:], len(alive)) == ([[8, 9], [10]], 2), "the smaller size is remembered"


def test_arms_are_made_in_turns_so_that_a_slower_hour_is_no_methods_cost() -> None:
    plan = plan_of("ddim", methods=("standard", "inversion", BEST_OF_2))
    turns = batches(list(plan.jobs.values()), 4, prompts=(j.prompt for j in plan.jobs.values()))
    assert sorted(job.id for batch in turns for job in batch) == sorted(plan.jobs)
    assert all(len({job.group for job in batch}) == 1 for batch in turns)
    # Best of 2 is made of standard's images and as many again, which share a group; all arms see a prompt together.
    kinds = ["inversion" if batch[0].links else "plain" for batch in turns]
    assert kinds == ["plain", "plain", "inversion"] * 2
    assert len({job.prompt for batch in turns[:3] for job in batch}) == 4


def test_arms_are_cut_into_the_same_batches_however_many_images_are_left_over() -> None:
    """Standard's images and those that best of 2 adds share a group, inversion's are alone."""
    plan = plan_of("ddim", methods=("standard", "inversion", BEST_OF_2))
    prompts = [job.prompt for job in plan.jobs.values()]
    turns = batches(list(plan.jobs.values()), 3, prompts=prompts)
    assert [len(batch) for batch in turns] == [3, 3, 3] * 2 + [2, 2, 2]
    for three in zip(turns[::3], turns[1::3], turns[2::3], strict=True):
        assert len({tuple(job.prompt for job in batch) for batch in three}) == 1


def test_what_a_killed_run_lacks_is_made_in_the_plans_order() -> None:
    """The arm that had come less far is not put off to the end."""
    plan = plan_of("ddim")
    jobs = list(plan.jobs.values())
    prompts = [job.prompt for job in jobs]
    turns = batches(jobs, 2, prompts=prompts)
    done = {job.id for batch in turns[:3] for job in batch}
    assert batches([job for job in jobs if job.id not in done], 2, prompts=prompts) == turns[3:]
