"""What the preference model and the aesthetic head are trained on: votes and ratings, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.metrics.geneval_rules import Detection
from bench.shapes.captions import Caption
from bench.shapes.scenes import SIZE
from bench.shapes.tasks import to_tensor, token_ids
from bench.shapes.tokenizer import build_tokenizer
from bench.shapes.training import train
from bench.shapes.votes import FAITH, RATING_NOISE, all_relations, beauty, faithfulness, faithfulness_of_all

if TYPE_CHECKING:
    import torch

VOTE_CAPTIONS = 36_000
RATED_CAPTIONS = 3_000
"""The aesthetic head needs fewer pictures: it rests on a trained CLIP."""
HELD_OUT_VOTE_CAPTIONS = 2_000
OTHERS = 8
"""Images of other captions among which a voter also chooses."""

FINE_STEP = 3_600
"""Until this step the preference model learns what belongs together; from here on the small differences between a
caption's own images weigh three times, and images are shifted, which keeps it from knowing them by heart."""

PLACES_STEPS = (12_000, 16_000)
"""From the first on half of a batch are captions that say where one thing is from another. They are one in seven, and
what places mean is learnt last: at this step a third of all lost votes were theirs. At both the learning rate rises
again."""


class Crowd:
    """Many voters before the images of many captions, (N, 4, 64, 64, 3): what they see, and feel for any caption.

    A caption that says where things are is there twice: also with a scene for each relation, which differ in nothing
    else that matters to a voter.
    """

    def __init__(
        self, captions: list[Caption], images: np.ndarray, utilities: np.ndarray, *, say: Callable[[str], Any]
    ):
        rng = np.random.default_rng(4)
        placed = [c for c in captions if c.tag == "position"]
        scenes = np.stack([all_relations(c, rng) for c in placed])
        self.captions, self.images = captions + placed, np.concatenate([images, scenes])
        say(f"preference: looking at {4 * len(self.images)} images")
        self.seen, faith = faithfulness_of_all(self.captions, self.images)
        self.turned = [[mirrored(d) for d in row] for row in self.seen]
        # What is felt whatever the caption; of the scenes it was not asked yet.
        known = len(captions)
        rows = zip(scenes, self.seen[known:], strict=True)
        drawn = [[beauty(image, d) for image, d in zip(four, looks, strict=True)] for four, looks in rows]
        self.beauty = np.concatenate([utilities - FAITH * faith[:known], drawn])
        self.of_places = np.flatnonzero([c.tag == "position" for c in self.captions])

    def gather(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, torch.Tensor]:
        """The images of captions (B,), as (4 B, 64, 64, 3), and what each is worth for every caption, (B, 4 B).

        An image is as often its own mirror image, of which the voters' rule is asked again: "left of" is "right of".
        """
        import torch

        turn = rng.random((len(rows), 4)) < 0.5
        pixels = np.where(turn[:, :, None, None, None], self.images[rows][:, :, :, ::-1], self.images[rows])
        shown = [(self.turned if turn[i, k] else self.seen)[row][k] for i, row in enumerate(rows) for k in range(4)]
        faith = np.array([[faithfulness(self.captions[row], d) for d in shown] for row in rows])
        worth = torch.from_numpy(FAITH * faith + self.beauty[rows].reshape(1, -1)).float()
        return pixels.reshape(-1, *pixels.shape[2:]), worth


def mirrored(detections: list[Detection]) -> list[Detection]:
    """What the detector would see in the image's mirror image: every shape of the world is its own."""
    return [replace(d, box=(SIZE - d.box[2], d.box[1], SIZE - d.box[0], d.box[3])) for d in detections]


def shifted(images: torch.Tensor, rng: np.random.Generator, *, most: int = 2) -> torch.Tensor:
    """Each of (B, 3, H, W) moved by up to `most` pixels either way, its border repeated."""
    import torch
    from torch.nn import functional as F

    h, w = images.shape[-2:]
    wide = F.pad(images, (most,) * 4, mode="replicate")
    moves = rng.integers(0, 2 * most + 1, (len(images), 2))
    return torch.stack([x[:, dy : dy + h, dx : dx + w] for x, (dy, dx) in zip(wide, moves, strict=True)])


def bradley_terry(scores: torch.Tensor, utilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of scores (M, K) against a large crowd's votes on all pairs in each row, and the share they agree with."""
    import torch
    from torch.nn import functional as F

    a, b = torch.triu_indices(scores.shape[1], scores.shape[1], 1)
    difference, share = scores[:, a] - scores[:, b], torch.sigmoid(utilities[:, a] - utilities[:, b])
    agree = torch.where(difference > 0, share, 1 - share).mean()
    return F.binary_cross_entropy_with_logits(difference, share), agree


def train_preference(
    out: Path, data: tuple[Any, ...], *, steps: int = 23_000, batch: int = 24, **loop: Any
) -> tuple[Any, dict[str, float]]:
    """The preference model on votes alone, with Bradley-Terry's loss. `data` is what `votes.pool` returns.

    For each caption of a batch a crowd compares all images of the batch, two by two: the caption's own four, whose
    differences are small, and those of other captions, without which it is hardly ever learnt whether caption and
    image belong together. The crowd is large: what is learnt from is the share of its votes. The closer look is
    asked about a caption's own images and `OTHERS` more, the glance about all.
    """
    import torch

    from bench.shapes.scorers import PreferenceModel

    crowd = Crowd(*data[:3], say=loop.get("say", print))
    ids = token_ids([c.prompt for c in crowd.captions])
    torch.manual_seed(3)
    model = PreferenceModel(len(build_tokenizer()))

    def loss(rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        fine = step >= FINE_STEP
        rows = rng.integers(0, len(ids), batch)
        if step >= PLACES_STEPS[0]:
            rows[: batch // 2] = rng.choice(crowd.of_places, batch // 2)
        own = np.arange(4 * batch).reshape(batch, 4)
        # Any of the batch's images but the caption's own four.
        others = (own[:, :1] + 4 + rng.integers(0, 4 * (batch - 1), (batch, OTHERS))) % (4 * batch)
        pairs = torch.from_numpy(np.concatenate([own, others], 1))
        pixels, worth = crowd.gather(rows, rng)
        x = to_tensor(pixels)
        look, read = model.see(shifted(x, rng) if fine else x), model.read(ids[rows])
        glance, close, felt = model.at_a_glance(look, read), model.closely(look, read, pairs), worth.gather(1, pairs)
        own_loss, agree = bradley_terry(close[:, :4], felt[:, :4])
        close_loss, all_loss = bradley_terry(close, felt)[0], bradley_terry(glance, worth)[0]
        total = (3 if fine else 1) * own_loss + close_loss + all_loss
        return {"loss": total, "own": own_loss, "close": close_loss, "all": all_loss, "agree": agree}

    modules = torch.nn.ModuleDict({"model": model})
    schedule: dict[str, Any] = {"lr": 1e-3, "restarts": PLACES_STEPS, "weight_decay": 0.05, "ema": 0.998}
    totals = train("preference", modules, loss, out=out, steps=steps, **schedule, **loop)
    return model, totals


def image_features(clip: Any, images: np.ndarray) -> torch.Tensor:
    """CLIP image features (N, 64) of (N, 64, 64, 3) images."""
    import torch

    with torch.no_grad():
        return torch.cat(
            [
                clip.get_image_features(pixel_values=to_tensor(images[i : i + 200])).pooler_output
                for i in range(0, len(images), 200)
            ]
        )


def train_aesthetic(
    out: Path, clip: Any, data: tuple[Any, ...], *, steps: int = 6_000, batch: int = 256, **loop: Any
) -> tuple[Any, dict[str, float]]:
    """The aesthetic head: squared error to one noisy rating of each picture, on frozen CLIP image features."""
    import torch
    from torch.nn import functional as F

    from bench.shapes.scorers import AestheticHead

    _, images, _, ratings = data
    features = image_features(clip, images.reshape(-1, 64, 64, 3))
    target = torch.from_numpy(ratings.reshape(-1)).float()
    target = target + RATING_NOISE * torch.randn(target.shape, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(4)
    head = AestheticHead(features.shape[1])
    head.get_parameter("layers.4.bias").data.fill_(float(target.mean()))

    def loss(rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        rows = torch.from_numpy(rng.integers(0, len(features), batch))
        return {"loss": F.mse_loss(head(features[rows]), target[rows])}

    modules = torch.nn.ModuleDict({"head": head})
    return head, train("aesthetic", modules, loss, out=out, steps=steps, lr=2e-3, weight_decay=0.01, **loop)
