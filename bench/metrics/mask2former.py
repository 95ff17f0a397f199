"""Mask2Former on COCO's 80 classes as a detector, by transformers, read as mmdet 2 reads it for GenEval's scorer.

mmdet's test pipeline: the image is resized to 800 on its shorter side, at most 1333 on the longer, by bilinear
interpolation without antialiasing and in whole grey levels, padded with 128 to a multiple of 32, and normalised. Of the
100 best (query, class) pairs the score is the class probability times the mean probability inside the mask; the mask is
where the logit, resized to the image, is positive, and the box is the mask's. Overlapping objects stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.metrics.checkpoint import Checkpoint
from bench.metrics.geneval_rules import THRESHOLD, Detection
from bench.metrics.real import Loaded
from bench.models.base import check_folder, quiet_hub_libraries

if TYPE_CHECKING:
    import numpy as np
    import torch

FOLDER = "mask2former-swin-small-coco-instance"
SHORT, LONG, DIVISOR, PADDING = 800, 1333, 32, 128.0
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
MOST = 100
"""(query, class) pairs of an image that are looked at."""
NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "computer mouse", "tv remote", "computer keyboard", "cell phone", "microwave", "oven", "toaster",
    "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's 80 classes in its order, by the names that GenEval gives them."""


class Mask2Former:
    """The loaded network, on a scorer's device and in its precision."""

    def __init__(self, owner: Loaded, checkpoint: Checkpoint):
        import torch
        from transformers import Mask2FormerForUniversalSegmentation

        quiet_hub_libraries()
        folder = checkpoint.path(FOLDER)
        check_folder(folder)
        # Not the owner itself, which holds this: a circle would outlive the scorer, with its networks.
        self.device, self.dtype = owner.device, owner.dtype
        network = Mask2FormerForUniversalSegmentation.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32
        )
        if network.config.num_labels != len(NAMES):
            raise UserError(f"{folder}: has {network.config.num_labels} classes, expected COCO's {len(NAMES)} things")
        self.network = owner.ready(network)

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Objects above GenEval's threshold in images (H, W, 3) uint8; images of one size are looked at together."""
        found: list[list[Detection]] = [[] for _ in images]
        for shape in dict.fromkeys(image.shape for image in images):
            rows = [i for i, image in enumerate(images) if image.shape == shape]
            pixels, size = prepared([images[i] for i in rows])
            out = self.network(pixel_values=pixels.to(device=self.device, dtype=self.dtype))
            padded = (pixels.shape[2], pixels.shape[3])
            for k, i in enumerate(rows):
                classes, masks = out.class_queries_logits[k].float(), out.masks_queries_logits[k].float()
                found[i] = detections(classes, masks, padded=padded, size=size, shape=shape[:2])
        return found


def prepared(images: Sequence[np.ndarray]) -> tuple[torch.Tensor, tuple[int, int]]:
    """(B, 3, h, w) fp32 of images of one size as mmdet prepares them, and the height and width without padding."""
    import numpy as np
    import torch

    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    height, width = x.shape[2:]
    scale = min(LONG / max(height, width), SHORT / min(height, width))
    size = (int(height * scale + 0.5), int(width * scale + 0.5))
    if size != (height, width):
        x = torch.nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False).round()
    down, across = (-n % DIVISOR for n in size)
    x = torch.nn.functional.pad(x, (0, across, 0, down), value=PADDING)
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, DEVIATION))
    return (x - mean) / deviation, size


def detections(
    classes: torch.Tensor,
    masks: torch.Tensor,
    *,
    padded: tuple[int, int],
    size: tuple[int, int],
    shape: tuple[int, int],
) -> list[Detection]:
    """Objects of one image from logits of classes (Q, 81) and masks (Q, h, w), best first.

    `padded` is the network's input, `size` the part of it that is the image, `shape` the image itself. A score is no
    more than its class probability, so pairs that stay below GenEval's threshold cost no mask.
    """
    from torch.nn.functional import interpolate

    scores = classes.softmax(-1)[:, :-1]
    best, where = scores.flatten().topk(min(MOST, scores.numel()))
    best, where = best[best > THRESHOLD], where[best > THRESHOLD]
    found = []
    for score, place in zip(best.tolist(), where.tolist(), strict=True):
        query, label = divmod(place, scores.shape[1])
        logits = interpolate(masks[None, query : query + 1], size=padded, mode="bilinear", align_corners=False)
        logits = logits[:, :, : size[0], : size[1]]
        logits = interpolate(logits, size=shape, mode="bilinear", align_corners=False)[0, 0]
        inside = logits > 0
        area = int(inside.sum())
        confidence = score * float((logits.sigmoid() * inside).sum()) / (area + 1e-6)
        if area and confidence > THRESHOLD:
            mask = inside.cpu().numpy()
            found.append(Detection(NAMES[label], confidence, box_of(mask), mask))
    return sorted(found, key=lambda d: -d.confidence)


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1) around a bool mask (H, W) that is not empty, upper ends exclusive."""
    import numpy as np

    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def intersection_over_union(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two boxes (x0, y0, x1, y1); 0 where both are empty."""
    across, down = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas: list[Any] = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    union = sum(areas) - across * down
    return across * down / union if not math.isclose(union, 0) else 0.0
