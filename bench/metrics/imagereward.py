"""ImageReward (Xu et al. 2023, 2304.05977): a BLIP encoder of image and prompt, and five linear layers on its answer.

Computed with transformers' BLIP, the published file's names turned into its own. Prompts have 35 tokens, and images are
cropped as by torchvision. A reward has mean 0 and deviation 1 over the training images; the paper prints it times 100.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import kinship
from bench.errors import UserError
from bench.metrics.backbones import BLIP_L
from bench.metrics.base import MetricEntry
from bench.metrics.checkpoint import Checkpoint, Part, fill, tensors
from bench.metrics.pixels import cropped
from bench.metrics.real import RealScorer, entry, tokens
from bench.registry import add_plugin

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.prompts.base import Prompt

VERSION = "1"
_FILE, _TEXT, _WORDS = "ImageReward.pt", "med_config.json", "bert-base-uncased"
LENGTH = 35
MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072
"""Of the network's answers over the training images, by which a reward is standardised."""
HEAD_WIDTH = 64
"""Features of an attention head of the image encoder, in BLIP of any size."""
_NAMES = (
    # published name of a part of the image encoder, transformers' name
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"encoder.layers.\1.layer_norm\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"^blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
    (r"^norm\.", "post_layernorm."),
)


class ImageReward(RealScorer):
    """The standardised reward; the image encoder's size follows from the file, the text encoder's from its config."""

    def load(self, checkpoint: Checkpoint) -> None:
        from transformers import BertTokenizer, BlipTextConfig, BlipVisionConfig, logging
        from transformers.models.blip.modeling_blip import BlipVisionModel
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        from bench.metrics.networks.linear import Linears

        logging.set_verbosity_error()
        path = checkpoint.path(_FILE)
        state = tensors(path)
        seeing = {_renamed(n): v for n, v in _below(state, "blip.visual_encoder.").items()}
        reading = _below(state, "blip.text_encoder.")
        vision = _vision(seeing)
        text = _settings(checkpoint.path(_TEXT)) | {"encoder_hidden_size": vision["hidden_size"], "is_decoder": True}
        self.eyes = BlipVisionModel(BlipVisionConfig(**vision, attn_implementation="eager"))
        self.reader = BlipTextModel(BlipTextConfig(**text, attn_implementation="eager"), add_pooling_layer=False)
        fill(self.eyes, seeing, of=path)
        fill(self.reader, reading, of=path, ignored=("embeddings.position_ids",))
        self.head = self.ready(Linears.of(_below(state, "mlp."), path))
        self.eyes, self.reader = self.ready(self.eyes), self.ready(self.reader)
        self.side: int = vision["image_size"]
        self.tokenizer = BertTokenizer.from_pretrained(checkpoint.path(_WORDS), local_files_only=True)
        # The published tokenizer has two words more, which a prompt may happen to hold.
        self.tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})

    def judge(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> torch.Tensor:
        seen = self.eyes(pixel_values=self.placed(cropped(images, self.side, "torchvision"))).last_hidden_state
        ids = tokens(self.tokenizer, [p.text for p in prompts], LENGTH).to(self.device)
        read = self.reader(
            input_ids=ids,
            attention_mask=(ids != self.tokenizer.pad_token_id).long(),
            encoder_hidden_states=seen,
            encoder_attention_mask=seen.new_ones(seen.shape[:2]).long(),
            is_decoder=False,
        ).last_hidden_state
        reward: torch.Tensor = (self.head(read[:, 0])[:, 0] - MEAN) / DEVIATION
        return reward


def _below(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _renamed(name: str) -> str:
    for theirs, ours in _NAMES:
        name, changed = re.subn(theirs, ours, name)
        if changed:
            return name
    return name


def _vision(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The image encoder's configuration, from its shapes; KeyError where it is no such encoder."""
    patches, width = state["embeddings.position_embedding"].shape[1:]
    patch = state["embeddings.patch_embedding.weight"].shape[-1]
    layers = {name.split(".")[2] for name in state if name.startswith("encoder.layers.")}
    return {
        "hidden_size": width,
        "intermediate_size": state["encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": width // HEAD_WIDTH,
        "patch_size": patch,
        "image_size": patch * math.isqrt(patches - 1),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    }


def _settings(path: Path) -> dict[str, Any]:
    """The text encoder's configuration by transformers' names; UserError where the file has not what it needs."""
    names = ["hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size"]
    names += ["max_position_embeddings", "layer_norm_eps", "hidden_act"]
    try:
        found = json.loads(path.read_text())
        return {name: found[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the text encoder's configuration ({type(error).__name__}: {error})") from error


_HUB, _COMMIT = "THUDM/ImageReward", "5736be03b2652728fb87788c9797b0570450ab72"
_CHECKPOINT = Checkpoint(
    "imagereward",
    (
        Part(_FILE, _HUB, _COMMIT, about_bytes=4 * BLIP_L.parameters),
        Part(_TEXT, _HUB, _COMMIT, about_bytes=485),
        Part(_WORDS, "google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594", about_bytes=700_000),
    ),
)
_ROW = MetricEntry(
    "imagereward",
    title="ImageReward",
    unit="standard deviations",
    load=None,
    identify=str,
    scale="the paper prints it times 100",
    about="ImageReward-v1.0: BLIP on image and prompt (2304.05977)",
    license="Apache-2.0",
    blind_to="text past 35 tokens, detail below 224 pixels, what the centre crop cuts off",
    unfit_for="checkpoints or adapters of yours that were tuned by ImageReward, as ReFL's are",
    made_of=(
        kinship.Trait("labels", "experts of ImageRewardDB"),
        kinship.Trait("backbone", "BLIP-large"),
        kinship.BLIP_PAIRS,
        kinship.DIFFUSIONDB,
    ),
    ms=BLIP_L.ms,
    gib=BLIP_L.gib,
)
add_plugin("metrics", "imagereward", entry(_ROW, ImageReward, _CHECKPOINT, version=VERSION), "bench")
