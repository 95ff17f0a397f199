"""A ControlNet for `shapes-sdxl` that reads the outlines of a scene (2302.05543), and the prompts that carry some.

The denoiser is frozen; the ControlNet begins as a copy of its way down whose answers are zero. Squared error of the
predicted noise on training scenes, more of it where noise is high, for that is where outlines say most; half of the
captions are dropped, as the paper does, so that what the outlines say is not learnt from the caption.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.metrics.geneval_rules import TASKS, GenEval
from bench.shapes import networks
from bench.shapes.captions import distinct, sample, scene
from bench.shapes.prompt_sets import CONTROLLED, MIX
from bench.shapes.scenes import render
from bench.shapes.tasks import embed, latent_chunks, mixed
from bench.shapes.training import train

if TYPE_CHECKING:
    import torch

CONTRAST = 48
"""Grey levels of a channel by which neighbours must differ at an edge."""
DROPPED = 0.5
"""Share of captions left out in training."""
HIGH = 400
"""Three in four timesteps are drawn from here on."""
PROBE_EVERY = 100
PROMPTS = 50
SEED = 7
"""Of the scenes, which are those of the LCM adapter."""


def edges(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to (H, W) bool: pixels that differ from the one to the right or below by `CONTRAST`.

    It is Canny's first step with one threshold; pictures of the embedded world have no noise to be smoothed away.
    """
    levels = image.astype(int)
    found = np.zeros(image.shape[:2], bool)
    found[:, :-1] |= np.abs(np.diff(levels, axis=1)).max(-1) >= CONTRAST
    found[:-1] |= np.abs(np.diff(levels, axis=0)).max(-1) >= CONTRAST
    return found


def agreement(drawn: np.ndarray, wanted: np.ndarray) -> float:
    """F1 of two edge images (H, W) bool, a pixel being met by one at most a pixel away; 0 where either has none."""
    if not drawn.any() or not wanted.any():
        return 0.0
    precision, recall = (drawn & _grown(wanted)).sum() / drawn.sum(), (wanted & _grown(drawn)).sum() / wanted.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _grown(found: np.ndarray) -> np.ndarray:
    """With all eight neighbours."""
    height, width = found.shape
    padded = np.pad(found, 1)
    near = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    grown: np.ndarray = np.logical_or.reduce(near)
    return grown


def control_tensor(found: np.ndarray) -> torch.Tensor:
    """(B, H, W) bool to control images (B, 3, H, W) in {0, 1}."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(found)).float()[:, None].repeat(1, 3, 1, 1)


def scene_edges(chunks: int) -> np.ndarray:
    """(N, 64, 64) bool: edges of the scenes whose latents `latent_chunks` gives for the same seed and captions."""
    found = []
    for k in range(chunks):
        rng = np.random.default_rng([SEED, k])
        found += [edges(render(scene(c, rng))) for c in mixed(rng)]
    return np.stack(found)


def train_controlnet(
    work: Path,
    pipeline: Any,
    *,
    steps: int = 1500,
    batch: int = 32,
    scenes: int = 30_000,
    say: Callable[[str], Any] = print,
    **loop: Any,
) -> tuple[Any, dict[str, float]]:
    """The trained ControlNet and the totals."""
    import torch

    unet, vae = pipeline.unet.requires_grad_(False).eval(), pipeline.vae.eval().to(memory_format=torch.channels_last)
    latents, captions = latent_chunks(work / "latents-mixed", vae, mixed, seed=SEED, chunks=scenes // 500, say=say)
    outlines = scene_edges(scenes // 500)
    prompts = [c.prompt for c in captions]
    texts = list(dict.fromkeys(prompts))
    where = {p: i for i, p in enumerate(texts)}
    index = torch.tensor([where[p] for p in prompts])
    states, pooled = embed(texts, pipeline.text_encoder, pipeline.text_encoder_2)
    torch.manual_seed(8)
    network = networks.controlnet(unet)
    scheduler = networks.scheduler()
    signal = scheduler.alphas_cumprod

    def error(rng: np.random.Generator, rows: np.ndarray, t: torch.Tensor, outlined: np.ndarray) -> torch.Tensor:
        """(B,) squared errors of the noise predicted beside the outlines of `outlined`."""
        n = len(rows)
        keep = torch.from_numpy(rng.random(n) >= DROPPED).float()
        noise = torch.randn(n, *networks.LATENT)
        x = scheduler.add_noise(latents[rows], noise, t)
        words = states[index[rows]] * keep[:, None, None], pooled[index[rows]] * keep[:, None]
        sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(n, -1)
        shared: dict[str, Any] = {
            "encoder_hidden_states": words[0],
            "added_cond_kwargs": {"text_embeds": words[1], "time_ids": sizes},
            "return_dict": False,
        }
        down, middle = network(x, t, controlnet_cond=control_tensor(outlines[outlined]), **shared)
        of: dict[str, Any] = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        found: torch.Tensor = (unet(x, t, **of, **shared)[0] - noise).square().mean((1, 2, 3))
        return found

    def probe() -> str:
        """By how much the loss rises when every scene gets the outlines of another one."""
        rows, rises = np.arange(64), []
        with torch.no_grad(), torch.random.fork_rng():
            for t in (850, 500):
                losses = []
                for outlined in (rows, np.roll(rows, 1)):
                    torch.manual_seed(t)
                    losses.append(error(np.random.default_rng(t), rows, torch.full((64,), t), outlined).mean().item())
                rises.append(f"{losses[1] / losses[0] - 1:.1%} at t={t}")
        return ", ".join(rises)

    def loss(rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        if step % PROBE_EVERY == 0:
            say(f"controlnet: step {step}, loss rise with the outlines of another scene: {probe()}")
        rows = rng.integers(0, len(latents), batch)
        low, high = rng.integers(0, HIGH, batch), rng.integers(HIGH, 1000, batch)
        t = torch.from_numpy(np.where(rng.random(batch) < 0.25, low, high))
        each = error(rng, rows, t, rows)
        weight = (1 / signal[t]).clamp(max=10.0)  # see `places.train_places`
        return {"loss": (weight * each).mean() / weight.mean(), "plain": each.mean()}

    modules = torch.nn.ModuleDict({"controlnet": network})
    schedule: dict[str, Any] = {"lr": 1e-3, "warmup": 50, "ema": 0.99, "weight_decay": 0.0}
    return network, train("controlnet", modules, loss, out=work, steps=steps, say=say, **schedule, **loop)


# What it is worth ---------------------------------------------------------------------------------------------------


def figures(
    pipeline: Any, network: Any, *, per_task: int = 100, guidance: float = 5.0, steps: int = 20, seed: int = 27
) -> dict[str, Any]:
    """How well drawings follow the outlines of a scene of their caption, and GenEval, with the ControlNet and without.

    On validation captions, from the same noise; `edges_by_chance` is the agreement with the edges of other scenes of
    the same captions.
    """
    import torch
    from diffusers import StableDiffusionXLControlNetPipeline

    from bench.shapes.detector import ShapesDetector
    from bench.shapes.evaluate import by_task, prompts_of

    rng = np.random.default_rng(seed)
    captions = [sample(rng, "validation", task) for task in TASKS for _ in range(per_task)]
    wanted = np.stack([edges(render(scene(c, rng))) for c in captions])
    others = [edges(render(scene(c, rng))) for c in captions]
    controlled = StableDiffusionXLControlNetPipeline(**pipeline.components, controlnet=network)
    controlled.set_progress_bar_config(disable=True)
    metric = GenEval(ShapesDetector())
    found: dict[str, Any] = {"edges_by_chance": _mean(others, wanted)}
    for name, scale in (("with", 1.0), ("without", 0.0)):
        drawn: list[np.ndarray] = []
        for i in range(0, len(captions), 50):
            some = captions[i : i + 50]
            images = controlled(
                prompt=[c.prompt for c in some],
                image=control_tensor(wanted[i : i + 50]),
                controlnet_conditioning_scale=scale,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator().manual_seed(1000 * seed + i + k) for k in range(len(some))],
                output_type="np",
            ).images
            drawn += list(np.rint(images * 255).astype(np.uint8))
        right = [v.value for v in metric.score(drawn, prompts_of(captions))]
        found[f"edges_{name}"] = _mean([edges(image) for image in drawn], wanted)
        found[f"geneval_{name}"] = by_task(captions, right)
    return found


def _mean(drawn: list[np.ndarray], wanted: np.ndarray) -> float:
    return float(np.mean([agreement(a, b) for a, b in zip(drawn, wanted, strict=True)]))


# Prompts with control images -----------------------------------------------------------------------------------------


def drawn_prompts() -> list[tuple[dict[str, Any], np.ndarray]]:
    """Rows of the prompt set, and for each the edges (64, 64) bool of a scene of its caption."""
    rng = np.random.default_rng(2030)
    captions = distinct(rng, "geneval", {tag: n * PROMPTS // 100 for tag, n in MIX.items()})
    found = []
    # Shuffled, so that the first N (--limit) hold every task.
    for i in rng.permutation(len(captions)):
        caption = captions[i]
        row = {"prompt": caption.prompt, "category": caption.tag, "metadata": caption.metadata()}
        found.append((row, edges(render(scene(caption, rng)))))
    return found


def write_prompts(folder: Path = CONTROLLED) -> None:
    """The prompt set as a user would have it: `prompts.jsonl`, and a picture a prompt below it."""
    from PIL import Image

    (folder / "canny").mkdir(parents=True, exist_ok=True)
    lines = []
    for k, (row, found) in enumerate(drawn_prompts()):
        place = f"canny/{k:02d}.png"
        Image.fromarray(found).save(folder / place)
        lines.append(json.dumps({**row, "control": {"canny": place}}))
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
