"""`shapes-sd`: Stable Diffusion 1.x's architecture, with latents and attention maps of 16x16.

An autoencoder of factor 4 that starts from shapes-sdxl's of factor 8, less its last level; a denoiser from nothing; and
shapes-sdxl's cured text encoder, which already tells "left of" from "right of" and is trained along. The plainest
scenes at high noise come first here too (see `places.py`): a denoiser that has learnt to ignore where things are is
slow to change its mind.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.shapes import networks
from bench.shapes.places import HIGH, PROBE_EVERY, Data, Probe, rows_of, usual_rows
from bench.shapes.tasks import token_ids, train_vae
from bench.shapes.training import train

if TYPE_CHECKING:
    import torch

WIDTHS = (16, 32, 64)
VAE_STEPS = 1_500
SCENES = (8_000, 12_000, 6_000, 40_000)
"""Clear, coloured, plain and mixed; see `places.Data`."""

CLEAR_STEPS = 800
"""Steps of the first phase: the plainest scenes at timesteps of `HIGH` and more."""

PLAIN_SHARE = 0.3
"""The last share of the steps, in the denoiser's usual mix and without weights."""


def smaller_vae(large: Any) -> Any:
    """An autoencoder of factor 4 with the weights of one of factor 8 where both have the part."""
    small = networks.vae(WIDTHS)
    given, state = large.state_dict(), small.state_dict()
    for name, value in state.items():
        # The decoder begins at the lowest level, which is gone.
        source = re.sub(r"(?<=up_blocks\.)\d+", lambda k: str(int(k[0]) + 1), name)
        if source in given and given[source].shape == value.shape:
            state[name] = given[source]
    small.load_state_dict(state)
    return small


def draw_batch(
    data: Data, rng: np.random.Generator, step: int, steps: int, batch: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows and timesteps of a step's batch, and the most that a sample's loss may weigh."""
    any_t = rng.integers(0, 1000, batch)
    clear, colored, plain = round(0.7 * batch), round(0.25 * batch), round(0.15 * batch)
    if step < CLEAR_STEPS:
        rows = rows_of(rng, (data.clear, clear), (data.colored, batch - clear))
        return rows, rng.integers(HIGH, 1000, batch), 50.0
    if step < (1 - PLAIN_SHARE) * steps:
        others = batch - colored - plain
        rows = rows_of(rng, (data.colored, colored), (data.plain, plain), (data.others, others))
        return rows, np.where(rng.random(batch) < 0.4, rng.integers(600, 1000, batch), any_t), 10.0
    return usual_rows(data, rng, batch), any_t, 1.0


def train_sd(
    work: Path,
    pipeline: Any,
    *,
    steps: int = 6000,
    vae_steps: int = VAE_STEPS,
    batch: int = 32,
    scenes: tuple[int, int, int, int] = SCENES,
    say: Callable[[str], Any] = print,
    **loop: Any,
) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Autoencoder, denoiser, text encoder, and the totals; `pipeline` is the cured shapes-sdxl."""
    import torch

    vae, vae_totals = train_vae(work, start=smaller_vae(pipeline.vae), name="sd-vae", steps=vae_steps, say=say, **loop)
    vae.requires_grad_(False)
    data = Data(work / "sd", vae, scenes, say)
    texts = list(dict.fromkeys([*data.prompts, ""]))
    where = {p: i for i, p in enumerate(texts)}
    index, ids = torch.tensor([where[p] for p in data.prompts]), token_ids(texts)
    torch.manual_seed(6)
    unet, encoder = networks.sd_unet(), pipeline.text_encoder.requires_grad_(True)
    scheduler = networks.scheduler()
    signal = scheduler.alphas_cumprod

    def predict(x: torch.Tensor, t: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        states = encoder(token_ids(prompts)).last_hidden_state
        predicted: torch.Tensor = unet(x, t, encoder_hidden_states=states).sample
        return predicted

    probe = Probe(data, scheduler, predict)

    def loss(rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        if step % PROBE_EVERY == 0:
            say(f"sd: step {step}, " + probe.line())
        rows, times, most = draw_batch(data, rng, step, steps, batch)
        t, x, text = torch.from_numpy(times), data.latents[rows], index[rows]
        # Stable Diffusion 1.x says nothing by the empty prompt, not by zeros.
        text = torch.where(torch.from_numpy(rng.random(batch) < 0.1), where[""], text)
        noise = torch.randn(x.shape)
        states = encoder(ids[text]).last_hidden_state
        predicted = unet(scheduler.add_noise(x, noise, t), t, encoder_hidden_states=states).sample
        each = (predicted - noise).square().mean((1, 2, 3))
        weight = (1 / signal[t]).clamp(max=most)  # see `places.train_places`
        return {"loss": (weight * each).mean() / weight.mean(), "plain": each.mean()}

    modules = torch.nn.ModuleDict({"unet": unet, "encoder": encoder})
    totals = train("sd", modules, loss, out=work, steps=steps, lr=1e-3, warmup=300, ema=0.999, say=say, **loop)
    rises = {"reversed_loss_rise": probe.rise()}
    return vae, unet, encoder, {"vae": vae_totals, "unet_and_text_encoder": totals | rises}
