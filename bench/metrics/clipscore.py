"""CLIPScore (Hessel et al. 2021, 2104.08718): 2.5 max(cos, 0), as NPNet's released code computes it.

No "A photo depicts" prefix; the paper's level of 0.82 fits OpenAI's ViT-B/32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench import kinship
from bench.errors import UserError, first_line
from bench.metrics.backbones import CLIP_B
from bench.metrics.base import MetricEntry, Value
from bench.metrics.checkpoint import Checkpoint, Part, content_digest
from bench.metrics.real import RealScorer, clip_of, cosine, entry
from bench.metrics.sharing import Network, load_shared
from bench.metrics.towers import Towers
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
WEIGHT = 2.5


class CLIPScore(RealScorer):
    """2.5 max(cos, 0) on a transformers folder, or on OpenAI's own file."""

    shares = (_FOLDER, _FILE)

    def load(self, checkpoint: Checkpoint) -> None:
        self.towers = Towers(self, checkpoint, folder=_FOLDER, file=_FILE, architecture="ViT-B-32")

    def judge(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> torch.Tensor:
        image, text = self.towers.images(images), self.towers.texts([p.text for p in prompts])
        return WEIGHT * cosine(image, text).clamp(min=0)


def local_clip(folder: Path, device: str) -> Network:
    """The CLIP of a transformers folder in fp32, the same for all that ask for it; UserError where it does not load."""
    return load_shared(("clip", content_digest(folder), device), lambda: clip_of(folder).to(device).eval())


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
            where: dict[str, Any] = {"revision": revision, "local_files_only": folder is not None}
            if folder:
                self.backbone = local_clip(folder, device)
                self.model: Any = self.backbone.module
            else:
                self.model = CLIPModel.from_pretrained(source, **where, dtype=torch.float32).to(device).eval()
            self.processor: Any = CLIPProcessor.from_pretrained(source, **where)
            # The default depends on whether torchvision happens to be installed, and the two resize differently.
            self.processor.image_processor = CLIPImageProcessorPil.from_pretrained(source, **where)
        except Exception as error:
            reason = first_line(error)
            raise UserError(f"the CLIP at {source} does not load: {reason}") from error
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
    license="MIT",
    blind_to="how an image looks; counts, places, whose an attribute is; detail below 224 pixels, text past 77 tokens",
    unfit_for="methods that follow the gradient of another CLIP of OpenAI's: it learnt from the same image-text pairs",
    made_of=(kinship.CLIP_B_COSINE, kinship.OPENAI_PAIRS),
    ms=CLIP_B.ms,
    gib=CLIP_B.gib,
)
_CHECKPOINT = Checkpoint(
    "clipscore",
    (
        Part(
            _FOLDER,
            "openai/clip-vit-base-patch32",
            "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
            weights=("model.safetensors", "pytorch_model.bin"),
            about_bytes=4 * CLIP_B.parameters,
        ),
    ),
    instead=((Part(_FILE),),),
)
add_plugin("metrics", "clipscore", entry(_ROW, CLIPScore, _CHECKPOINT, version=VERSION), "bench")
