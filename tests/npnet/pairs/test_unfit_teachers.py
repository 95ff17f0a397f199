"""Teachers that are refused, and those that give up prompts or images: what the plan says, and what the pairs hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import Plug, call_main

from bench.errors import UserError
from bench.methods.base import Method
from bench.prompts.base import Prompt
from bench.sampling.records import MEMORYLESS, SINGLE, Sampling, Weights
from npnet.cli import main
from npnet.pairs.collect import run

from .collecting import quiet, settings_of, together

pytestmark = pytest.mark.usefixtures("kept_models")


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
    late = settings_of(prompts, teacher={"use": "picky", "late": True}, pairs=2, dtype="float32")
    run(late, out=tmp_path, device="cpu", say=quiet)
    found = together(tmp_path)
    assert np.isnan(found.target[1]).all()
    np.testing.assert_array_equal(found.target[0], -found.source[0])


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
    text = f"model: shapes-sdxl\nprompts: {prompts}\npairs: 10\nseeds: [0, 9]\nsteps: 1\nchunk: 4\n"
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
