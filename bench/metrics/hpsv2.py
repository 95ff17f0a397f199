"""HPSv2 (Wu et al. 2023, 2306.09341): the cosine of image and prompt in a ViT-H-14 tuned on people's preferences.

As the package `hpsv2` computes it, except that its version is always named: the package's `score` takes v2.0 and its
`evaluate` v2.1 unless set, and the two are not comparable. The paper's tables are v2.1, times 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench import kinship
from bench.metrics.backbones import CLIP_H
from bench.metrics.base import MetricEntry
from bench.metrics.checkpoint import Checkpoint, Part, tensors
from bench.metrics.pixels import padded
from bench.metrics.real import RealScorer, bpe_tokens, cosine, entry, open_clip_config, open_clip_of
from bench.registry import add_plugin

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.prompts.base import Prompt

VERSION = "1"
_SOURCE = "xswu/HPSv2"
_REVISION = "697403c78157020a1ae59d23f111aa58ced35b0a"
_FILES = {
    # name: (file, sha256, version, levels)
    "hpsv2": ("HPS_v2.1_compressed.pt", "c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837", "v2.1",
              "0.26 to 0.29; the paper prints it times 100"),
    "hpsv2-v2.0": ("HPS_v2_compressed.pt", None, "v2.0", "0.25 to 0.28; not comparable with v2.1"),
}  # fmt: skip


class HPSv2(RealScorer):
    """cos(image, prompt); an `open_clip_config.json` beside the weights names another architecture than ViT-H-14."""

    def load(self, checkpoint: Checkpoint) -> None:
        path = checkpoint.path(checkpoint.parts[0].name)
        config = open_clip_config(checkpoint.folder, "ViT-H-14")
        self.model = self.ready(open_clip_of(tensors(path), config, of=path))
        self.side: int = config["vision_cfg"]["image_size"]
        self.length: int = config["text_cfg"].get("context_length", 77)

    def judge(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> torch.Tensor:
        image = self.model.encode_image(self.placed(padded(images, self.side)))
        ids = bpe_tokens([p.text for p in prompts], self.length).to(self.device)
        return cosine(image, self.model.encode_text(ids))


for _name, (_file, _sha256, _version, _scale) in _FILES.items():
    _row = MetricEntry(
        _name,
        title="HPSv2" if _version == "v2.1" else "HPSv2 (v2.0)",
        unit="cos",
        load=None,
        identify=str,
        scale=_scale,
        about=f"HPS {_version}: cosine in a ViT-H-14 tuned on preferences (2306.09341)",
        license="Apache-2.0",
        blind_to="detail below 224 pixels, text past 77 tokens; counts and places weakly",
        unfit_for="checkpoints or adapters of yours tuned on HPD v2: only named weights say so themselves",
        made_of=(kinship.HPD_V2, kinship.LAION_CLIP_H, kinship.DIFFUSIONDB, kinship.Trait("prompts", "COCO captions")),
        ms=CLIP_H.ms,
        gib=CLIP_H.gib,
    )
    # Half precision, as published.
    _part = Part(_file, _SOURCE, _REVISION, _sha256, about_bytes=2 * CLIP_H.parameters)
    add_plugin("metrics", _name, entry(_row, HPSv2, Checkpoint(_name, (_part,)), version=VERSION), "bench")
