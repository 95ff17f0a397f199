"""HPSv3 on a small Qwen2-VL: published names, the instruction, where the reward is read, the package's own values."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import registry
from bench.errors import UserError
from bench.metrics.backbones import QWEN2_VL_7B
from bench.metrics.base import MetricEntry
from bench.metrics.hpsv3 import REWARD, instruction, size
from bench.prompts.base import Prompt

pytestmark = pytest.mark.usefixtures("one_thread")
VECTORS = Path(__file__).parents[1] / "data" / "hpsv3.json"
ASKED = "\nLook at the image.\nThe prompt - {text_prompt}\n\n\n"
RATED = f"\nThe rating: {REWARD}\n\nEND\n"
TEXTS = f'''"""Words of a test, in the form of the package's file."""
import nothing_that_is_there

INSTRUCTION = """{ASKED}"""
prompt_with_special_token = """{RATED}"""


class Collator:
    raise SystemExit("this is never run")
'''
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
           "<|video_pad|>"]  # fmt: skip
PROMPTS = [Prompt(0, "a red circle"), Prompt(1, "two {blue} squares, and a much longer prompt than the other one has")]


def pictures() -> list[np.ndarray]:
    """Two sizes; one is not square, one is small."""
    rng = np.random.default_rng(3)
    coarse = [rng.integers(0, 256, (6, 4, 3), dtype=np.uint8), rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)]
    return [np.kron(coarse[0], np.ones((100, 120, 1), np.uint8)), np.kron(coarse[1], np.ones((20, 20, 1), np.uint8))]


def qwen_folder(folder: Path) -> dict[str, int]:
    """Configuration, tokenizer and image preparation; returns the control tokens' numbers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessorPil

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "a"), ("r", "e"), ("re", "d"), ("Ġ", "red"), ("Ġ", "c"), ("Ċ", "Ċ"), ("t", "w")]
    tokenizer = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate([*letters, *(a + b for a, b in merges)])},
                                     merges=merges))  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=CONTROL, pad_token=CONTROL[0])
    fast.save_pretrained(folder)
    numbers = dict(zip(CONTROL, fast.convert_tokens_to_ids(CONTROL), strict=True))
    config: dict[str, Any] = {
        "architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl", "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "vocab_size": len(fast) + 7, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "rope_theta": 1e6,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "use_sliding_window": False,
        "max_position_embeddings": 4096, "image_token_id": numbers["<|image_pad|>"],
        "video_token_id": numbers["<|video_pad|>"], "vision_start_token_id": numbers["<|vision_start|>"],
        "vision_end_token_id": numbers["<|vision_end|>"],
        "vision_config": {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "hidden_size": 32,
                          "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    prepare = Qwen2VLImageProcessorPil(image_mean=mean, image_std=deviation, min_pixels=3136, max_pixels=12845056)
    prepare.save_pretrained(folder)
    return numbers | {"words": len(fast)}


def published_state(words: int) -> dict[str, torch.Tensor]:
    """Random weights by the names that transformers 4.45 gave them, written out: no library names them here."""
    d, wide, v, layers = 32, 48, 32, 2
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (words, d), "model.norm.weight": (d,), "lm_head.weight": (words, d),
        "visual.patch_embed.proj.weight": (v, 3, 2, 14, 14), "visual.merger.ln_q.weight": (v,),
        "visual.merger.ln_q.bias": (v,), "visual.merger.mlp.0.weight": (4 * v, 4 * v),
        "visual.merger.mlp.0.bias": (4 * v,),
        "visual.merger.mlp.2.weight": (d, 4 * v), "visual.merger.mlp.2.bias": (d,),
        "rm_head.0.weight": (24, d), "rm_head.0.bias": (24,), "rm_head.3.weight": (16, 24), "rm_head.3.bias": (16,),
        "rm_head.5.weight": (2, 16), "rm_head.5.bias": (2,),
    }  # fmt: skip
    for i in range(layers):
        at = f"model.layers.{i}"
        for name, rows in (("q", d), ("k", d // 2), ("v", d // 2)):
            shapes |= {f"{at}.self_attn.{name}_proj.weight": (rows, d), f"{at}.self_attn.{name}_proj.bias": (rows,)}
        shapes |= {f"{at}.self_attn.o_proj.weight": (d, d), f"{at}.mlp.gate_proj.weight": (wide, d),
                   f"{at}.mlp.up_proj.weight": (wide, d), f"{at}.mlp.down_proj.weight": (d, wide),
                   f"{at}.input_layernorm.weight": (d,), f"{at}.post_attention_layernorm.weight": (d,)}  # fmt: skip
        at = f"visual.blocks.{i}"
        for name, (rows, columns) in {"attn.qkv": (3 * v, v), "attn.proj": (v, v), "mlp.fc1": (2 * v, v),
                                      "mlp.fc2": (v, 2 * v)}.items():  # fmt: skip
            shapes |= {f"{at}.{name}.weight": (rows, columns), f"{at}.{name}.bias": (rows,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"{at}.{name}.weight": (v,), f"{at}.{name}.bias": (v,)}
    rng = np.random.default_rng(11)
    state = {}
    for name in sorted(shapes):
        # Matrices that neither shrink nor blow up what goes through them; tokens and biases that are seen.
        spread = 1.5 / math.sqrt(math.prod(shapes[name][1:])) if len(shapes[name]) > 1 else 0.2
        value = rng.standard_normal(shapes[name]) * (1.0 if "embed_tokens" in name else spread)
        if ("norm" in name and name.endswith("weight")) or name.endswith("ln_q.weight"):
            value += 1
        state[name] = torch.tensor(value, dtype=torch.float32)
    return state


def hpsv3_folder(folder: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """The three parts under their published names; the network in a precision, the head in fp32, as published."""
    from safetensors.torch import save_file

    (folder / "Qwen2-VL-7B-Instruct").mkdir(parents=True)
    words = qwen_folder(folder / "Qwen2-VL-7B-Instruct")["words"]
    state = published_state(words + 1)
    state = {n: v if n.startswith("rm_head") else v.to(dtype) for n, v in state.items()}
    save_file(state, folder / "HPSv3.safetensors")
    (folder / "data_collator_qwen.py").write_text(TEXTS)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hpsv3_folder(tmp_path_factory.mktemp("hpsv3") / "small")


def entry_of(folder: Path, dtype: str = "fp32") -> MetricEntry:
    found: MetricEntry = registry.get("metrics", "hpsv3").configured(str(folder), dtype)
    return found


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Any:
    return entry_of(folder).scorer("cpu")


# Values --------------------------------------------------------------------------------------------------------------


def test_rewards_are_those_of_the_packages_class(scorer: Any) -> None:
    """The package's `Qwen2VLRewardModelBT` on transformers 4.45.2, with its processor, gave these on the same files."""
    theirs = json.loads(VECTORS.read_text())
    values = scorer.score(pictures(), PROMPTS)
    found = [[v.value, v.detail["log_sigma"]] for v in values]
    np.testing.assert_allclose(found, theirs["rewards"], rtol=0, atol=2e-6)
    assert abs(found[0][0] - found[1][0]) > 1e-3


def test_tokens_are_those_of_the_packages_processor(scorer: Any) -> None:
    theirs = json.loads(VECTORS.read_text())["ids"]
    for image, prompt, ids in zip(pictures(), PROMPTS, theirs, strict=True):
        height, width = size(*image.shape[:2])
        assert scorer.row(prompt.text, height * width // 784) == ids
        assert ids.count(scorer.token) == 1


def test_a_value_does_not_depend_on_the_rest_of_the_batch(scorer: Any) -> None:
    images, prompts = pictures(), PROMPTS
    together = [v.value for v in scorer.score(images * 2, [*prompts, *prompts[::-1]])]
    alone = [scorer.score([i], [p])[0].value for i, p in zip(images * 2, [*prompts, *prompts[::-1]], strict=True)]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    assert len({round(v, 5) for v in alone}) == 4


def test_image_and_prompt_are_both_seen_and_the_words_behind_the_reward_are_not(scorer: Any) -> None:
    image, other = pictures()
    base = scorer.score([image], PROMPTS[:1])[0].value
    assert abs(scorer.score([other], PROMPTS[:1])[0].value - base) > 1e-4
    assert abs(scorer.score([image], PROMPTS[1:])[0].value - base) > 1e-4
    row = scorer.row("a red circle", 256)
    at = row.index(scorer.token)
    assert scorer.tokenizer.decode(row[at:]) == f"{REWARD}\n\nEND\n<|im_end|>\n<|im_start|>assistant\n"
    before = scorer.tokenizer.decode(row[:at])
    assert before.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_")
    assert before.endswith("<|vision_end|>" + ASKED.format(text_prompt="a red circle") + "\nThe rating: ")
    rated = scorer.rated
    try:
        scorer.rated = rated + "other words, which come later"
        assert scorer.score([image], PROMPTS[:1])[0].value == pytest.approx(base, abs=1e-6)
        scorer.rated = "words before" + rated
        assert abs(scorer.score([image], PROMPTS[:1])[0].value - base) > 1e-4
    finally:
        scorer.rated = rated


def test_control_tokens_in_a_prompt_are_text(scorer: Any) -> None:
    value = scorer.score(pictures()[:1], [Prompt(0, f"{REWARD}<|image_pad|> <|im_end|>")])[0].value
    assert math.isfinite(value)


def test_a_far_too_long_image_fails_alone(scorer: Any) -> None:
    long = np.zeros((2, 402, 3), np.uint8)
    values = scorer.score([long, pictures()[0]], PROMPTS)
    assert "more than 200 times" in (values[0].reason or "")
    assert values[1].reason is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((1024, 1024), (448, 448)),
        ((448, 448), (448, 448)),
        ((64, 64), (448, 448)),
        ((768, 1344), (336, 588)),
        ((512, 100), (1036, 224)),
    ],
)
def test_sides_are_multiples_of_28_near_256_patches(given: tuple[int, int], expected: tuple[int, int]) -> None:
    """sqrt(200704 / (768 * 1344)) = 0.441: 338.6 and 592.6 are cut to 336 and 588; smaller images are rounded up."""
    assert size(*given) == expected


# Settings and files --------------------------------------------------------------------------------------------------


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
