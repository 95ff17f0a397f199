"""HPSv3's settings and files: precision, digests, its instruction's file, checkpoints of another version."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_hpsv3 import ASKED, PROMPTS, RATED, TEXTS, entry_of, hpsv3_folder, pictures
from small_hpsv3 import folder as folder
from small_hpsv3 import scorer as scorer

from bench import registry
from bench.errors import UserError
from bench.metrics.backbones import QWEN2_VL_7B
from bench.metrics.hpsv3 import instruction

pytestmark = pytest.mark.usefixtures("one_thread")


def test_half_precision_is_near_keeps_the_head_and_is_in_the_digest(folder: Path, scorer: Any) -> None:
    exact = np.array([v.value for v in scorer.score(pictures(), PROMPTS)])
    half = entry_of(folder, "bf16")
    loaded: Any = half.scorer("cpu")
    assert {p.dtype for p in loaded.network.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in loaded.head.parameters()} == {torch.float32}
    found = np.array([v.value for v in loaded.score(pictures(), PROMPTS)])
    assert 1e-6 < np.abs(found - exact).max() < 0.1
    assert half.digest() != entry_of(folder).digest()


def test_a_file_in_bf16_is_read_in_single_precision(tmp_path: Path, scorer: Any) -> None:
    loaded: Any = entry_of(hpsv3_folder(tmp_path / "half", dtype=torch.bfloat16)).scorer("cpu")
    assert {p.dtype for p in loaded.network.parameters()} == {torch.float32}
    exact = [v.value for v in scorer.score(pictures(), PROMPTS)]
    found = [v.value for v in loaded.score(pictures(), PROMPTS)]
    assert 0 < max(abs(a - b) for a, b in zip(exact, found, strict=True)) < 0.1


def test_the_digest_follows_the_instruction(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert entry_of(copy).digest() == entry_of(folder).digest()
    texts = copy / "data_collator_qwen.py"
    texts.write_text(texts.read_text().replace("Look at", "Regard"))
    assert entry_of(copy).digest() != entry_of(folder).digest()


def test_the_files_code_is_never_run_and_another_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "data_collator_qwen.py"
    path.write_text(TEXTS)
    assert instruction(path) == (ASKED, RATED)
    for text, said in (
        ("INSTRUCTION = 'no place'\nprompt_with_special_token = '<|Reward|>'\n", "holds no instruction of HPSv3"),
        ("INSTRUCTION = open('x')\n", "holds no instruction of HPSv3"),
        ("<html>not found</html>", "not a file of Python"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=said) as caught:
            instruction(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("visual.merger.mlp.2.bias"), "it lacks visual.merger.mlp.2.bias"),
        (lambda s: s.update({"model.layers.9.x": torch.zeros(1)}), "has an unknown language_model.layers.9.x"),
        (lambda s: s.pop("rm_head.3.bias"), "it lacks 3.bias"),
        (lambda s: s.pop("rm_head.5.weight"), "lacks model.embed_tokens.weight or rm_head"),
        (lambda s: s.update({"model.norm.weight": torch.ones(7)}), r"language_model.norm.weight is \(7,\)"),
        (
            lambda s: s.update({"model.embed_tokens.weight": torch.zeros(300, 32)}),
            r"has 300 tokens, of which <\|Reward\|> is the last",
        ),
    ],
)
def test_a_checkpoint_of_another_version_is_refused(change: Any, said: str, folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    state = load_file(copy / "HPSv3.safetensors")
    change(state)
    save_file(state, copy / "HPSv3.safetensors")
    with pytest.raises(UserError, match=said) as caught:
        entry_of(copy).scorer("cpu")
    assert "\n" not in str(caught.value)


def test_the_true_architecture_has_the_published_files_736_names_and_its_size() -> None:
    """Others who load the file count 736 names in it, `lm_head.weight` and six of the head among them."""
    from accelerate import init_empty_weights
    from transformers import Qwen2VLConfig, Qwen2VLModel

    text = {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4}
    text |= {"intermediate_size": 18944, "vocab_size": 151658}
    vision = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4, "hidden_size": 3584}
    with init_empty_weights():
        network = Qwen2VLModel(Qwen2VLConfig(text_config=text, vision_config=vision))
    assert len(network.state_dict()) + 1 + 6 == 736
    head = (3584 + 1) * 1024 + (1024 + 1) * 16 + (16 + 1) * 2
    parameters = sum(p.numel() for p in network.parameters()) + head
    assert parameters == pytest.approx(QWEN2_VL_7B.parameters, rel=1e-4)
    part = registry.get("metrics", "hpsv3").needs()[0]
    assert part.about_bytes == pytest.approx(2 * (parameters + 151658 * 3584), rel=1e-3)


def test_a_folder_that_lacks_a_part_is_refused_and_needs_say_where_it_is_from(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lacks HPSv3\.safetensors, Qwen2-VL-7B-Instruct, data_collator_qwen\.py"):
        entry_of(tmp_path)
    needs = registry.get("metrics", "hpsv3").needs()
    assert [need.what for need in needs] == ["HPSv3.safetensors", "Qwen2-VL-7B-Instruct", "data_collator_qwen.py"]
    assert [bool(need.source.command) for need in needs] == [False, False, True], "the hub has two of them"
    assert "of the package hpsv3 1.0.0" in needs[2].source.command
    assert entry_of(folder).needs() == ()
