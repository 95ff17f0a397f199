"""How good the embedded world is: every figure that a card states, as a function of the shipped weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.metrics.geneval_rules import TASKS, GenEval, judge
from bench.prompts.base import Prompt
from bench.shapes import stylist
from bench.shapes.captions import Caption, distinct_held_out, foil, sample, scene
from bench.shapes.detector import ShapesDetector, detect
from bench.shapes.scenes import render
from bench.shapes.tasks import captioned, to_images, to_tensor, token_ids


def prompts_of(captions: Sequence[Caption]) -> list[Prompt]:
    """The captions as a prompt set has them."""
    return [Prompt(i, c.prompt, c.tag, c.metadata()) for i, c in enumerate(captions)]


def by_task(captions: Sequence[Caption], right: Sequence[float]) -> dict[str, float]:
    """Mean of each task and, as "overall", the mean of the task means."""
    found = {}
    for task in TASKS:
        values = [r for c, r in zip(captions, right, strict=True) if c.tag == task]
        if values:
            found[task] = float(np.mean(values))
    return found | {"overall": float(np.mean(list(found.values())))}


def detector_accuracy(n: int, *, seed: int = 21) -> dict[str, float]:
    """Share of rendered scenes whose objects (shape, colour, nothing else) are all seen right, by task.

    One in ten captions names a pair that training never shows.
    """
    rng = np.random.default_rng(seed)
    captions = [sample(rng, "train") for _ in range(n - n // 10)] + distinct_held_out(rng, n // 10)
    right = []
    for caption in captions:
        s = scene(caption, rng)
        seen = sorted((d.class_name, d.color or "") for d in detect(render(s)) if d.confidence > 0.9)
        right.append(float(seen == sorted((o.shape, o.color) for o in s.objects)))
    return by_task(captions, right) | {"all": float(np.mean(right))}


def vae_agreement(vae: Any, n: int = 2000, *, seed: int = 22) -> dict[str, float]:
    """Share of scenes that GenEval's rules still find right for their caption after the autoencoder, by task."""
    import torch

    rng = np.random.default_rng(seed)
    captions, images = captioned(rng, n, "validation")
    with torch.no_grad():
        again = np.concatenate(
            [
                to_images(vae.decode(vae.encode(to_tensor(b)).latent_dist.mean).sample)
                for b in np.split(images, n // 100)
            ]
        )
    right = [v.value for v in GenEval(ShapesDetector()).score(list(again), prompts_of(captions))]
    error = float(np.abs(again.astype(float) - images).mean())
    same = [_objects(a) == _objects(b) for a, b in zip(images, again, strict=True)]
    return by_task(captions, right) | {"same_objects": float(np.mean(same)), "grey_levels": error}


def _objects(image: np.ndarray) -> list[tuple[str, str]]:
    return sorted((d.class_name, d.color or "") for d in detect(image) if d.confidence > 0.3)


def clip_ranking(clip: Any, n: int = 1000, *, among: int = 32, seed: int = 23) -> dict[str, float]:
    """How often the true caption ranks first among 32, the others being false for the image; and against its foil."""
    import torch
    from torch.nn import functional as F

    rng = np.random.default_rng(seed)
    captions, images = captioned(rng, n, "scorers")
    pool = [sample(rng, "scorers") for _ in range(3000)]
    with torch.no_grad():

        def texts(some: Sequence[Caption]) -> Any:
            return F.normalize(
                clip.get_text_features(input_ids=token_ids([c.prompt for c in some])).pooler_output, dim=-1
            )

        image = F.normalize(clip.get_image_features(pixel_values=to_tensor(images)).pooler_output, dim=-1)
        own = (image * texts(captions)).sum(-1)
        others = image @ texts(pool).T
        foils = [foil(c, rng) or c for c in captions]
        against = (image * texts(foils)).sum(-1)
    first = foiled = judged = 0
    for i, found in enumerate(ShapesDetector().detect(list(images))):

        def true(c: Caption, found: Any = found) -> bool:
            return judge(c.metadata(), found, lambda some: [d.color for d in some])[0]

        false: list[int] = []
        for j in rng.permutation(len(pool)):
            if not true(pool[j]):
                false.append(int(j))
                if len(false) == among - 1:
                    break
        first += bool(own[i] > others[i, false].max())
        if not true(foils[i]):
            judged += 1
            foiled += bool(own[i] > against[i])
    return {"first_of_32": first / n, "against_foil": foiled / judged}


def preference_agreement(model: Any, data: tuple[Any, ...], *, seed: int = 24) -> dict[str, float]:
    """Agreement with held-out votes, and the ceiling: how often a voter's own utility predicts the vote."""
    import torch

    from bench.shapes.votes import vote

    captions, images, utilities, _ = data
    rng = np.random.default_rng(seed)
    ids = token_ids([c.prompt for c in captions])
    with torch.no_grad():
        scores = torch.stack([model(to_tensor(images[:, k]), ids) for k in range(4)], 1)
    a, b = np.triu_indices(4, 1)
    u = torch.from_numpy(utilities).float()
    votes = torch.stack([vote(u[:, [i, j]], rng) for i, j in zip(a, b, strict=True)], 1) > 0.5
    agree = ((scores[:, a] > scores[:, b]) == votes).float().mean()
    ceiling = ((u[:, a] > u[:, b]) == votes).float().mean()
    made = ((scores[:, 0] > scores[:, 3]) == votes[:, 2]).float().mean()
    return {
        "votes": votes.numel(),
        "agreement": float(agree),
        "ceiling": float(ceiling),
        "true_against_made": float(made),
    }


def aesthetic_error(head: Any, clip: Any, data: tuple[Any, ...]) -> dict[str, float]:
    """Correlation and mean absolute error against held-out pictures' own ratings (1 to 10)."""
    import torch

    from bench.shapes.judges import image_features

    _, images, _, ratings = data
    with torch.no_grad():
        predicted = head(image_features(clip, images.reshape(-1, 64, 64, 3))).numpy()
    truth = ratings.reshape(-1)
    return {
        "correlation": float(np.corrcoef(predicted, truth)[0, 1]),
        "mean_absolute_error": float(np.abs(predicted - truth).mean()),
        "spread": float(truth.std()),
    }


def geneval(
    pipeline: Any, *, guidance: float, per_task: int = 100, steps: int = 20, seed: int = 25
) -> dict[str, float]:
    """GenEval scores of a pipeline on validation captions that training never saw, by task."""
    rng = np.random.default_rng(seed)
    captions = [sample(rng, "validation", task) for task in TASKS for _ in range(per_task)]
    right: list[float] = []
    metric = GenEval(ShapesDetector())
    for i in range(0, len(captions), 50):
        batch = captions[i : i + 50]
        pixels = _drawn(pipeline, batch, guidance=guidance, steps=steps, seed=1000 * seed + i)
        right += [v.value for v in metric.score(list(pixels), prompts_of(batch))]
    return by_task(captions, right)


def _drawn(pipeline: Any, captions: Sequence[Caption], *, guidance: float, steps: int, seed: int) -> np.ndarray:
    """Images (N, 64, 64, 3) uint8 of captions, each from noise of its own seed."""
    import torch

    images = pipeline(
        prompt=[c.prompt for c in captions],
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(seed + k) for k in range(len(captions))],
        output_type="np",
    ).images
    return np.rint(images * 255).astype(np.uint8)


def style_gain(
    before: Any, after: Any, *, guidance: float, captions: int = 200, seeds: int = 2, steps: int = 20, seed: int = 26
) -> dict[str, Any]:
    """What the stylist feels for drawings of two pipelines from the same noise, and the paired interval over captions.

    On validation captions, in the tasks' even shares.
    """
    from bench.stats import paired_delta, win_rate

    rng = np.random.default_rng(seed)
    drawn = [sample(rng, "validation") for _ in range(captions)]
    felt: list[list[float]] = [[], []]
    clusters: list[int] = []
    for s in range(seeds):
        for i in range(0, captions, 50):
            batch = drawn[i : i + 50]
            first = 1_000_000 * (s + 1) + 1000 * seed + i
            for one, pipeline in zip(felt, (before, after), strict=True):
                one += stylist.style(_drawn(pipeline, batch, guidance=guidance, steps=steps, seed=first)).tolist()
            clusters += range(i, i + len(batch))
    gain, wins = paired_delta(felt[1], felt[0], clusters), win_rate(felt[1], felt[0], clusters)
    return {
        "images": len(clusters),
        "before": float(np.mean(felt[0])),
        "after": float(np.mean(felt[1])),
        "gain": [gain.estimate, gain.low, gain.high],
        "wins": [wins.estimate, wins.low, wins.high],
    }
