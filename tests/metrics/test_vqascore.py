"""VQAScore and Soft-TIFA on a small Qwen3-VL: probabilities as its own `generate` gives them, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import small_clips as small
from reference.small_detectors import qwen_folder

from bench import registry
from bench.metrics.vqascore import QUESTION, spellings
from bench.prompts.base import Prompt
from bench.runner.score import _tasks

pytestmark = pytest.mark.usefixtures("one_thread")
TOYS = {
    "prompt": "two metal toys",
    "atom_count": 3,
    "vqa_list": [["How many toys are in the image?", "two"], ["Are the toys metal?", "Yes"]],
    "skills": ["count", "attribute"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("qwen")
    qwen_folder(home / "Qwen3-VL-2B-Instruct", "reads")
    return home


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Any:
    return registry.get("metrics", "vqascore").configured(str(folder), "fp32").scorer("cpu")


@pytest.fixture(scope="module")
def tifa(folder: Path) -> Any:
    return registry.get("metrics", "soft_tifa").configured(str(folder), "fp32").scorer("cpu")


def generated(scorer: Any, image: np.ndarray, question: str) -> torch.Tensor:
    """The first token's probabilities by `generate`, from one string in the format of the model's chat."""
    seen = scorer.prepare(images=[image], return_tensors="pt")
    n = int(seen.image_grid_thw.prod()) // 4
    shown = "<|vision_start|>" + "<|image_pad|>" * n + "<|vision_end|>"
    text = f"<|im_start|>user\n{shown}{question}<|im_end|>\n<|im_start|>assistant\n"
    ids = scorer.tokenizer(text, return_tensors="pt").input_ids
    kinds = (ids == scorer.tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()
    given = {"attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds, **seen}
    made = scorer.network.generate(
        input_ids=ids, **given, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    return made.logits[0][0].double().softmax(-1)


def test_the_score_is_p_yes_whatever_the_batch(scorer: Any) -> None:
    images = [small.images("vqa")[i] for i in (0, 3, 7)]
    prompts = [Prompt(i, text) for i, text in enumerate(("a red circle", "鳥居 and a much longer prompt, 8K", "a dog"))]
    values = [v.value for v in scorer.score(images, prompts)]
    yes = scorer.tokenizer("Yes").input_ids
    assert len(yes) == 1
    for image, prompt, value in zip(images, prompts, values, strict=True):
        with torch.inference_mode():
            p = generated(scorer, image, QUESTION.format(text=prompt.text))
        assert value == pytest.approx(float(p[yes[0]]), rel=1e-4)
    assert np.ptp(np.log(values)) > 1e-3


def test_a_prompt_cannot_write_control_tokens(scorer: Any) -> None:
    plain, other = (scorer._row(QUESTION.format(text=text), 4) for text in ("x", "<|im_end|>"))
    end = scorer.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert plain.count(end) == other.count(end) == 1


def test_soft_tifa_is_the_geometric_mean_of_the_right_answers(tifa: Any) -> None:
    images = [small.images("tifa")[i] for i in (0, 3)]
    values = tifa.score(images, [Prompt(0, "two metal toys", "3 atoms", TOYS), Prompt(1, "a bench")])
    right = []
    for question, answer in TOYS["vqa_list"]:  # type: ignore[attr-defined]
        with torch.inference_mode():
            p = generated(tifa, images[0], f"{question} Answer in one word.")
        right.append(float(sum(p[tifa.tokenizer(text).input_ids[0]] for text in spellings(question, answer))))
    assert values[0].detail["answers"] == pytest.approx(right, rel=1e-4)
    assert values[0].value == pytest.approx((right[0] * right[1]) ** 0.5, rel=1e-4)
    assert values[0].detail["arithmetic"] == pytest.approx(sum(right) / 2, rel=1e-4)
    assert values[1].reason == "its prompt carries no questions of GenEval 2's kind"


def test_right_answers_are_spelt_as_the_public_code_spells_them() -> None:
    assert spellings("How many toys are in the image?", "two") == ("two", "Two", " two", " Two", "2", " 2")
    assert spellings("Are the toys metal?", "Yes") == ("Yes", "yes", " yes", " Yes")


def test_only_geneval2_s_prompts_are_asked_their_questions() -> None:
    entry = registry.get("metrics", "soft_tifa")
    prompts = [Prompt(0, "a", "", TOYS), Prompt(1, "b", "", {"tag": "x", "include": []}), Prompt(2, "c")]
    cells = [("standard", ("m", "p", "s", 1, 1.0, p.index, 0), f"job{p.index}", p) for p in prompts]
    assert [task.job_id for task in _tasks(entry, cells, "standard")] == ["job0"]


def test_any_size_of_the_reader_is_a_checkpoint_and_its_own_digest(folder: Path, tmp_path: Path) -> None:
    qwen_folder(tmp_path / "Qwen3-VL-4B-Instruct", "another")
    digests = {registry.get("metrics", "vqascore").configured(str(f), "fp32").digest() for f in (folder, tmp_path)}
    assert len(digests) == 2
