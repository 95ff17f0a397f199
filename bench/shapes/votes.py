"""Synthetic labels for the embedded scorers: votes on pairs of images, and aesthetic ratings.

A vote compares two images of one caption by their utility: how faithful to the caption's clauses, and how cleanly
drawn. A rating looks at the picture alone: balance, coverage, crispness, colour. Both are noisy, as people's are,
and each scorer is trained on its own labels only.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.metrics.geneval_rules import Detection, relations
from bench.shapes.captions import RELATIONS, Caption, foil, sample, scene
from bench.shapes.detector import background, detect
from bench.shapes.scenes import SIZE, render

if TYPE_CHECKING:
    import torch

FAITH, QUALITY, CLEAN = 6.0, 3.0, 1.0
"""Weights of a vote's utility, in log odds for the whole range of each part."""

RATING_NOISE = 0.4
"""Standard deviation of one rater around the picture's own rating."""


def faithfulness(caption: Caption, detections: list[Detection]) -> float:
    """Share in [0, 1] of what the caption's clauses ask for that the detections show; extras count against it."""
    seen = [d for d in detections if d.confidence > 0.3]
    parts: list[float] = []
    groups: list[list[Detection]] = []
    for clause in caption.include:
        name, count = clause["class"], clause["count"]
        found = [d for d in seen if d.class_name == name]
        if "color" in clause:
            found.sort(key=lambda d: d.color != clause["color"])
        found = found[:count]
        groups.append(found)
        parts.append(len(found) / count)
        if "color" in clause:
            parts.append(sum(d.color == clause["color"] for d in found) / count)
        if "position" in clause:
            relation, target = clause["position"]
            pairs = [(a, b) for a in found for b in groups[target]]
            parts.append(float(bool(pairs) and all(relation in relations(a, b) for a, b in pairs)))
    wanted = sum(c["count"] for c in caption.include)
    extra = max(0, len(seen) - wanted)
    return float(np.mean(parts)) * 0.8**extra


def faithfulness_of_all(captions: list[Caption], images: np.ndarray) -> tuple[list[list[list[Detection]]], np.ndarray]:
    """What the detector sees in images (N, 4, 64, 64, 3), without masks, and their faithfulness (N, 4) to captions."""
    seen = [[[replace(d, mask=None) for d in detect(i)] for i in row] for row in images]
    faith = [[faithfulness(c, d) for d in row] for c, row in zip(captions, seen, strict=True)]
    return seen, np.array(faith)


def drawing(image: np.ndarray, detections: list[Detection]) -> tuple[float, float]:
    """(quality, cleanness) in [0, 1]: how well the objects are formed, and how plain the background is."""
    # The detector's confidence is 0.9 already for a shape just good enough to count; voters see more.
    formed = [float(np.interp(d.confidence, (0.0, 0.9, 1.0), (0.0, 0.5, 1.0))) for d in detections]
    quality = float(np.mean(formed)) if formed else 0.0
    outside = np.ones(image.shape[:2], bool)
    for d in detections:
        x0, y0, x1, y1 = (int(v) for v in d.box)
        outside[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2] = False
    rest = image[outside].astype(float)
    spread = float(np.abs(rest - background(image)[1]).mean()) if len(rest) else 20.0
    return quality, float(np.clip(1 - spread / 12, 0, 1))


def utility(caption: Caption, image: np.ndarray) -> float:
    """What a voter feels, before noise: the logit scale of a vote."""
    detections = detect(image)
    return FAITH * faithfulness(caption, detections) + beauty(image, detections)


def beauty(image: np.ndarray, detections: list[Detection]) -> float:
    """The part of an image's utility that no caption changes."""
    quality, clean = drawing(image, detections)
    return QUALITY * quality + CLEAN * clean


def rating(image: np.ndarray) -> float:
    """A picture's own aesthetic rating on a scale of 1 to 10, before a rater's noise."""
    detections = detect(image)
    quality, clean = drawing(image, detections)
    if not detections:
        return 2.0
    boxes = np.array([d.box for d in detections], float)
    areas = np.array([d.mask.sum() if d.mask is not None else 0 for d in detections], float)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    centre = (centres * areas[:, None]).sum(0) / max(areas.sum(), 1)
    balance = 1 - float(np.hypot(*(centre - SIZE / 2))) / (SIZE / 2)
    coverage = 1 - abs(float(areas.sum()) / SIZE**2 - 0.15) / 0.15
    variety = len({d.color for d in detections}) / len(detections)
    value = 3 + 2 * balance + 1.5 * max(coverage, -1) + 1.5 * quality + clean + 0.5 * variety
    return float(np.clip(value, 1, 10))


def perturbed(images: np.ndarray, vae: Any, rng: np.random.Generator) -> np.ndarray:
    """Images through the autoencoder with noise on their latents: the artefacts that a denoiser makes."""
    import torch

    from bench.shapes.tasks import to_images, to_tensor

    with torch.no_grad():
        z = vae.encode(to_tensor(images)).latent_dist.mean
        level = torch.from_numpy(rng.uniform(0, 0.6, (len(z), 1, 1, 1))).float()
        noise = torch.from_numpy(rng.standard_normal(z.shape)).float()
        return to_images(vae.decode(z + level * noise * z.std()).sample)


def pool(
    out: Path, vae: Any, pipeline: Any, *, captions: int, split: str, seed: int, say: Any = print
) -> tuple[list[Caption], np.ndarray, np.ndarray, np.ndarray]:
    """Captions, four images each (N, 4, 64, 64, 3), their utilities (N, 4) and ratings (N, 4).

    The four are: a true scene, the scene of a foil, a perturbed one of either, and one by the diffusion pipeline at
    a random guidance and step count. Made in chunks of 100 captions, each kept, so that a killed run resumes.
    """
    folder = out / f"votes-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    kept: list[Caption] = []
    images, utilities, ratings = [], [], []
    for k in range(captions // 100):
        rng = np.random.default_rng([seed, k])
        batch = [sample(rng, split) for _ in range(100)]
        path = folder / f"{k:04d}.npz"
        if not path.exists():
            four = _four(batch, vae, pipeline, rng)
            u = np.array([[utility(c, i) for i in row] for c, row in zip(batch, four, strict=True)])
            r = np.array([[rating(i) for i in row] for row in four])
            temporary = path.with_suffix(".tmp.npz")
            np.savez(temporary, images=four, utilities=u, ratings=r)
            temporary.replace(path)
            say(f"votes {split}: {100 * (k + 1)}/{captions} captions")
        with np.load(path) as data:
            images.append(data["images"])
            utilities.append(data["utilities"])
            ratings.append(data["ratings"])
        kept += batch
    return kept, np.concatenate(images), np.concatenate(utilities), np.concatenate(ratings)


def _four(captions: list[Caption], vae: Any, pipeline: Any, rng: np.random.Generator) -> np.ndarray:
    import torch

    true = np.stack([render(scene(c, rng)) for c in captions])
    false = np.stack([render(scene(foil(c, rng) or c, rng, allow_held_out=True)) for c in captions])
    mixed = np.where((rng.random(len(captions)) < 0.7)[:, None, None, None], true, false)
    artefacts = perturbed(mixed, vae, rng)
    generators = [torch.Generator().manual_seed(int(s)) for s in rng.integers(0, 2**62, len(captions))]
    made = pipeline(
        prompt=[c.prompt for c in captions],
        num_inference_steps=int(rng.integers(6, 20)),
        guidance_scale=float(rng.uniform(1.5, 7.5)),
        generator=generators,
        output_type="np",
    ).images
    return np.stack([true, false, artefacts, np.rint(made * 255).astype(np.uint8)], 1)


def all_relations(caption: Caption, rng: np.random.Generator) -> np.ndarray:
    """Four images (4, 64, 64, 3) of what a caption of the task `position` names, one for each relation."""
    subject, (_, target) = caption.include[1], caption.include[1]["position"]
    said = [(caption.include[0], {**subject, "position": [r, target]}) for r in RELATIONS]
    return np.stack([render(scene(replace(caption, include=include), rng)) for include in said])


def vote(utilities: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Votes in {0, 1} for the first of two images from their utilities (N, 2): Bernoulli of the logistic difference."""
    import torch

    odds = torch.sigmoid(utilities[:, 0] - utilities[:, 1]).numpy()
    return torch.from_numpy((rng.random(len(odds)) < odds).astype(np.float32))
