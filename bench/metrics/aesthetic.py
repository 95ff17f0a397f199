"""The LAION aesthetic predictor sac+logos+ava1-l14-linearMSE: linear layers on CLIP ViT-L/14's image features.

The file `ava+logos-l14-linearMSE.pth` of the same repository gives other scores. The prompt plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.metrics.base import MetricEntry
from bench.metrics.checkpoint import Checkpoint, Part, fill, tensors
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
_PLACES = (0, 2, 4, 6, 7)
"""Where the five linear layers stand in the published file; dropout stands between them."""


class Aesthetic(RealScorer):
    """A rating of about 1 to 10: five linear layers, without activations, on L2-normalised image features."""

    def load(self, checkpoint: Checkpoint) -> None:
        import torch

        clip = clip_of(checkpoint.path(_CLIP))
        path = checkpoint.path(_HEAD)
        state = tensors(path)
        layers = {}
        for place in _PLACES:
            weight = state.get(f"layers.{place}.weight")
            if weight is not None and weight.ndim == 2:
                layers[str(place)] = torch.nn.Linear(weight.shape[1], weight.shape[0])
        head = torch.nn.Module()
        head.layers = torch.nn.ModuleDict(layers)
        fill(head, state, of=path)
        self.model, self.head = self.ready(clip), [self.ready(layer) for layer in head.layers.values()]
        self.side: int = clip.config.vision_config.image_size

    def judge(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> torch.Tensor:
        import torch

        pixels = self.placed(cropped(images, self.side, "torchvision"))
        x = torch.nn.functional.normalize(self.model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        for layer in self.head:
            x = layer(x)
        return x[:, 0]


_CHECKPOINT = Checkpoint(
    "aesthetic",
    (
        Part(
            _HEAD,
            sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
            where="in the repository christophschuhmann/improved-aesthetic-predictor, commit 6934dd81, not on the hub",
        ),
        Part(
            _CLIP,
            "openai/clip-vit-large-patch14",
            "32bd64288804d66eefd0ccbe215aa642df71cc41",
            weights=("model.safetensors",),
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
)
add_plugin("metrics", "aesthetic", entry(_ROW, Aesthetic, _CHECKPOINT, version=VERSION), "bench")
