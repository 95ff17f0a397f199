"""GenEval (Ghosh et al. 2023, 2310.11513): whether an image shows what its prompt's metadata asks for. A port.

The public scorer finds objects with mmdet's Mask2Former (Swin-S, COCO) and names colours with CLIP ViT-L/14. Here the
detector is transformers' Mask2Former with its own authors' weights of the same architecture and data, read as mmdet
reads it (`mask2former.py`); colours and rules are the public ones, in fp32 where the public code runs CLIP under
autocast. Levels may differ from the public scorer's by the detector's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench import kinship
from bench.backoff import Backoff
from bench.metrics.base import MetricEntry, Value
from bench.metrics.checkpoint import Checkpoint, Part
from bench.metrics.geneval_rules import Detection, GenEval
from bench.metrics.mask2former import FOLDER, Mask2Former
from bench.metrics.pixels import GREY
from bench.metrics.real import Loaded, entry
from bench.metrics.towers import Towers
from bench.registry import add_plugin

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bench.prompts.base import Prompt

VERSION = "1"
_CLIP, _FILE = "clip-vit-large-patch14", "ViT-L-14.pt"
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")
BATCH = 8
"""Images at once, at first: the detector sees 800 pixels a side."""


class Port(Loaded):
    """The detector of GenEval's rules, and the metric on it: 1 for a right image, else 0."""

    shares = (_CLIP, _FILE)

    def load(self, checkpoint: Checkpoint) -> None:
        self.backoff = Backoff(BATCH)
        self.detector = Mask2Former(self, checkpoint)
        self.towers = Towers(self, checkpoint, folder=_CLIP, file=_FILE, architecture="ViT-L-14")
        self.named: dict[str, torch.Tensor] = {}
        """By class, the (10, D) directions of its colours."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[Value]:
        """One value an image, in parts that fit the memory; the detail has the task and what is wrong."""
        found: list[Value] = []
        rules = GenEval(self)
        self.in_parts(
            len(images), lambda part: found.extend(rules.score([images[i] for i in part], [prompts[i] for i in part]))
        )
        return found

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Objects above the threshold; what is below it counts for nothing."""
        return self.detector.detect(images)

    def colors(self, image: np.ndarray, detections: Sequence[Detection]) -> list[str]:
        """The nearest of ten colours of each detection: cut out along its mask, on grey, and cropped to its box."""
        if not detections:
            return []
        seen = self.towers.parts([cut_out(image, d) for d in detections]).float()
        directions = [self._directions(d.class_name) for d in detections]
        return [COLORS[int((of @ x).argmax())] for of, x in zip(directions, seen, strict=True)]

    def _directions(self, name: str) -> torch.Tensor:
        """(10, D) mean directions of each colour's three sentences for a class."""
        from torch.nn.functional import normalize

        if name not in self.named:
            texts = [t.format(color=color, name=name) for color in COLORS for t in TEMPLATES]
            read = normalize(self.towers.texts(texts).float(), dim=-1)
            self.named[name] = normalize(read.unflatten(0, (len(COLORS), -1)).mean(1), dim=-1)
        return self.named[name]


def cut_out(image: np.ndarray, detection: Detection) -> np.ndarray:
    """The part of an image (H, W, 3) in a detection's box, grey outside of its mask."""
    import numpy as np

    x0, y0, x1, y1 = (round(v) for v in detection.box)
    part = np.array(image[y0:y1, x0:x1])
    if detection.mask is not None:
        part[~detection.mask[y0:y1, x0:x1]] = GREY
    return part


# No public code was found that names a commit of it, so its content is what pins it.
_DETECTOR = Part(
    FOLDER, f"facebook/{FOLDER}", "main", weights=("model.safetensors", "pytorch_model.bin"), about_bytes=276_000_000
)
_CHECKPOINT = Checkpoint(
    "geneval",
    (
        _DETECTOR,
        Part(
            _CLIP,
            "openai/clip-vit-large-patch14",
            "32bd64288804d66eefd0ccbe215aa642df71cc41",
            weights=("model.safetensors",),
        ),
    ),
    instead=((_DETECTOR, Part(_FILE)),),
)
_ROW = MetricEntry(
    "geneval",
    title="GenEval",
    unit="accuracy",
    load=None,
    identify=str,
    scale="0 to 1",
    bounds=(0, 1),
    needs_metadata=True,
    metadata_key="include",
    categories=kinship.GENEVAL_TASKS,
    overall="categories",
    about="a port: transformers' Mask2Former Swin-S for mmdet's, ViT-L/14 colours, public rules (2310.11513)",
    license="MIT (Mask2Former's code; its card says other), MIT (CLIP)",
    blind_to="quality and style, what the prompt's clauses do not name, things outside COCO's 80 classes",
    unfit_for="methods that are steered by a detector trained on COCO, or given the boxes",
    made_of=(
        kinship.Trait("detector", "Mask2Former Swin-S of COCO, its authors' weights"),
        kinship.GENEVAL_RULES,
        kinship.OPENAI_CLIP_L,
        kinship.OPENAI_PAIRS,
    ),
)
add_plugin("metrics", "geneval", entry(_ROW, Port, _CHECKPOINT, version=VERSION), "bench")
