"""A small random ImageReward as a checkpoint folder under the published names; weights follow from their names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parent))
from small_clips import HEAD, LAYERS, PATCH, SIDE, TEXT, VISION, drawn

MED = {
    "hidden_size": TEXT,
    "intermediate_size": 4 * TEXT,
    "num_attention_heads": 2,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 64,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "add_cross_attention": True,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "vocab_size": 0,
}
"""The text encoder's configuration by the published file's names; its vocabulary's size is `words`'s."""


def words() -> list[str]:
    """A small vocabulary of BERT's kind: letters, alone and within a word, and some whole words."""
    letters = [chr(c) for c in (*range(33, 127), *range(0xE0, 0x100), *range(0x3041, 0x3097), *range(0x2018, 0x201E))]
    letters = [one for one in dict.fromkeys(one.lower() for one in letters) if not one.isspace()]
    whole = ["photo", "red", "circle", "above", "blue", "square", "cat", "dog", "dragon", "with", "##s", "##ing"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return list(dict.fromkeys([*special, *letters, *(f"##{one}" for one in letters), *whole]))


def med_config() -> dict[str, Any]:
    """`MED` for `words` and the two that ImageReward adds."""
    return {**MED, "vocab_size": len(words()) + 2}


def reward_state(case: str) -> dict[str, torch.Tensor]:
    """A state dict of ImageReward by its published names."""
    shapes: dict[str, tuple[int, ...]] = {
        "blip.visual_encoder.cls_token": (1, 1, VISION),
        "blip.visual_encoder.pos_embed": (1, (SIDE // PATCH) ** 2 + 1, VISION),
        "blip.visual_encoder.patch_embed.proj.weight": (VISION, 3, PATCH, PATCH),
        "blip.visual_encoder.patch_embed.proj.bias": (VISION,),
        "blip.text_encoder.embeddings.word_embeddings.weight": (med_config()["vocab_size"], TEXT),
        "blip.text_encoder.embeddings.position_embeddings.weight": (MED["max_position_embeddings"], TEXT),
    }
    linear = {"blip.vision_proj": (256, VISION), "blip.text_proj": (256, TEXT)}
    norms = {"blip.visual_encoder.norm": VISION, "blip.text_encoder.embeddings.LayerNorm": TEXT}
    for i in range(LAYERS):
        block, layer = f"blip.visual_encoder.blocks.{i}", f"blip.text_encoder.encoder.layer.{i}"
        norms |= {f"{block}.norm1": VISION, f"{block}.norm2": VISION, f"{layer}.output.LayerNorm": TEXT}
        linear |= {f"{block}.attn.qkv": (3 * VISION, VISION), f"{block}.attn.proj": (VISION, VISION)}
        linear |= {f"{block}.mlp.fc1": (4 * VISION, VISION), f"{block}.mlp.fc2": (VISION, 4 * VISION)}
        linear |= {f"{layer}.intermediate.dense": (4 * TEXT, TEXT), f"{layer}.output.dense": (TEXT, 4 * TEXT)}
        for name, of in (("attention", TEXT), ("crossattention", VISION)):
            linear |= {f"{layer}.{name}.self.query": (TEXT, TEXT), f"{layer}.{name}.output.dense": (TEXT, TEXT)}
            linear |= {f"{layer}.{name}.self.key": (TEXT, of), f"{layer}.{name}.self.value": (TEXT, of)}
            norms |= {f"{layer}.{name}.output.LayerNorm": TEXT}
    linear |= {f"mlp.layers.{i}": shape for i, shape in zip((0, 2, 4, 6, 7), ((1024, TEXT), *HEAD[1:]), strict=True)}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name, width in norms.items():
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return {name: drawn(case, name, shape) for name, shape in shapes.items()}


def reward_folder(folder: Path, case: str) -> Path:
    """ImageReward.pt, med_config.json and bert-base-uncased/."""
    (folder / "bert-base-uncased").mkdir(parents=True, exist_ok=True)
    torch.save(reward_state(case), folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(med_config()))
    (folder / "bert-base-uncased" / "vocab.txt").write_text("\n".join([*words(), ""]), encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "bert-base-uncased" / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
