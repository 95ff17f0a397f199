"""A small random ImageReward as a checkpoint folder under the published names; weights follow from their names."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parent))
from small_clips import HEAD, LAYERS, PATCH, SIDE, TEXT, VISION, drawn


@dataclass(frozen=True)
class Size:
    """The architecture of ImageReward's BLIP; heads of the image encoder have 64 features."""

    side: int = SIDE
    patch: int = PATCH
    vision: int = VISION
    layers: int = LAYERS
    text: int = TEXT
    text_layers: int = LAYERS
    text_heads: int = 2
    positions: int = 64
    """Of the text encoder."""
    words: int = 0
    """Of its vocabulary, ImageReward's two included; 0: as many as `words` has."""


SMALL = Size()
MED = {
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "add_cross_attention": True,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
"""The text encoder's configuration by the published file's names, without its size."""


def words(size: Size = SMALL) -> list[str]:
    """A vocabulary of BERT's kind: letters, alone and within a word, some whole words, and unused ones."""
    letters = [chr(c) for c in (*range(33, 127), *range(0xE0, 0x100), *range(0x3041, 0x3097), *range(0x2018, 0x201E))]
    letters = [one for one in dict.fromkeys(one.lower() for one in letters) if not one.isspace()]
    whole = ["photo", "red", "circle", "above", "blue", "square", "cat", "dog", "dragon", "with", "##s", "##ing"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    found = list(dict.fromkeys([*special, *letters, *(f"##{one}" for one in letters), *whole]))
    return found + [f"[unused{i}]" for i in range(size.words - 2 - len(found))]


def med_config(size: Size = SMALL) -> dict[str, Any]:
    """`MED` for a size, with `words` and the two that ImageReward adds."""
    shape = {"hidden_size": size.text, "intermediate_size": 4 * size.text, "num_attention_heads": size.text_heads}
    shape |= {"num_hidden_layers": size.text_layers, "max_position_embeddings": size.positions}
    return {**MED, **shape, "vocab_size": len(words(size)) + 2}


def reward_state(case: str, size: Size = SMALL) -> dict[str, torch.Tensor]:
    """A state dict of ImageReward by its published names."""
    vision, text, config = size.vision, size.text, med_config(size)
    shapes: dict[str, tuple[int, ...]] = {
        "blip.visual_encoder.cls_token": (1, 1, vision),
        "blip.visual_encoder.pos_embed": (1, (size.side // size.patch) ** 2 + 1, vision),
        "blip.visual_encoder.patch_embed.proj.weight": (vision, 3, size.patch, size.patch),
        "blip.visual_encoder.patch_embed.proj.bias": (vision,),
        "blip.text_encoder.embeddings.word_embeddings.weight": (config["vocab_size"], text),
        "blip.text_encoder.embeddings.position_embeddings.weight": (size.positions, text),
    }
    linear = {"blip.vision_proj": (256, vision), "blip.text_proj": (256, text)}
    norms = {"blip.visual_encoder.norm": vision, "blip.text_encoder.embeddings.LayerNorm": text}
    for i in range(size.layers):
        block = f"blip.visual_encoder.blocks.{i}"
        norms |= {f"{block}.norm1": vision, f"{block}.norm2": vision}
        linear |= {f"{block}.attn.qkv": (3 * vision, vision), f"{block}.attn.proj": (vision, vision)}
        linear |= {f"{block}.mlp.fc1": (4 * vision, vision), f"{block}.mlp.fc2": (vision, 4 * vision)}
    for i in range(size.text_layers):
        layer = f"blip.text_encoder.encoder.layer.{i}"
        norms[f"{layer}.output.LayerNorm"] = text
        linear |= {f"{layer}.intermediate.dense": (4 * text, text), f"{layer}.output.dense": (text, 4 * text)}
        for name, of in (("attention", text), ("crossattention", vision)):
            linear |= {f"{layer}.{name}.self.query": (text, text), f"{layer}.{name}.output.dense": (text, text)}
            linear |= {f"{layer}.{name}.self.key": (text, of), f"{layer}.{name}.self.value": (text, of)}
            norms |= {f"{layer}.{name}.output.LayerNorm": text}
    linear |= {f"mlp.layers.{i}": shape for i, shape in zip((0, 2, 4, 6, 7), ((1024, text), *HEAD[1:]), strict=True)}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name, width in norms.items():
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return {name: drawn(case, name, shape) for name, shape in shapes.items()}


def reward_folder(folder: Path, case: str, size: Size = SMALL) -> Path:
    """ImageReward.pt, med_config.json and bert-base-uncased/."""
    (folder / "bert-base-uncased").mkdir(parents=True, exist_ok=True)
    torch.save(reward_state(case, size), folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(med_config(size)))
    (folder / "bert-base-uncased" / "vocab.txt").write_text("\n".join([*words(size), ""]), encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "bert-base-uncased" / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
