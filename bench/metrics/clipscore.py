"""CLIPScore (Hessel et al. 2021, 2104.08718): 2.5 max(cos, 0), as NPNet's released code computes it.

No "A photo depicts" prefix; the paper's level of 0.82 fits OpenAI's ViT-B/32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.metrics.base import MetricEntry, Value
from bench.models.base import check_folder, quiet_hub_libraries
from bench.registry import add_plugin

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from bench.prompts.base import Prompt

VERSION = "1"
_SOURCE = "openai/clip-vit-base-patch32"
_REVISION = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"


class ClipSimilarity:
    """A transformers CLIP and its processor; cosine of image and prompt, scaled by `weight` and cut at zero."""

    def __init__(self, source: str | Path, device: str, *, revision: str | None = None, weight: float = 2.5):
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
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
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


def _load(device: str) -> ClipSimilarity:
    return ClipSimilarity(_SOURCE, device, revision=_REVISION)


add_plugin(
    "metrics",
    "clipscore",
    MetricEntry(
        "clipscore",
        title="CLIPScore",
        unit="2.5 cos",
        load=_load,
        identify=lambda: f"clipscore-{VERSION}:{_SOURCE}@{_REVISION}",
        scale="0.80 to 0.85 in the paper's tables",
        about="OpenAI CLIP ViT-B/32, 2.5 max(cos, 0) (2104.08718)",
    ),
    "bench",
)
