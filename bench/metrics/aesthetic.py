"""The LAION aesthetic predictor sac+logos+ava1-l14-linearMSE: linear layers on CLIP ViT-L/14's image features.

The file `ava+logos-l14-linearMSE.pth` of the same repository gives other scores. The prompt plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench import kinship
from bench.metrics.backbones import CLIP_L
from bench.metrics.base import MetricEntry
from bench.metrics.checkpoint import Checkpoint, Part, tensors
from bench.metrics.pixels import cropped
from bench.metrics.real import RealScorer, clip_of, entry
from bench.registry import add_plugin

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.prompts.base import Prompt

VERSION = "1"
_HEAD = "sac+logos+ava1-l14-linearMSE.pth"
_CLIP = "clip-vit-large-patch14"


class Aesthetic(RealScorer):
    """A rating of about 1 to 10: five linear layers, without activations, on L2-normalised image features."""

    shares = (_CLIP,)

    def load(self, checkpoint: Checkpoint) -> None:
        from bench.metrics.networks.linear import Linears

        self.backbone = self.shared(checkpoint, _CLIP, "clip", lambda: clip_of(checkpoint.path(_CLIP)))
        path = checkpoint.path(_HEAD)
        self.model, self.head = self.backbone.module, self.ready(Linears.of(tensors(path), path))
        self.side: int = self.model.config.vision_config.image_size

    def judge(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> torch.Tensor:
        import torch

        features = self.backbone.once(images, "cropped, torchvision", self._features)
        rating: torch.Tensor = self.head(torch.nn.functional.normalize(features, dim=-1))[:, 0]
        return rating

    def _features(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        pixels = self.placed(cropped(images, self.side, "torchvision"))
        return self.model.get_image_features(pixel_values=pixels).pooler_output


_CHECKPOINT = Checkpoint(
    "aesthetic",
    (
        Part(
            _HEAD,
            sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
            where="in the repository christophschuhmann/improved-aesthetic-predictor, not on the hub",
            url="https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/"
            f"6934dd81792f086e613a121dbce43082cb8be85e/{_HEAD}",
            about_bytes=3_714_759,
        ),
        Part(
            _CLIP,
            "openai/clip-vit-large-patch14",
            "32bd64288804d66eefd0ccbe215aa642df71cc41",
            weights=("model.safetensors",),
            about_bytes=4 * CLIP_L.parameters,
        ),
    ),
)
_ROW = MetricEntry(
    "aesthetic",
    title="AES",
    unit="1-10",
    load=None,
    identify=str,
    scale="5.5 to 6.4",
    about="LAION aesthetic predictor sac+logos+ava1-l14-linearMSE on CLIP ViT-L/14",
    license="Apache-2.0 (head), MIT (CLIP)",
    blind_to="the prompt; detail below 224 pixels, what the centre crop cuts off",
    unfit_for="one model against another: the training images of SD 1.x and 2.x were filtered by it",
    made_of=(
        kinship.Trait("labels", "ratings of SAC, LAION-Logos and AVA"),
        kinship.OPENAI_CLIP_L,
        kinship.OPENAI_PAIRS,
    ),
    ms=CLIP_L.ms,
    gib=CLIP_L.gib,
)
add_plugin("metrics", "aesthetic", entry(_ROW, Aesthetic, _CHECKPOINT, version=VERSION), "bench")
