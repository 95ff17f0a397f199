"""What scorers make of an image before they look at it, by Pillow, NumPy and torch alone.

torchvision is not asked, so a score does not depend on whether it is installed. Two croppings exist: that of OpenAI's
CLIP and torchvision rounds an odd margin to the even side, that of transformers down; they differ by one pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

GREY = 0x99
"""The level of #999, on which GenEval shows an object without its surroundings."""

Crop = Literal["torchvision", "transformers"]


def cropped(images: Sequence[np.ndarray], side: int, crop: Crop) -> torch.Tensor:
    """(B, 3, side, side) fp32 of images (H, W, 3) uint8, normalised with CLIP's mean and deviation.

    The shorter side is resized to `side` by Pillow's bicubic filter, which antialiases, and the middle is cut out.
    """
    import numpy as np
    import torch
    from PIL import Image

    mean, std = np.array(CLIP_MEAN, np.float32), np.array(CLIP_STD, np.float32)
    found = np.empty((len(images), 3, side, side), np.float32)
    for i, image in enumerate(images):
        height, width = image.shape[:2]
        # The longer side is cut to a whole number, not rounded, in both libraries.
        size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
        picture = Image.fromarray(image)
        if size != (width, height):
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = (_margin(n - side, crop) for n in size)
        pixels = np.asarray(picture)[top : top + side, left : left + side].astype(np.float32)
        found[i] = ((pixels / np.float32(255) - mean) / std).transpose(2, 0, 1)
    return torch.from_numpy(found)


def _margin(rest: int, crop: Crop) -> int:
    return round(rest / 2) if crop == "torchvision" else rest // 2


def padded(images: Sequence[np.ndarray], side: int) -> torch.Tensor:
    """(B, 3, side, side) fp32 of images (H, W, 3) uint8, as HPSv2's package prepares them.

    The *longer* side is resized to `side`, as a tensor in [0, 1] and with antialiasing, the rest is padded with black
    on both sides, and only then is it normalised. Values beyond [0, 1], which bicubic filters make, are kept.
    """
    import numpy as np
    import torch

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    found = []
    for image in images:
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        scale = side / float(max(x.shape[1:]))
        if scale != 1:
            height, width = (max(round(n * scale), 1) for n in x.shape[1:])
            x = torch.nn.functional.interpolate(
                x[None], size=(height, width), mode="bicubic", align_corners=False, antialias=True
            )[0]
        down, across = side - x.shape[1], side - x.shape[2]
        x = torch.nn.functional.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        found.append((x - mean) / std)
    return torch.stack(found)


def squashed(images: Sequence[np.ndarray], side: int, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(B, 3, side, side) fp32 of images (H, W, 3) uint8: resized to a square whatever their shape, and normalised."""
    import numpy as np
    import torch
    from PIL import Image

    found = np.empty((len(images), 3, side, side), np.float32)
    middle, spread = np.array(mean, np.float32), np.array(std, np.float32)
    for i, image in enumerate(images):
        pixels = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)).astype(np.float32)
        found[i] = ((pixels / np.float32(255) - middle) / spread).transpose(2, 0, 1)
    return torch.from_numpy(found)


def squared(images: Sequence[np.ndarray], side: int, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """The same of the middle square of each image, its odd margin rounded down."""
    cut = []
    for image in images:
        n = min(image.shape[:2])
        top, left = ((size - n) // 2 for size in image.shape[:2])
        cut.append(image[top : top + n, left : left + n])
    return squashed(cut, side, mean, std)
