"""CLIPScore (Hessel et al. 2021, 2104.08718): 2.5 max(cos, 0), as NPNet's released code computes it.

No "A photo depicts" prefix; the paper's level of 0.82 fits OpenAI's ViT-B/32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import UserError, first_line
from bench.metrics.base import MetricEntry, Value
from bench.metrics.checkpoint import Checkpoint, Part, tensors
from bench.metrics.pixels import cropped
from bench.metrics.real import (
    RealScorer,
    bpe_tokens,
    clip_of,
    cosine,
    entry,
    open_clip_config,
    open_clip_of,
    tokenizer_of,
    tokens,
)
from bench.models.base import check_folder, quiet_hub_libraries
from bench.registry import add_plugin

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

    from bench.prompts.base import Prompt

VERSION = "2"
_FOLDER = "clip-vit-base-patch32"
_FILE = "ViT-B-32.pt"
_WORDS = 49408
"""OpenAI's vocabulary, whose tokenizer needs no file of the checkpoint."""
WEIGHT = 2.5


class CLIPScore(RealScorer):
    """2.5 max(cos, 0) on a transformers folder, or on OpenAI's own file.

    Images and prompts are prepared as by OpenAI's package: torchvision's cropping, and text that ftfy has fixed and
    whose HTML entities are read, which matters for curly quotes and `&amp;`. A folder with another vocabulary than
    OpenAI's brings its own tokenizer.
    """

    def load(self, checkpoint: Checkpoint) -> None:
        if checkpoint.parts[0].name == _FILE:
            path = checkpoint.path(_FILE)
            config = open_clip_config(checkpoint.folder, "ViT-B-32")
            self.model = self.ready(open_clip_of(tensors(path), config, of=path, quick=True))
            self.side: int = config["vision_cfg"]["image_size"]
            self.length: int = config["text_cfg"].get("context_length", 77)
            self.tokenizer: Any = None
            return
        folder = checkpoint.path(_FOLDER)
        self.model = self.ready(clip_of(folder))
        settings = self.model.config
        self.side, self.length = settings.vision_config.image_size, settings.text_config.max_position_embeddings
        self.tokenizer = None if settings.text_config.vocab_size == _WORDS else tokenizer_of(folder)

    def judge(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> torch.Tensor:
        pixels = self.placed(cropped(images, self.side, "torchvision"))
        texts = [p.text for p in prompts]
        ids = tokens(self.tokenizer, texts, self.length) if self.tokenizer else bpe_tokens(texts, self.length)
        if hasattr(self.model, "encode_image"):
            image, text = self.model.encode_image(pixels), self.model.encode_text(ids.to(self.device))
        else:
            image = self.model.get_image_features(pixel_values=pixels).pooler_output
            text = self.model.get_text_features(input_ids=ids.to(self.device)).pooler_output
        return WEIGHT * cosine(image, text).clamp(min=0)


class ClipSimilarity:
    """The same of the embedded world's CLIP, by transformers' own processor; scaled by `weight` and cut at zero."""

    def __init__(self, source: str | Path, device: str, *, revision: str | None = None, weight: float = WEIGHT):
        import torch
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor

        quiet_hub_libraries()
        folder = None if isinstance(source, str) else source
        if folder:
            check_folder(folder)
        try:
            local = folder is not None
            self.model: Any = CLIPModel.from_pretrained(
                source, revision=revision, local_files_only=local, dtype=torch.float32
            )
            where: dict[str, Any] = {"revision": revision, "local_files_only": local}
            self.processor: Any = CLIPProcessor.from_pretrained(source, **where)
            # The default depends on whether torchvision happens to be installed, and the two resize differently.
            self.processor.image_processor = CLIPImageProcessorPil.from_pretrained(source, **where)
        except Exception as error:
            reason = first_line(error)
            raise UserError(f"the CLIP at {source} does not load: {reason}") from error
        self.model.to(device).eval()
        self.device, self.weight = device, weight

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        import torch

        inputs = self.processor(
            text=[p.text for p in prompts],
            images=list(images),
            return_tensors="pt",
            padding="max_length",
            truncation=True,
        ).to(self.device)
        with torch.inference_mode():
            image = self.model.get_image_features(pixel_values=inputs["pixel_values"]).pooler_output
            text = self.model.get_text_features(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
            ).pooler_output
            cosine = torch.nn.functional.cosine_similarity(image, text)
        return [Value(self.weight * max(float(c), 0.0)) for c in cosine]


_ROW = MetricEntry(
    "clipscore",
    title="CLIPScore",
    unit="2.5 cos",
    load=None,
    identify=str,
    scale="0.80 to 0.85 in the paper's tables",
    about="OpenAI CLIP ViT-B/32, 2.5 max(cos, 0) (2104.08718)",
)
_CHECKPOINT = Checkpoint(
    "clipscore",
    (
        Part(
            _FOLDER,
            "openai/clip-vit-base-patch32",
            "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
            weights=("model.safetensors", "pytorch_model.bin"),
        ),
    ),
    instead=((Part(_FILE),),),
)
add_plugin("metrics", "clipscore", entry(_ROW, CLIPScore, _CHECKPOINT, version=VERSION), "bench")
