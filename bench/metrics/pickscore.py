"""PickScore (Kirstain et al. 2023, 2305.01569): CLIP's logit in a ViT-H-14 tuned on Pick-a-Pic, as its card has it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench import kinship
from bench.metrics.backbones import CLIP_H
from bench.metrics.base import MetricEntry
from bench.metrics.checkpoint import Checkpoint, Part
from bench.metrics.pixels import cropped
from bench.metrics.real import RealScorer, clip_of, cosine, entry, tokenizer_of, tokens
from bench.registry import add_plugin

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.prompts.base import Prompt

VERSION = "1"
_FOLDER = "PickScore_v1"


class PickScore(RealScorer):
    """exp(logit scale) cos(image, prompt), about 100 cos. Not a probability: those are of several images."""

    def load(self, checkpoint: Checkpoint) -> None:
        folder = checkpoint.path(_FOLDER)
        self.tokenizer = tokenizer_of(folder)
        self.model = self.ready(clip_of(folder))
        self.side: int = self.model.config.vision_config.image_size
        self.length: int = self.model.config.text_config.max_position_embeddings

    def judge(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> torch.Tensor:
        pixels = self.placed(cropped(images, self.side, "transformers"))
        ids = tokens(self.tokenizer, [p.text for p in prompts], self.length).to(self.device)
        image = self.model.get_image_features(pixel_values=pixels).pooler_output
        text = self.model.get_text_features(input_ids=ids).pooler_output
        return math.exp(self.model.logit_scale) * cosine(image, text)


_CHECKPOINT = Checkpoint(
    "pickscore",
    (
        Part(
            _FOLDER,
            "yuvalkirstain/PickScore_v1",
            "a4e4367c6dfa7288a00c550414478f865b875800",
            weights=("model.safetensors",),
            about_bytes=4 * CLIP_H.parameters,
        ),
    ),
)
_ROW = MetricEntry(
    "pickscore",
    title="PickScore",
    unit="100 cos",
    load=None,
    identify=str,
    scale="20 to 24",
    about="yuvalkirstain/PickScore_v1: logit of a ViT-H-14 tuned on Pick-a-Pic (2305.01569)",
    license="none on its card; its code is MIT",
    blind_to="detail below 224 pixels, what the centre crop cuts off, text past 77 tokens; counts and places weakly",
    unfit_for="checkpoints or adapters of yours tuned on Pick-a-Pic votes: only named weights say so themselves",
    made_of=(kinship.PICK_A_PIC, kinship.LAION_CLIP_H, kinship.Trait("prompts", "Pick-a-Pic users")),
    ms=CLIP_H.ms,
    gib=CLIP_H.gib,
)
add_plugin("metrics", "pickscore", entry(_ROW, PickScore, _CHECKPOINT, version=VERSION), "bench")
