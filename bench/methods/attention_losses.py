"""The losses on attention maps that InitNO and Attend-and-Excite minimise: pure functions, one value an image.

Sources: Attend-and-Excite (Chefer et al. 2023, 2301.13826; github yuval-alaluf/Attend-and-Excite) and InitNO
(Guo et al. 2024, 2404.04650; github xiefan-guo/initno). Both work on maps of one resolution (16x16 at 512 px),
averaged over heads and layers, from the conditional prediction alone.

The order of use: attention -> `token_maps` -> `subject_maps` -> losses. Nothing reads another image of the batch.
Token positions are the tokenizer's: 0 is the start token, so the first word stands at 1. Half precision is raised
to fp32; double stays double.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch

Subject = int | Sequence[int]
"""A subject's token position, or the positions of all its tokens where a word falls into several."""

TEMPERATURE = 100.0
"""Attention is multiplied by it before the softmax over tokens."""
SIGMA = 0.5
"""Of the 3x3 Gaussian, in pixels of the map."""
CONFLICT_AFTER = 0.5
"""InitNO's first stage ignores the conflict of an image whose cross loss is above this."""

STEP_SCALE, STEP_RANGE = 20.0, (1.0, 0.5)
THRESHOLDS = {0: 0.05, 10: 0.5, 20: 0.8}
"""Attend-and-Excite: at these steps the latent is refined until the cross loss is at most 1 - threshold."""
ALTERED_STEPS = 25
REFINEMENTS = 20
"""Both methods move the latent in the first 25 steps, and refine it 20 times at the most."""

CROSS_TARGET, SELF_TARGET = 0.2, 0.3
"""InitNO is content below both."""
KL_LIMIT = 1e-3
"""After each step InitNO brings the KL term below this, by steps on that term alone."""
EMA = 0.9
"""InitNO's refinement compares the maps with their running mean of this momentum."""
REFINEMENT_CLEAN, REFINEMENT_ALIGNMENT = 0.1, 0.1


class Losses(NamedTuple):
    """Losses of B images, each (B,); `joint` is what is minimised."""

    joint: torch.Tensor
    cross: torch.Tensor
    conflict: torch.Tensor
    clean: torch.Tensor


def token_maps(
    probs: torch.Tensor, *, ends: Sequence[int] | None = None, size: tuple[int, int] | None = None
) -> torch.Tensor:
    """Share of each token at each pixel, (B, h, w, T - 2), from cross-attention (B, h*w, T) in [0, 1].

    Drops the start token and the last one, multiplies by 100 and takes the softmax over the tokens that are left, so
    every pixel's shares sum to 1. With `ends` (each image's end-of-text position, as the released Attend-and-Excite
    does for SD 2.1 alone) tokens from the end on take no part: their share is 0. Maps are square without `size`.

    Raises ValueError for maps that are not square and for an end that leaves no token.
    """
    import torch

    batch, pixels, count = probs.shape
    height, width = size or (math.isqrt(pixels), math.isqrt(pixels))
    if height * width != pixels:
        given = f"{height}x{width}" if size else "a square"
        raise ValueError(f"{pixels} pixels of attention are not {given}; give the map's size as (height, width)")
    if count < 3:
        raise ValueError(f"attention over {count} tokens holds none between the start and the last one")
    scores = _at_least_single(probs)[:, :, 1:-1] * TEMPERATURE
    if ends is not None:
        if len(ends) != batch:
            raise ValueError(f"{len(ends)} ends of text for {batch} images")
        for end in ends:
            if not 1 < end < count:
                raise ValueError(f"end of text at position {end}; expected 2 to {count - 1}")
        positions = torch.arange(1, count - 1, device=probs.device)
        beyond = positions >= torch.tensor(list(ends), device=probs.device)[:, None]
        scores = scores.masked_fill(beyond[:, None, :], -math.inf)
    return scores.softmax(dim=-1).reshape(batch, height, width, count - 2)


def smooth(maps: torch.Tensor, *, as_released: bool = False) -> torch.Tensor:
    """Maps (..., h, w) under a 3x3 Gaussian of sigma 0.5 that sums to 1, with reflected edges; h, w >= 2.

    `as_released`: both repositories square d / (2 sigma) where a Gaussian has d^2 / (2 sigma^2), which makes it one
    of sigma 0.71: a lone pixel keeps 0.33 of its value instead of 0.62. The released thresholds belong to that one.
    """
    import torch

    side = math.exp(-1 / (4 * SIGMA**2)) if as_released else math.exp(-1 / (2 * SIGMA**2))
    maps = _at_least_single(maps)
    taps = maps.new_tensor([side, 1.0, side]) / (1 + 2 * side)
    height, width = maps.shape[-2:]
    padded = torch.nn.functional.pad(maps.reshape(-1, 1, height, width), (1, 1, 1, 1), mode="reflect")
    kernel = torch.outer(taps, taps)[None, None]
    return torch.nn.functional.conv2d(padded, kernel).reshape(maps.shape)


def subject_maps(
    maps: torch.Tensor, tokens: Sequence[Sequence[Subject]], *, as_released: bool = False
) -> list[torch.Tensor]:
    """The smoothed maps of each image's subjects, B tensors (S, h, w) in [0, 1], from `token_maps` (B, h, w, T').

    A word of several tokens is one subject: its map is the sum of its tokens' shares, which is the share of the word.
    (The released code has no words. Positions given as separate subjects are what it would make of them; it then
    counts the tokens of one word as rivals.)

    Raises ValueError for another number of images, an image without subjects, and a position outside the maps.
    """
    import torch

    if len(tokens) != len(maps):
        raise ValueError(f"subject tokens of {len(tokens)} images for the maps of {len(maps)}")
    last = maps.shape[-1]
    flat: list[torch.Tensor] = []
    for image, subjects in zip(maps, tokens, strict=True):
        if not subjects:
            raise ValueError("an image without subject tokens has no attention loss")
        for subject in subjects:
            places = [subject] if isinstance(subject, int) else list(subject)
            if not places or not all(1 <= place <= last for place in places):
                raise ValueError(f"subject token at {places}; expected positions from 1 to {last}")
            flat.append(image[:, :, [place - 1 for place in places]].sum(dim=-1))
    smoothed = smooth(torch.stack(flat), as_released=as_released)
    return list(smoothed.split([len(subjects) for subjects in tokens]))


def cross_loss(subjects: Sequence[torch.Tensor]) -> torch.Tensor:
    """Neglect of the most neglected subject, (B,) in [0, 1]: the maximum over subjects of 1 - peak.

    Attend-and-Excite eq. 2 and InitNO's cross-attention response loss.
    """
    import torch

    return torch.stack([(1 - _peaks(maps)[0]).clamp(min=0).max(dim=0).values for maps in subjects])


def self_loss(
    subjects: Sequence[torch.Tensor],
    attention: torch.Tensor,
    *,
    cross: torch.Tensor | None = None,
    as_released: bool = False,
) -> torch.Tensor:
    """Overlap of the subjects' regions, (B,) in [0, 0.5]: InitNO's self-attention conflict loss.

    A subject's region is the smoothed self-attention of the pixel at which its map peaks; `attention` is
    (B, h*w, h*w), each row summing to 1. Two regions S, R count sum(min(S, R)) / (sum(S + R) + 1e-6), and the loss
    is the mean over pairs: 0 for disjoint regions and for a lone subject, 0.5 for identical ones. Where `cross`
    (B,) is given, the loss and its gradient are zero for images above 0.5, as in InitNO's first stage (not in its
    refinement). The peak's place has no gradient.
    """
    import torch

    attention = _at_least_single(attention)
    values = [_conflict(maps, rows, as_released=as_released) for maps, rows in zip(subjects, attention, strict=True)]
    loss = torch.stack(values)
    return loss if cross is None else torch.where(cross > CONFLICT_AFTER, torch.zeros_like(loss), loss)


def clean_loss(subjects: Sequence[torch.Tensor], *, as_released: bool = False) -> torch.Tensor:
    """Attention outside the region of each subject's peak, (B,) in [0, S]; in InitNO's code and not in its paper.

    A map is split by Otsu's threshold over its values, rounded down to 255ths, and its region is what hangs together
    with the peak (four neighbours). The map's maximum outside counts where it exceeds the region's minimum. Subjects
    are summed. Only that maximum has a gradient. `as_released`: pixels of the threshold's own level are in as well,
    so a map whose background is below 1/255 is one region, and clean.
    """
    import torch

    return torch.stack([torch.stack([_stray(m, as_released) for m in maps]).sum() for maps in subjects])


def running_maps(average: torch.Tensor | None, maps: torch.Tensor, *, momentum: float = EMA) -> torch.Tensor:
    """The running mean of token maps (B, h, w, T'), without gradient; the first maps are their own mean.

    The released code takes the maps into the mean before it compares them, refinement steps included.
    """
    maps = maps.detach().clone()
    return maps if average is None else momentum * average + (1 - momentum) * maps


def alignment_loss(subjects: Sequence[torch.Tensor], averaged: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean absolute difference of subject maps and their running means, (B,) in [0, S], summed over subjects.

    In InitNO's code and not in its paper. `averaged` is `subject_maps` of `running_maps`, so the first is zero.
    """
    import torch

    pairs = zip(subjects, averaged, strict=True)
    return torch.stack([(now - mean.detach()).abs().mean(dim=(1, 2)).sum() for now, mean in pairs])


def noise_losses(
    subjects: Sequence[torch.Tensor], attention: torch.Tensor, *, clean: bool = True, as_released: bool = False
) -> Losses:
    """What InitNO minimises over the initial noise: cross + gated conflict, and with `clean` + clean (as released)."""
    cross = cross_loss(subjects)
    conflict = self_loss(subjects, attention, cross=cross, as_released=as_released)
    stray = clean_loss(subjects, as_released=as_released)
    return Losses(cross + conflict + stray if clean else cross + conflict, cross, conflict, stray)


def refinement_losses(
    subjects: Sequence[torch.Tensor],
    attention: torch.Tensor,
    averaged: Sequence[torch.Tensor],
    *,
    as_released: bool = False,
) -> Losses:
    """What the released InitNO minimises at steps 10 and 20: cross + conflict + 0.1 clean + 0.1 alignment."""
    cross, clean = cross_loss(subjects), clean_loss(subjects, as_released=as_released)
    conflict = self_loss(subjects, attention, as_released=as_released)
    alignment = alignment_loss(subjects, averaged)
    joint = cross + conflict + REFINEMENT_CLEAN * clean + REFINEMENT_ALIGNMENT * alignment
    return Losses(joint, cross, conflict, clean)


def kl_loss(mu: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """KL(N(mu, exp(v)) || N(0, 1)) of an image's mean element, (B,), in nats: mean(-0.5 (1 + v - mu^2 - exp v))."""
    return (-0.5 * (1 + log_var - mu.square() - log_var.exp())).flatten(1).mean(dim=1)


def round_scores(cross: torch.Tensor, conflict: torch.Tensor) -> torch.Tensor:
    """By what InitNO ranks its rounds, (B,), lower is better: cross + conflict, and 1 more without a conflict term.

    As released: the term is missing (at most 1e-6) for one-subject prompts, for images above the gate of 0.5, and
    for disjoint regions.
    """
    return cross + conflict + (conflict <= 1e-6).to(cross.dtype)


def step_sizes(steps: int, *, scale: float = STEP_SCALE, span: tuple[float, float] = STEP_RANGE) -> list[float]:
    """Step sizes of both methods' moves along the gradient: scale * sqrt(linspace(*span, steps))."""
    start, stop = span
    return [scale * math.sqrt(start + (stop - start) * i / max(steps - 1, 1)) for i in range(steps)]


def otsu_level(levels: np.ndarray) -> int:
    """The level t of whole-numbered values (0 to 255) at which {<= t} and {> t} differ most (Otsu 1979).

    The lowest such level; 0 where all values are equal.
    """
    import numpy as np

    share = np.bincount(levels.ravel(), minlength=256) / levels.size
    below = np.cumsum(share)
    mass = np.cumsum(share * np.arange(share.size))
    between = np.zeros(share.size)
    split = (below > 1e-7) & (below < 1 - 1e-7)
    between[split] = (mass[-1] * below[split] - mass[split]) ** 2 / (below[split] * (1 - below[split]))
    return int(np.argmax(between >= between.max() * (1 - 1e-12)))


def _at_least_single(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.element_size() < 4 else x


def _peaks(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and flat places of the peaks of maps (S, h, w), both (S,)."""
    values, places = maps.flatten(1).max(dim=1)
    return values, places


def _conflict(maps: torch.Tensor, attention: torch.Tensor, *, as_released: bool) -> torch.Tensor:
    """Mean conflict over the pairs of one image's subjects (S, h, w); `attention` (h*w, h*w)."""
    import torch

    regions = smooth(attention[_peaks(maps)[1]].reshape(maps.shape), as_released=as_released).flatten(1)
    first, second = torch.triu_indices(len(maps), len(maps), 1, device=maps.device)
    if not len(first):
        return 0 * regions.sum()
    a, b = regions[first], regions[second]
    return (torch.minimum(a, b).sum(dim=1) / ((a + b).sum(dim=1) + 1e-6)).mean()


def _stray(image: torch.Tensor, as_released: bool) -> torch.Tensor:
    """The maximum of one map (h, w) outside the region of its peak, or zero where it does not count."""
    import numpy as np
    import torch
    from scipy import ndimage

    values = image.detach().cpu()
    levels = (values * 255).to(torch.int64).clamp(min=0)
    level = otsu_level(levels.numpy())
    labels, _ = ndimage.label((values >= level / 255.0 if as_released else levels > level).numpy())
    region = torch.from_numpy(labels == labels[np.unravel_index(int(values.argmax()), values.shape)])
    outside = values.masked_fill(region, 0)
    place = int(outside.argmax())
    counts = bool(outside.max() > values[region].min())
    return image.flatten()[place] if counts else 0 * image.flatten()[place]
