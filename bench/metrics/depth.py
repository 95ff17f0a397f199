"""DPT (Ranftl et al. 2021, 2103.13413) as T2I-CompBench++ asks it for `3d_spatial`: how near each part of an image is.

The network is MiDaS's hybrid, the public code's `dpt_hybrid-midas-501f0c75.pt`, by transformers. The image is squashed
to 480 x 480 by a bilinear filter; what the network says, which is larger for what is nearer, is spread over 0 to 1,
brought back to the image's size and cut to whole grey levels, as the public code keeps it in a file, and then resized
as the detector's image is. The public code runs the network in half precision; here it is in the scorer's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.metrics.checkpoint import Checkpoint
from bench.metrics.real import Loaded
from bench.models.base import check_folder, quiet_hub_libraries

if TYPE_CHECKING:
    import numpy as np
    import torch

FOLDER = "dpt-hybrid-midas"
SIDE = 480


class Depth:
    """The loaded network, on a scorer's device and in its precision."""

    def __init__(self, owner: Loaded, checkpoint: Checkpoint):
        import torch
        from transformers import DPTForDepthEstimation

        quiet_hub_libraries()
        folder = checkpoint.path(FOLDER)
        check_folder(folder)
        self.owner = owner
        network: Any = DPTForDepthEstimation.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        # It resizes its position embeddings to any size, but refuses others than its own.
        network.dpt.embeddings.image_size = (SIDE, SIDE)
        self.network = owner.ready(network)

    def near(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(height, width) of a size, 0 for the farthest and 1 for the nearest part of an image (H, W, 3) uint8."""
        import numpy as np
        from PIL import Image

        squashed = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        found = self.network(pixel_values=self.owner.placed(prepared(np.asarray(squashed)))).predicted_depth[0].float()
        levels = Image.fromarray(grey_levels(found, image.shape[:2]))
        return np.asarray(levels.resize(size[::-1], Image.Resampling.BILINEAR), np.float32) / 255


def prepared(pixels: np.ndarray) -> torch.Tensor:
    """(1, 3, h, w) in [-1, 1] of pixels (h, w, 3) uint8."""
    import torch

    return (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5


def grey_levels(found: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """What the network says (h, w) as uint8 of a shape (H, W), spread over all levels; all 0 where it is flat."""
    import torch

    low, high = found.min(), found.max()
    if not high > low:
        return torch.zeros(shape, dtype=torch.uint8).numpy()
    spread = (found - low) / (high - low)
    whole = torch.nn.functional.interpolate(spread[None, None], size=tuple(shape), mode="bilinear", align_corners=True)
    return (255 * whole[0, 0]).clamp(0, 255).byte().cpu().numpy()
