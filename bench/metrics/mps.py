"""MPS (Zhang et al. 2024, 2405.14705): a preference between two images of one prompt, by their logits.

A ViT-H-14 gives tokens of image, prompt and a fixed list of what people look at (the condition); prompt tokens that
have little to do with the condition are left out, and a cross-attention network joins the rest with the image. The
preference is the logistic of the difference of two logits, so the win rate of MPS is its own: the mean preference.

The relevance threshold is 0.01, as in MPS's readme and NPNet's code; MPS's evaluation script has 0.3. Relevance is
divided by its maximum over the prompt alone; the released code takes the batch's, which is the same for one prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench import kinship
from bench.metrics.backbones import CLIP_H
from bench.metrics.base import MetricEntry, Value
from bench.metrics.checkpoint import Checkpoint, Part, fill, tensors
from bench.metrics.pixels import cropped
from bench.metrics.real import RealScorer, cosine, entry, tokenizer_of, tokens
from bench.registry import add_plugin

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.prompts.base import Prompt

VERSION = "1"
_FILE = "MPS_overall_state.pth"
_CLIP = "CLIP-ViT-H-14-laion2B-s32B-b79K"
_POSITIONS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
THRESHOLD = 0.01
CONDITION = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, instance, "
    "texture, quantity, attributes, position, number, location, word, things."
)
"""What the released model was asked about for the overall preference."""


class MPS(RealScorer):
    """The logit of an image, and of two the preference; config and tokenizer are those of the folder beside it."""

    def load(self, checkpoint: Checkpoint) -> None:
        import torch
        from transformers import CLIPConfig, CLIPModel

        from bench.metrics.networks.cross import CrossModel

        path, folder = checkpoint.path(_FILE), checkpoint.path(_CLIP)
        state = tensors(path)
        parts: dict[str, dict[str, Any]] = {"model.": {}, "cross_model.": {}}
        for name, value in state.items():
            prefix = next((p for p in parts if name.startswith(p)), "model.")
            parts[prefix][name.removeprefix(prefix)] = value
        clip = CLIPModel(CLIPConfig.from_pretrained(folder, local_files_only=True))
        fill(clip, parts["model."], of=path, ignored=_POSITIONS)
        cross = CrossModel.of(parts["cross_model."])
        fill(cross, parts["cross_model."], of=path)
        self.tokenizer = tokenizer_of(folder)
        self.model, self.cross = self.ready(clip), self.ready(cross)
        self.side: int = clip.config.vision_config.image_size
        self.length: int = clip.config.text_config.max_position_embeddings
        with torch.inference_mode():
            self.condition = self._read([CONDITION])[0]

    def _read(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Texts as tokens (B, T, D), and as one vector (B, D)."""
        out = self.model.text_model(input_ids=tokens(self.tokenizer, texts, self.length).to(self.device))
        project = self.model.text_projection
        return project(out.last_hidden_state), project(out.pooler_output)

    def judge(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> torch.Tensor:
        text, whole = self._read([p.text for p in prompts])
        relevance = (text @ self.condition[0].T).amax(-1)
        seen = relevance / relevance.amax(-1, keepdim=True) > THRESHOLD
        pixels = self.placed(cropped(images, self.side, "transformers"))
        image = self.model.visual_projection(self.model.vision_model(pixel_values=pixels).last_hidden_state)
        return math.exp(self.model.logit_scale) * cosine(self.cross(image, text, seen), whole)

    def score_pairs(
        self, baseline_images: Sequence[np.ndarray], method_images: Sequence[np.ndarray], prompts: Sequence[Prompt]
    ) -> list[Value]:
        """The logistic of the method's logit less the baseline's, (B,) in [0, 1]; the detail has both logits."""
        logits = [v.value for v in self.score([*baseline_images, *method_images], [*prompts, *prompts])]
        base, ours = logits[: len(prompts)], logits[len(prompts) :]
        return [Value(_logistic(b - a), {"logits": [a, b]}) for a, b in zip(base, ours, strict=True)]


def _logistic(x: float) -> float:
    """1 / (1 + exp(-x)), for any x; NaN stays NaN."""
    return 1 / (1 + math.exp(-x)) if not x < 0 else math.exp(x) / (1 + math.exp(x))


_CHECKPOINT = Checkpoint(
    "mps",
    (
        Part(_FILE, where="python -m bench convert mps MPS_overall_checkpoint.pth, a file of Kwai-Kolors/MPS"),
        # Its settings and tokenizer only.
        Part(
            _CLIP,
            "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
            "1c2b8495b28150b8a4922ee1c8edee224c284c0c",
            about_bytes=3_600_000,
        ),
    ),
)
_ROW = MetricEntry(
    "mps",
    title="MPS",
    unit="probability against standard",
    load=None,
    identify=str,
    scale="0.5 is the baseline",
    about="MPS overall: preference over the baseline's image by a cross-attention network on ViT-H-14 (2405.14705)",
    license="none stated",
    blind_to="words of the prompt that its fixed condition leaves out, text past 77 tokens, detail below 224 pixels",
    unfit_for="checkpoints or adapters of yours tuned on MHP: only named weights say so themselves",
    made_of=(kinship.Trait("labels", "annotators of MHP"), kinship.LAION_CLIP_H),
    kind="pair",
    # Two images; the cross-attention network is small beside the backbone.
    ms=2 * CLIP_H.ms,
    gib=CLIP_H.gib,
)
add_plugin("metrics", "mps", entry(_ROW, MPS, _CHECKPOINT, version=VERSION), "bench")
