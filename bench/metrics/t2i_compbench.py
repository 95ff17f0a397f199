"""T2I-CompBench (Huang et al. 2023, 2307.06350), each prompt by the scorer of its category. A port.

`color`, `shape`, `texture`: BLIP-VQA, the product over noun chunks of P(yes) / (P(yes) + P(no)) at the decoder's first
token, images squashed to 480 x 480. `non_spatial`: the raw cosine of CLIP ViT-B/32. `spatial`, `numeracy`: the public
rules on boxes. `complex`: the mean of attributes with places, action (the cosine, adjectives left out), or both.

The public boxes are UniDet's, which transformers has not. COCO's 80 classes name both things in only 80 of the 300
spatial prompts, so the detector here is OWLv2, which looks for any noun; its confidences are not UniDet's, so levels of
`spatial`, `numeracy` and `complex` are not comparable with published ones. transformers' BLIP was published at 384
pixels; its position embeddings are interpolated to 480.

`3d_spatial` (the paper's third version, T2I-CompBench++): both things' confidences, and how far their boxes overlap if
the nearer one by DPT is as the prompt says. The public code cuts a box out of the depth map with its axes exchanged;
the score is as published, and the detail has the score with the axes in place as `upright`.

Categories are of different kinds: `non_spatial` is a cosine of about 0.3, the others are shares between 0 and 1. A mean
over several categories is therefore no quantity of its own: read the breakdown by category.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench import kinship
from bench.backoff import Backoff
from bench.metrics import compbench_rules as rules
from bench.metrics.base import MetricEntry, Value
from bench.metrics.checkpoint import Checkpoint, Part
from bench.metrics.depth import FOLDER as _DPT
from bench.metrics.depth import Depth
from bench.metrics.pixels import CLIP_MEAN, CLIP_STD, squashed
from bench.metrics.real import Loaded, cosine, entry
from bench.metrics.towers import Towers
from bench.models.base import check_folder, quiet_hub_libraries
from bench.registry import add_plugin

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.prompts.base import Prompt

VERSION = f"2-{rules.table_digest()}"
_BLIP, _OWL, _CLIP, _FILE = (
    "blip-vqa-capfilt-large",
    "owlv2-base-patch16-ensemble",
    "clip-vit-base-patch32",
    "ViT-B-32.pt",
)
KEY = "compbench"
"""What prompts of the public sets carry: their category."""
SIDE, LENGTH, BATCH = 480, 35, 8
YES, NO, BEGIN, ASKED = 2748, 2053, 30522, 30523
"""BERT's `yes` and `no`, and the two tokens that BLIP adds: the decoder's first one, and the encoder's."""
SURE = 0.2
"""OWLv2's confidence from which a box counts; UniDet's is 0.5 on a scale of its own."""


class T2ICompBench(Loaded):
    """The three networks and the rules between them; the detail has the category and what was found."""

    shares = (_CLIP, _FILE)

    def load(self, checkpoint: Checkpoint) -> None:
        import torch
        from transformers import (
            AutoTokenizer,
            BlipForQuestionAnswering,
            Owlv2ForObjectDetection,
            Owlv2ImageProcessorPil,
        )

        quiet_hub_libraries()
        self.backoff = Backoff(BATCH)
        blip, owl = checkpoint.path(_BLIP), checkpoint.path(_OWL)
        for folder in (blip, owl):
            check_folder(folder)
        given: dict[str, Any] = {"local_files_only": True, "dtype": torch.float32}
        self.reader = self.ready(BlipForQuestionAnswering.from_pretrained(blip, **given))
        self.detector = self.ready(Owlv2ForObjectDetection.from_pretrained(owl, **given))
        self.asked, self.named = (AutoTokenizer.from_pretrained(f, local_files_only=True) for f in (blip, owl))
        side = self.detector.config.vision_config.image_size
        self.prepare = Owlv2ImageProcessorPil(size={"height": side, "width": side})
        self.depth = Depth(self, checkpoint)
        self.towers = Towers(self, checkpoint, folder=_CLIP, file=_FILE, architecture="ViT-B-32")

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        found: list[Value] = []
        # A list, not a generator: a part that does not fit starts again and must have left nothing behind.
        self.in_parts(len(images), lambda part: found.extend([self._one(images[i], prompts[i]) for i in part]))
        return found

    def _one(self, image: np.ndarray, prompt: Prompt) -> Value:
        category = str((prompt.metadata or {}).get(KEY, ""))
        parsed = rules.words(prompt.text, category) if category in rules.KNOWN else None
        if parsed is None:
            return Value.failed(f"it is no validation prompt of T2I-CompBench's categories {', '.join(rules.KNOWN)}")
        detail: dict[str, Any] = {"category": category}
        if category in (*rules.ATTRIBUTES, "complex"):
            answers = self.answers(image, parsed.questions)
            detail["questions"] = dict(zip(parsed.questions, answers, strict=True))
            detail["attributes"] = math.prod(answers)
        if category in ("spatial", "complex"):
            detail["places"] = rules.spatial(parsed, self.seen(image, parsed.things))
        if category == "3d_spatial":
            seen, near = self.seen(image, parsed.things), self.depth.near(image, rules.detector_size(*image.shape[:2]))
            detail["depths"] = rules.in_depth(parsed, seen, near)
            detail["upright"] = rules.in_depth(parsed, seen, near, upright=True)
        if category == "numeracy":
            detail["counts"] = rules.numeracy(parsed, self.seen(image, [name for name, _ in parsed.counted]))
        if category in ("non_spatial", "complex"):
            detail["action"] = float(cosine(self.towers.images([image]), self.towers.texts([parsed.bare])))
        if category == "complex":
            return Value(rules.three_in_one(parsed, detail["attributes"], detail["places"], detail["action"]), detail)
        return Value(
            next(detail[n] for n in ("attributes", "places", "depths", "counts", "action") if n in detail), detail
        )

    def answers(self, image: np.ndarray, questions: Sequence[str]) -> list[float]:
        """P(yes) / (P(yes) + P(no)) of an image for each question.

        Questions are read one by one: transformers' decoder also looks at the padding of shorter ones.
        """
        import torch

        if not questions:
            return []
        own = self.reader.config.vision_config.image_size
        pixels = self.placed(squashed([image], SIDE, CLIP_MEAN, CLIP_STD))
        eyes = self.reader.vision_model(
            pixel_values=pixels, interpolate_pos_encoding=own != SIDE
        ).last_hidden_state  # fmt: skip
        there = torch.ones(eyes.shape[:2], dtype=torch.long, device=self.device)
        first = torch.full((1, 1), BEGIN, device=self.device)
        found: list[float] = []
        for question in questions:
            ids = self.asked(question, truncation=True, max_length=LENGTH, return_tensors="pt").input_ids
            ids = ids.to(self.device)
            ids[:, 0] = ASKED
            read = self.reader.text_encoder(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                encoder_hidden_states=eyes,
                encoder_attention_mask=there,
            )[0]
            said = self.reader.text_decoder(input_ids=first, encoder_hidden_states=read).logits[0, 0].float()
            found.append(float(said[[YES, NO]].softmax(-1)[0]))
        return found

    def seen(self, image: np.ndarray, things: Sequence[str]) -> rules.Seen:
        """Boxes of each thing above the threshold, without overlaps, in the public detector's pixels."""
        names = list(dict.fromkeys(things))
        if not names:
            return {}
        pixels = self.prepare(images=[image], return_tensors="pt").pixel_values
        texts = [f"a photo of a {name}" for name in names]
        length = self.detector.config.text_config.max_position_embeddings
        ids = self.named(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        out = self.detector(
            input_ids=ids.input_ids.to(self.device),
            attention_mask=ids.attention_mask.to(self.device),
            pixel_values=self.placed(pixels),
        )
        sure, which = out.logits[0].float().sigmoid().max(-1)
        height, width = image.shape[:2]
        boxes = _corners(out.pred_boxes[0].float()) * max(height, width) * rules.scale(height, width)
        rows = zip(sure.tolist(), which.tolist(), boxes.tolist(), strict=True)
        found: dict[str, list[tuple[float, rules.Box]]] = {name: [] for name in names}
        for confidence, k, box in rows:
            if confidence > SURE:
                found[names[k]].append((confidence, tuple(box)))
        return {name: rules.without_overlaps(some) for name, some in found.items()}


def _corners(boxes: torch.Tensor) -> torch.Tensor:
    """(N, 4) centres and sizes as corners."""
    import torch

    centre, size = boxes[:, :2], boxes[:, 2:]
    return torch.cat([centre - size / 2, centre + size / 2], -1)


_EITHER = ("model.safetensors", "pytorch_model.bin")
_READ = Part(
    _BLIP,
    "Salesforce/blip-vqa-capfilt-large",
    "c6af15bed424cf343aab3ff3bb31417ba272923a",
    weights=_EITHER,
    about_bytes=1_540_000_000,
)
_SEES = Part(
    _OWL,
    "google/owlv2-base-patch16-ensemble",
    "cfd3195ba4ea9592eec887ded089f4c08eff231d",
    weights=("model.safetensors",),
    about_bytes=619_918_824,
)
_DEEP = Part(
    _DPT,
    f"Intel/{_DPT}",
    "11eaf7a1cf4bd70740697dbc216f98980c0aeb03",
    weights=_EITHER,
    about_bytes=490_000_000,
)
_TWO = Part(
    _CLIP,
    "openai/clip-vit-base-patch32",
    "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    weights=_EITHER,
)
_ROW = MetricEntry(
    "t2i_compbench",
    title="T2I-CompBench",
    unit="share; non_spatial a cosine",
    load=None,
    identify=str,
    scale="0 to 1 by category; non_spatial is a cosine, about 0.3, so a mean over categories mixes two kinds",
    bounds=(0, 1),  # a cosine below zero is none that CLIP gives
    needs_metadata=True,
    metadata_key=KEY,
    categories=rules.KNOWN,
    category=lambda prompt: str((prompt.metadata or {}).get(KEY, "")),
    overall="none",
    about="a port: BLIP-VQA, CLIP, DPT, OWLv2 for UniDet, the public rules, each category by its own (2307.06350)",
    license="BSD-3-Clause (BLIP), Apache-2.0 (OWLv2, DPT), MIT (CLIP)",
    blind_to="quality and style, prompts outside its validation sets",
    unfit_for="methods that are steered by BLIP-VQA or OWLv2, or given the boxes",
    made_of=(
        kinship.BLIP_VQA,
        kinship.Trait("detector", "OWLv2"),
        kinship.COMPBENCH_RULES,
        kinship.CLIP_B_COSINE,
        kinship.BLIP_PAIRS,
        kinship.OPENAI_PAIRS,
    ),
)
_CHECKPOINT = Checkpoint("t2i_compbench", (_READ, _SEES, _DEEP, _TWO), instead=((_READ, _SEES, _DEEP, Part(_FILE)),))
add_plugin("metrics", "t2i_compbench", entry(_ROW, T2ICompBench, _CHECKPOINT, version=VERSION), "bench")
