"""The embedded stand-ins of set metrics, in the embedded CLIP's image features: distance to drawn scenes, diversity.

Their reference is 8,000 scenes of the evaluation captions, drawn exactly. Its mean and covariance are kept in the
package; `python -m bench.shapes.sets` draws them again, and a test checks that the file holds what it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.metrics.base import SetScorer
from bench.metrics.clipscore import local_clip
from bench.metrics.distances import Gaussian
from bench.metrics.features import Against

if TYPE_CHECKING:
    from bench.prompts.base import Prompt

FILE = Path(__file__).parent / "weights" / "shapes-fid" / "statistics.npz"
SCENES, SEED, SPLIT = 8000, 31, "geneval"


class ClipFeatures:
    """The embedded CLIP's image features, (B, 64)."""

    def __init__(self, folder: Path, device: str):
        self.clip = local_clip(folder, device)

    def features(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt] = ()) -> np.ndarray:
        """(B, 64) float32 features of images (H, W, 3) uint8; another size than 64 is resized, antialiased."""
        from bench.shapes.scorers import seen_by

        return seen_by(self.clip, images).float().cpu().numpy()


def distance(folder: Path, device: str) -> SetScorer:
    """The scorer of `shapes-fid`: features beside those of the drawn scenes."""
    with np.load(FILE, allow_pickle=False) as stored:
        reference = Gaussian(stored["mu"].astype(np.float64), stored["sigma"].astype(np.float64))
    return Against(ClipFeatures(folder, device), reference)


def draw(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean (64,) and covariance (64, 64) of the drawn scenes by the CLIP in a folder."""
    from bench.shapes.tasks import captioned

    _, images = captioned(np.random.default_rng(SEED), SCENES, SPLIT)
    scorer = ClipFeatures(folder, "cpu")
    features = np.concatenate([scorer.features(list(part)) for part in np.split(images, SCENES // 200)])
    wide = features.astype(np.float64)
    return wide.mean(axis=0).astype("<f4"), np.cov(wide, rowvar=False).astype("<f4")


def main() -> None:
    """Write the statistics again."""
    import torch

    torch.set_num_threads(1)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FILE.open("wb") as file:
        mean, covariance = draw(FILE.parent.parent / "shapes-clip")
        np.savez(file, mu=mean, sigma=covariance)  # as clean-fid names them
    describe()


def describe() -> None:
    """Write the card beside the statistics."""
    from bench.shapes.package import write_card

    data = f"{SCENES:,} drawn scenes of the split {SPLIT!r}, in the features of shapes-clip"
    write_card(FILE.parent, command="python -m bench.shapes.sets", seed=SEED, data=data)


if __name__ == "__main__":
    main()
