"""What the tests of the trainings on places share: rows without latents, and a dozen latents that show nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from bench.shapes.captions import place_colored
from bench.shapes.places import Data


class Rows(Data):
    """Rows of each kind without any latents."""

    def __init__(self) -> None:
        self.clear, self.colored, self.plain, self.others = (np.arange(10 * k, 10 * k + 10) for k in range(4))
        self.usual = np.arange(20, 40)


def dozen(latent: tuple[int, int, int]) -> Callable[..., None]:
    """An `__init__` of `Data` with twelve random latents of a shape, whatever it is given."""

    def init(self: Data, *args: object) -> None:
        rng = np.random.default_rng(6)
        self.prompts = [place_colored(rng, "train").prompt for _ in range(12)]
        self.latents = torch.randn(12, *latent, generator=torch.Generator().manual_seed(6))
        self.clear, self.colored, self.plain, self.others = np.split(np.arange(12), 4)
        self.usual = np.arange(6, 12)

    return init
