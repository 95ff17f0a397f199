"""What the networks of scorers weigh and cost, worked out from their architectures; for `plan`'s estimates."""

from __future__ import annotations

from dataclasses import dataclass

TFLOPS = 33.0
MACHINE = f"one RTX 4090, networks alone, fp32 at {TFLOPS:g} TFLOP/s (40 % of its peak)"
"""What `Backbone.ms` is an estimate of: reading and resizing images comes on top, and some metrics share a backbone."""


@dataclass(frozen=True)
class Backbone:
    """One network, or several that a scorer runs together."""

    parameters: int
    gflop: float
    """1e9 floating point operations, multiplications and additions, for one image with its prompt."""

    @property
    def ms(self) -> float:
        """Milliseconds an image."""
        return self.gflop / TFLOPS

    @property
    def gib(self) -> float:
        """GiB of the weights in fp32; a batch's activations come on top."""
        return 4 * self.parameters / 2**30

    def __add__(self, other: Backbone) -> Backbone:
        return Backbone(self.parameters + other.parameters, self.gflop + other.gflop)


def encoder(tokens: int, width: int, layers: int, *, mlp: int | None = None) -> float:
    """GFLOP of a transformer encoder: four projections and the two of the MLP a token, and attention among tokens."""
    wide = mlp or 4 * width
    return layers * (2 * tokens * (4 * width * width + 2 * width * wide) + 4 * tokens * tokens * width) / 1e9


CLIP_H = Backbone(986_109_441, encoder(257, 1280, 32) + encoder(77, 1024, 24))
"""ViT-H-14 at 224 pixels, with its text tower."""
CLIP_L = Backbone(427_616_513, encoder(257, 1024, 24))
"""ViT-L/14 at 224 pixels; without the text tower's time, for the aesthetic head does not ask it."""
CLIP_B = Backbone(151_277_313, encoder(50, 768, 12) + encoder(77, 512, 12))
"""ViT-B/32 at 224 pixels, with its text tower."""
BLIP_L = Backbone(446_000_000, encoder(197, 1024, 24) + 1.5 * encoder(35, 768, 12))
"""BLIP-large at 224 pixels; its text encoder looks at the image in every layer."""
INCEPTION = Backbone(23_885_392, 11.4)
"""Inception at 299 pixels."""
DINO_L = Backbone(304_368_640, encoder(257, 1024, 24))
"""DINOv2 ViT-L/14 at 224 pixels."""
QWEN2_VL_7B = Backbone(7_748_612_000, encoder(1024, 1280, 32) + 2 * 900 * 6.526 + 28 * 4 * 900 * 900 * 3584 / 1e9)
"""Qwen2-VL-7B without its word head, asked about 256 patches by an instruction: about 900 tokens."""
CLIP_L_336 = Backbone(427_944_193, encoder(577, 1024, 24))
"""ViT-L/14 at 336 pixels; without the text tower's time, which no distance asks."""
