"""ImageNet's fishes, for FID as the paper measures it (first version, D.2): a random label of 18, 5,000 times.

Draw k is a label and the seed k, so that images of one label differ. A prompt is a label, with the seeds of its draws.
"""

from __future__ import annotations

import hashlib

from bench.prompts.base import Prompt, PromptSet
from bench.registry import add_plugin

DRAWS = 5000
LABELS = {
    "n01440764": ("tench", "Tinca tinca"),
    "n01443537": ("goldfish", "Carassius auratus"),
    "n01484850": ("great white shark", "white shark", "man-eater", "man-eating shark", "Carcharodon carcharias"),
    "n01491361": ("tiger shark", "Galeocerdo cuvieri"),
    "n01494475": ("hammerhead", "hammerhead shark"),
    "n01496331": ("electric ray", "crampfish", "numbfish", "torpedo"),
    "n01498041": ("stingray",),
}
"""ImageNet's directories and their labels; the paper draws among the labels, so a class with more has more images."""


def draws() -> dict[int, tuple[int, ...]]:
    """The seeds of each label, by its place among all 18. Hashed, so that no library's version moves them."""
    n = sum(map(len, LABELS.values()))
    seeds: dict[int, list[int]] = {i: [] for i in range(n)}
    for k in range(DRAWS):
        drawn = hashlib.sha256(f"imagenet-fish {k}".encode()).digest()
        seeds[int.from_bytes(drawn[:8], "big") % n].append(k)
    return {i: tuple(found) for i, found in seeds.items()}


_DRAWS = draws()


def read() -> list[Prompt]:
    """18 prompts with the seeds of 5,000 draws; the category is ImageNet's directory."""
    named = [(label, wnid) for wnid, labels in LABELS.items() for label in labels]
    return [Prompt(i, f"{label} a class in ImageNet", wnid, seeds=_DRAWS[i]) for i, (label, wnid) in enumerate(named)]


add_plugin(
    "prompts",
    "imagenet-fish",
    PromptSet(
        "imagenet-fish",
        18,
        read,
        "2411.09502 (first version), D.2",
        about="18 labels of ImageNet's fishes; with `seeds: own` the 5,000 images of the paper's FID",
        seeds=_DRAWS,
    ),
    "bench",
)
