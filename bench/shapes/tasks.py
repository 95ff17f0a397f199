"""What the VAE, CLIP and the denoiser are trained on: one function a weight file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.shapes import networks
from bench.shapes.captions import Caption, foil, sample, scene
from bench.shapes.scenes import Scene, render
from bench.shapes.tokenizer import MAX_LENGTH, build_tokenizer
from bench.shapes.training import train

if TYPE_CHECKING:
    import torch

LATENT_STATISTICS = 2_000
"""Scenes from which the VAE's scaling factor is measured."""


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """(B, 64, 64, 3) uint8 to (B, 3, 64, 64) float in [-1, 1]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def to_images(x: torch.Tensor) -> np.ndarray:
    """(B, 3, H, W) in [-1, 1] to (B, H, W, 3) uint8."""
    y = (x.detach().clamp(-1, 1) + 1) * 127.5
    return y.round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def captioned(rng: np.random.Generator, n: int, split: str = "train") -> tuple[list[Caption], np.ndarray]:
    """`n` captions of a split, and an exact image of each as (n, 64, 64, 3) uint8."""
    captions = [sample(rng, split) for _ in range(n)]
    return captions, np.stack([render(scene(c, rng)) for c in captions])


def token_ids(prompts: list[str]) -> torch.Tensor:
    """Prompts as (B, 24) token ids, padded with the end token as the pipelines do."""
    return build_tokenizer()(
        prompts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


def train_vae(
    out: Path, *, start: Any = None, name: str = "vae", steps: int = 6000, batch: int = 16, **loop: Any
) -> tuple[Any, dict[str, float]]:
    """The autoencoder: absolute and squared error plus a small KL term on rendered scenes.

    `start` is another one to begin with, and is changed.
    """
    import torch

    torch.manual_seed(0)
    vae = (start or networks.vae()).to(memory_format=torch.channels_last)

    def loss(rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        x = to_tensor(captioned(rng, batch)[1]).to(memory_format=torch.channels_last)
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
        error = (y - x).abs().mean() + 2 * (y - x).square().mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return {"loss": error + 2e-4 * kl, "error": error, "kl": kl}

    totals = train(name, torch.nn.ModuleDict({"vae": vae}), loss, out=out, steps=steps, lr=1.5e-3, ema=0.998, **loop)
    with torch.no_grad():
        x = to_tensor(captioned(np.random.default_rng(1), LATENT_STATISTICS)[1])
        latents = torch.cat([vae.encode(b).latent_dist.mean for b in x.split(100)])
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    return vae, totals


def train_clip(out: Path, *, steps: int = 3000, batch: int = 96, **loop: Any) -> tuple[Any, Any, dict[str, float]]:
    """The CLIP and, against the same image tower, the pipeline's first text encoder.

    Contrastive over the batch in both directions; every image also sees the foils of all captions, which
    differ from them by one swapped colour, relation, number or shape.
    """
    import torch
    from torch.nn import functional as F

    torch.manual_seed(1)
    clip, other = networks.clip(), networks.second_text_encoder()
    clip.logit_scale.data.fill_(np.log(10.0))
    tokenizer = build_tokenizer()

    def ids(prompts: list[str]) -> torch.Tensor:
        return tokenizer(
            prompts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
        ).input_ids

    def loss(rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        captions, images = captioned(rng, batch)
        foils = [foil(c, rng) or c for c in captions]
        tokens = ids([c.prompt for c in captions + foils])
        image = F.normalize(clip.get_image_features(pixel_values=to_tensor(images)).pooler_output, dim=-1)
        texts = [clip.get_text_features(input_ids=tokens).pooler_output, other(input_ids=tokens).text_embeds]
        scale = clip.logit_scale.exp().clamp(max=100)
        target = torch.arange(batch)
        same = torch.tensor([f.prompt == c.prompt for c, f in zip(captions, foils, strict=True)])
        values = []
        for t in texts:
            logits = scale * image @ F.normalize(t, dim=-1).T
            # A caption without a foil stands in for it and must not count against itself.
            logits[target[same], batch + target[same]] = -1e4
            values.append((F.cross_entropy(logits, target) + F.cross_entropy(logits[:, :batch].T, target)) / 2)
        return {"loss": values[0] + values[1], "clip": values[0], "second": values[1]}

    modules = torch.nn.ModuleDict({"clip": clip, "second": other})
    totals = train("clip", modules, loss, out=out, steps=steps, lr=1e-3, weight_decay=0.05, **loop)
    return clip, other, totals


UNET_SCENES = 60_000
UNET_MIX = {
    "single_object": 0.08,
    "two_object": 0.18,
    "counting": 0.2,
    "colors": 0.1,
    "position": 0.2,
    "color_attr": 0.24,
}
"""Share of each task among the UNet's training captions; the compositional ones take longer to learn."""


VOTERS_STEP = 5_000
"""The voters of the preference model see images of the denoiser as it was at this step: another, weaker model than the
one that the scorers will judge, as HPDv2's images come from other models than those it is used on."""


def latent_chunks(
    folder: Path,
    vae: Any,
    draw: Callable[[np.random.Generator], list[Caption]],
    *,
    seed: int,
    chunks: int,
    say: Any,
    compose: Callable[[Caption, np.random.Generator], Scene] = scene,
) -> tuple[torch.Tensor, list[Caption]]:
    """Scaled latents (N, 4, 8, 8) in fp32 and captions of seeded scenes, encoded once and kept.

    `draw` gives the captions of a chunk from its own generator, so a killed run loses one chunk and the data stay
    the same.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    latents, kept = [], []
    for k in range(chunks):
        rng = np.random.default_rng([seed, k])
        captions = draw(rng)
        images = np.stack([render(compose(c, rng)) for c in captions])
        path = folder / f"{k:04d}.pt"
        if not path.exists():
            with torch.no_grad():
                z = torch.cat([vae.encode(to_tensor(x)).latent_dist.mean for x in np.array_split(images, 10)])
            torch.save(z * vae.config.scaling_factor, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
            if k % 20 == 0:
                say(f"{folder.name}: {k}/{chunks} chunks of {len(captions)} scenes")
        latents.append(torch.load(path, weights_only=True))
        kept += captions
    return torch.cat(latents), kept


def mixed(rng: np.random.Generator) -> list[Caption]:
    """The captions of one chunk, in the denoiser's mix."""
    return [sample(rng, "train", str(t)) for t in rng.choice(list(UNET_MIX), 500, p=list(UNET_MIX.values()))]


def latent_dataset(
    out: Path, vae: Any, *, scenes: int = UNET_SCENES, say: Any = print
) -> tuple[torch.Tensor, list[str]]:
    """Scaled latents (N, 4, 8, 8) and captions of the denoiser's training scenes."""
    latents, captions = latent_chunks(out / "latents", vae, mixed, seed=7, chunks=scenes // 500, say=say)
    return latents, [c.prompt for c in captions]


def embed(prompts: list[str], first: Any, second: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 24, 128) embeddings and (N, 64) pooled ones, as `StableDiffusionXLPipeline.encode_prompt` makes them."""
    import torch

    states, pooled = [], []
    with torch.no_grad():
        for i in range(0, len(prompts), 500):
            ids = token_ids(prompts[i : i + 500])
            a = first(ids, output_hidden_states=True).hidden_states[-2]
            b = second(ids, output_hidden_states=True)
            states.append(torch.cat([a, b.hidden_states[-2]], -1))
            pooled.append(b.text_embeds)
    return torch.cat(states), torch.cat(pooled)


THAW_STEP = 5_000
"""From this step on the first text encoder is trained along: the contrastive loss leaves "left of" and "right of" with
nearly the same embedding, too close for a small denoiser to tell apart in the time it has."""


def train_unet(
    out: Path,
    vae: Any,
    first: Any,
    second: Any,
    *,
    steps: int = 14_000,
    batch: int = 64,
    scenes: int = UNET_SCENES,
    **loop: Any,
) -> tuple[Any, Any, dict[str, float]]:
    """The denoiser: squared error of the predicted noise, one caption in ten dropped (zeros, as SDXL does).

    Returns the denoiser, the first text encoder as it was trained along, and the totals.
    """
    import torch
    from torch.nn import functional as F

    latents, prompts = latent_dataset(out, vae, scenes=scenes, say=loop.get("say", print))
    texts = list(dict.fromkeys(prompts))
    where = {p: i for i, p in enumerate(texts)}
    index = torch.tensor([where[p] for p in prompts])
    states, pooled = embed(texts, first, second)
    ids = token_ids(texts)
    torch.manual_seed(2)
    unet = networks.unet()
    scheduler = networks.scheduler()
    time_ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(batch, -1)

    def loss(rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        rows = torch.from_numpy(rng.integers(0, len(latents), batch))
        keep = torch.from_numpy(rng.random(batch) >= 0.1).float()
        x, text = latents[rows], index[rows]
        noise = torch.randn(x.shape)
        t = torch.randint(0, 1000, (batch,))
        state = states[text]
        if step >= THAW_STEP:
            live = first(ids[text], output_hidden_states=True).hidden_states[-2]
            state = torch.cat([live, state[..., live.shape[-1] :]], -1)
        predicted = unet(
            scheduler.add_noise(x, noise, t),
            t,
            encoder_hidden_states=state * keep[:, None, None],
            added_cond_kwargs={"text_embeds": pooled[text] * keep[:, None], "time_ids": time_ids},
        ).sample
        return {"loss": F.mse_loss(predicted, noise)}

    modules = torch.nn.ModuleDict({"unet": unet, "first": first})
    totals = train(
        "unet", modules, loss, out=out, steps=steps, lr=1e-3, warmup=500, ema=0.9993, keep=VOTERS_STEP, **loop
    )
    return unet, first, totals
