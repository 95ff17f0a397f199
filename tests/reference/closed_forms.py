"""The methods as a few lines of float64 arithmetic, written from the papers: what stored vectors are checked with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from networks import ALPHAS_CUMPROD, closed_form
from stored import Vectors

Array = np.ndarray
Predict = Callable[[Array, int, float], Array]
"""(x, t, guidance scale) -> the guided prediction u + g (c - u)."""


def abar(t: int) -> float:
    """The cumulative alpha at t; before the first timestep it is the first one's (`set_alpha_to_one=False`)."""
    return float(ALPHAS_CUMPROD[max(int(t), 0)])


def ddim(x: Array, e: Array, source: int, target: int) -> Array:
    """The DDIM move from timestep `source` to `target`, in either direction."""
    a, s = abar(source) ** 0.5, (1 - abar(source)) ** 0.5
    b, r = abar(target) ** 0.5, (1 - abar(target)) ** 0.5
    return b / a * x + (r - s * b / a) * e


def coefficients(t0: int, t1: int, *, source: int, target: int) -> tuple[float, float, float]:
    """A, B, C of x' = A x + B e1 + C e2: down from t0 to t1 with e1, then up from `source` to `target` with e2."""
    one, none = np.ones(()), np.zeros(())
    up_x, up_e = ddim(one, none, source, target), ddim(none, one, source, target)
    down_x, down_e = ddim(one, none, t0, t1), ddim(none, one, t0, t1)
    return float(up_x * down_x), float(up_x * down_e), float(up_e)


def up(timesteps: Array, i: int, move: str) -> tuple[int, int]:
    """The timesteps between which the move up of step i goes."""
    stride = 1000 // len(timesteps)
    t0, t1 = int(timesteps[i]), int(timesteps[i + 1])
    return (t1, t1 + stride) if move == "intended" else (t1 - stride, t1) if move == "released" else (t1, t0)


def sample(x: Array, timesteps: Array, predict: Predict, guidance: float) -> list[Array]:
    """Latents after each DDIM step."""
    after = []
    for t in timesteps:
        x = ddim(x, predict(x, int(t), guidance), int(t), int(t) - 1000 // len(timesteps))
        after.append(x)
    return after


def predictor(v: Vectors) -> Predict:
    """The file's network: its closed form, or the small UNet rebuilt from its recipe."""
    both = _closed(v) if v.closed else _unet(v)

    def predict(x: Array, t: int, guidance: float) -> Array:
        u, c = both(x, t)
        return u + guidance * (c - u)

    return predict


def _closed(v: Vectors) -> Callable[[Array, int], tuple[Array, Array]]:
    numbers = {key: v[key] for key in ("mix", "token", "clock")}
    prompts = v["negative_prompt_embeds"], v["prompt_embeds"]

    def both(x: Array, t: int) -> tuple[Array, Array]:
        u, c = (closed_form(x, t, prompt, **numbers) for prompt in prompts)
        return u, c

    return both


def _unet(v: Vectors) -> Callable[[Array, int], tuple[Array, Array]]:
    from networks import small_unet

    unet = small_unet(str(v["weights_case"]))

    def both(x: Array, t: int) -> tuple[Array, Array]:
        u, c = (small_prediction(unet, v, x, t, half) for half in ("negative_", ""))
        return u, c

    return both


def _conditions(v: Vectors, x: Array, half: str) -> dict[str, Any]:
    import torch

    side = 8.0 * x.shape[-1]
    ids = torch.tensor([[side, side, 0.0, 0.0, side, side]]).repeat(len(x), 1)
    return {
        "encoder_hidden_states": torch.from_numpy(v[f"{half}prompt_embeds"]),
        "added_cond_kwargs": {"text_embeds": torch.from_numpy(v[f"{half}pooled_prompt_embeds"]), "time_ids": ids},
    }


def small_prediction(
    unet: Any, v: Vectors, x: Array, t: int, half: str, *, residuals: dict[str, Array] | None = None
) -> Array:
    """One half of the small UNet's prediction; `half` is "" for the prompt and "negative_" for the other.

    `residuals` of a ControlNet: down_0, down_1, ... and mid.
    """
    import torch

    given = _conditions(v, x, half)
    if residuals is not None:
        parts = {key: torch.from_numpy(np.asarray(part, dtype=np.float32)) for key, part in residuals.items()}
        given["mid_block_additional_residual"] = parts["mid"]
        given["down_block_additional_residuals"] = [parts[f"down_{i}"] for i in range(len(parts) - 1)]
    with torch.no_grad():
        prediction = unet(torch.from_numpy(np.asarray(x, dtype=np.float32)), t, **given).sample
    return prediction.double().numpy()


def small_residuals(
    controlnet: Any, v: Vectors, x: Array, t: int, half: str = "", *, scale: float = 1.0
) -> dict[str, Array]:
    """What the small ControlNet adds to the UNet, by the names that the vectors have."""
    import torch

    latents, image = torch.from_numpy(np.asarray(x, dtype=np.float32)), torch.from_numpy(v["image"])
    with torch.no_grad():
        down, middle = controlnet(
            latents, t, controlnet_cond=image, conditioning_scale=scale, return_dict=False, **_conditions(v, x, half)
        )
    return {f"down_{i}": part.numpy() for i, part in enumerate(down)} | {"mid": middle.numpy()}


def dpm_solver_pp(xs: list[Array], es: list[Array], sigmas: Array, i: int) -> Array:
    """Step i of second-order multistep DPM-Solver++ (2211.01095, algorithm 2) on variance-preserving latents.

    `sigmas` are sigma / alpha, one more than there are steps. The first and the last step are of first order.
    """
    alphas = 1 / np.sqrt(sigmas**2 + 1)
    scaled = sigmas * alphas
    clean = [(xs[k] - scaled[k] * es[k]) / alphas[k] for k in range(i + 1)]
    if sigmas[i + 1] == 0:
        return clean[i]
    logs = -np.log(sigmas[: i + 2])
    h = logs[i + 1] - logs[i]
    data = clean[i] if i == 0 else clean[i] + (clean[i] - clean[i - 1]) * h / (logs[i] - logs[i - 1]) / 2
    return scaled[i + 1] / scaled[i] * xs[i] - alphas[i + 1] * np.expm1(-h) * data
