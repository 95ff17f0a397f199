"""HPSv3 on a small Qwen2-VL: a folder of random weights under the published names, with images and prompts to judge."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import registry
from bench.metrics.base import MetricEntry
from bench.metrics.hpsv3 import REWARD
from bench.prompts.base import Prompt

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
