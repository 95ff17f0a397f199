"""What must hold of the vectors of each family, from closed forms in float64: `check_FAMILY` for files FAMILY-*.npz."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from closed_forms import (
    abar,
    coefficients,
    ddim,
    dpm_solver_pp,
    predictor,
    sample,
    small_prediction,
    small_residuals,
    up,
)
from networks import small_controlnet, small_unet
from stored import Vectors


def close(actual: object, expected: object, v: Vectors, *, times: float = 1.0) -> None:
    """Equal up to diffusers' float32 schedule, or to a float32 network's rounding; `times` loosens it."""
    wanted = np.asarray(expected, dtype=np.float64)
    tolerance = (3e-6 if v.closed else 3e-5) * times * max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(np.asarray(actual, dtype=np.float64), wanted, rtol=0, atol=tolerance)


def check_renoise(v: Vectors) -> None:
    predict, g, ts, noises = predictor(v), float(v["guidance"]), v["timesteps"], iter(v["z"])
    t0, t1 = ts[:2]
    np.testing.assert_array_equal(v["latents"], v["x_t0"])
    close(predict(v["x_t0"], t0, g), v["e1"], v)
    close(ddim(v["x_t0"], v["e1"], t0, t1), v["x_t1"], v)
    ratios = [abar(t) / abar(s) for t, s in pairwise(ts)][: len(v["z"])]
    np.testing.assert_allclose(v["weight"], ratios, rtol=1e-5)
    w = ratios[0]
    close(w**0.5 * v["x_t1"] + (1 - w) ** 0.5 * v["z"][0], v["renoised"], v)
    close(predict(v["renoised"], t0, g), v["e2"], v)
    close(ddim(v["renoised"], v["e2"], t0, t1), v["x_t1_again"], v)
    np.testing.assert_array_equal(v["after_step"][-1], v["final"])
    if v.origin["which"] == "first":
        # So the method is one that changes the initial latent alone.
        close(sample(v["renoised"], ts, predict, g), v["after_step"], v, times=4)
        return
    x, steps = v["latents"], []
    for t, s, w in zip(ts, [*ts[1:], ts[-1] - 1000 // len(ts)], [*ratios, 1.0], strict=True):
        for again in (False, True) if w < 1 else (False,):
            if again:
                x = w**0.5 * x + (1 - w) ** 0.5 * next(noises)
            k = len(steps)
            close(x, v["down_samples"][k], v)
            close(predict(v["down_samples"][k], t, g), v["down_outputs"][k], v)
            close(ddim(v["down_samples"][k], v["down_outputs"][k], t, s), v["down_results"][k], v)
            x = v["down_results"][k]
            steps.append(int(t))
    assert steps == v["down_timesteps"].tolist()
    close(v["down_results"][[*range(1, len(steps), 2), -1]], v["after_step"], v)


def check_inversion(v: Vectors) -> None:
    predict, g, weak, ts = predictor(v), float(v["guidance"]), float(v["inversion_guidance"]), v["timesteps"]
    (t0, t1), (source, target) = ts[:2], up(ts, 0, v.origin["move"])
    close(predict(v["x_T"], t0, g), v["e1"], v)
    close(ddim(v["x_T"], v["e1"], t0, t1), v["y"], v)
    close(predict(v["y"], t0, weak), v["e2"], v)
    a, b, c = coefficients(t0, t1, source=source, target=target)
    close(a * v["x_T"] + b * v["e1"] + c * v["e2"], v["x_prime"], v)
    close(predict(v["x_prime"], t0, g), v["e3"], v)
    x = v["x_T"]
    for k in range(int(v["rounds"])):
        y = ddim(x, predict(x, t0, g), t0, t1)
        e = predict(y, t0, weak)
        x = ddim(y, e, source, target)
        if "up_results" in v:
            assert v["up_timesteps"][k] == target
            for actual, key in ((y, "up_samples"), (e, "up_outputs"), (x, "up_results")):
                close(actual, v[key][k], v, times=5)
    close(x, v["pair_target"], v, times=5)
    close(sample(v["pair_target"], ts, predict, g)[-1], v["final"], v, times=10)
    np.testing.assert_array_equal(v["latents"], v["pair_source"])
    np.testing.assert_array_equal(v["latents"], v["x_T"])


def check_zsampling(v: Vectors) -> None:
    predict, g, weak, ts = predictor(v), float(v["guidance"]), float(v["inversion_guidance"]), v["timesteps"]
    steps, rounds, zigzags = len(ts), int(v["rounds"]), int(v["zigzags"])
    downs, ups = iter(range(len(v["down_results"]))), iter(range(len(v["up_results"])))

    def down(x: np.ndarray, t: int) -> np.ndarray:
        k = next(downs)
        assert v["down_timesteps"][k] == t
        close(x, v["down_samples"][k], v)
        close(predict(v["down_samples"][k], t, g), v["down_outputs"][k], v)
        close(ddim(v["down_samples"][k], v["down_outputs"][k], t, t - 1000 // steps), v["down_results"][k], v)
        return v["down_results"][k]

    x = v["latents"]
    for i, t in enumerate(map(int, ts)):
        y = down(x, t)
        for _ in range(rounds if i < zigzags else 0):
            k, (source, target) = next(ups), up(ts, i, v.origin["move"])
            assert v["up_timesteps"][k] == target
            np.testing.assert_array_equal(v["up_samples"][k], y)
            close(predict(y, t, weak), v["up_outputs"][k], v)
            close(ddim(y, v["up_outputs"][k], source, target), v["up_results"][k], v)
            y = down(v["up_results"][k], t)
        x = y
        np.testing.assert_array_equal(x, v["after_step"][i])
    np.testing.assert_array_equal(x, v["final"])
    assert next(downs, None) is None
    assert next(ups, None) is None


def check_ays(v: Vectors) -> None:
    if v.name == "ays":
        # PROTOCOL of the paper's comparison: SDXL's and SD 1.5's ten timesteps.
        assert v["StableDiffusionXLTimesteps"].tolist() == [999, 845, 730, 587, 443, 310, 193, 116, 53, 13]
        assert v["StableDiffusionTimesteps"].tolist() == [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]
        for key in (key for key in v if key.endswith("Sigmas")):
            assert (np.diff(v[key]) < 0).all()
            assert v[key][-1] == 0
        return
    predict, g, ts, sigmas = predictor(v), float(v["guidance"]), v["timesteps"], v["sigmas"]
    np.testing.assert_allclose(sigmas[:-1], [((1 - abar(t)) / abar(t)) ** 0.5 for t in ts], rtol=1e-5)
    assert sigmas[-1] == 0
    euler = v.name.startswith("ays-euler")
    first = (sigmas[0] ** 2 + 1) ** 0.5 if euler else 1.0
    np.testing.assert_allclose(v["init_noise_sigma"], first, rtol=1e-6)
    close(v["latents"] * first, v["samples"][0], v)
    for i, t in enumerate(map(int, ts)):
        x, e = v["samples"][i], v["outputs"][i]
        close(predict(x / (sigmas[i] ** 2 + 1) ** 0.5 if euler else x, t, g), e, v)
        if euler:
            expected = x + (sigmas[i + 1] - sigmas[i]) * e
        else:
            expected = dpm_solver_pp(v["samples"], v["outputs"], sigmas.astype(np.float64), i)
        close(expected, v["results"][i], v, times=3)
    np.testing.assert_array_equal(v["results"][:-1], v["samples"][1:])


def few_steps(steps: int) -> list[int]:
    """Timesteps of both consistency schedulers: of 19, 39, ... 999, evenly from the top, rounded down."""
    return [999 - 20 * int(np.floor(50 * k / steps)) for k in range(steps)]


def check_lcm(v: Vectors) -> None:
    predict, g, ts = predictor(v), float(v["guidance"]), v["timesteps"].tolist()
    assert ts == few_steps(len(ts))
    np.testing.assert_array_equal(v["latents"], v["samples"][0])
    for i, t in enumerate(ts):
        x, e = v["samples"][i], v["outputs"][i]
        close(predict(x, t, g), e, v)
        scaled = 10 * t
        skip, out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25) ** 0.5
        np.testing.assert_allclose(v["c_skip_c_out"][i], [skip, out], rtol=1e-12)
        clean = (x - (1 - abar(t)) ** 0.5 * e) / abar(t) ** 0.5
        close(out * clean + skip * x, v["denoised"][i], v)
        expected = v["denoised"][i]
        if i + 1 < len(ts):
            expected = abar(ts[i + 1]) ** 0.5 * expected + (1 - abar(ts[i + 1])) ** 0.5 * v["noises"][i]
        close(expected, v["results"][i], v)
    np.testing.assert_array_equal(v["results"][:-1], v["samples"][1:])


def check_tcd(v: Vectors) -> None:
    predict, gamma, ts = predictor(v), float(v["gamma"]), v["timesteps"].tolist()
    assert ts == few_steps(len(ts))
    np.testing.assert_array_equal(v["latents"], v["samples"][0])
    for i, t in enumerate(ts):
        x, e = v["samples"][i], v["outputs"][i]
        close(predict(x, t, float(v["guidance"])), e, v)
        following = ts[i + 1] if i + 1 < len(ts) else 0
        s = int(np.floor((1 - gamma) * following))
        close(ddim(x, e, t, s), v["noised"][i], v)
        expected = v["noised"][i]
        if gamma > 0 and i + 1 < len(ts):
            ratio = abar(following) / abar(s)
            expected = ratio**0.5 * expected + (1 - ratio) ** 0.5 * v["noises"][i]
        close(expected, v["results"][i], v)
    np.testing.assert_array_equal(v["results"][:-1], v["samples"][1:])


def check_repaint(v: Vectors) -> None:
    for key in (key for key in v if key.startswith("timesteps_")):
        steps, length, times = map(int, key.split("_")[1:])
        assert v[key].tolist() == [1000 // steps * t for t in jumps(steps, length=length, times=times)]
    # The original's settings for inpainting: 2,410 steps down, each a denoiser call, and 2,160 up.
    moves = np.diff(v["timesteps_250_10_10"])
    assert ((moves < 0).sum() + 1, (moves > 0).sum()) == (2410, 2160)
    # One step up adds the noise of its training steps one by one.
    t, x = int(v["timestep"]), v["latents"]
    ratios = [abar(t + k) / abar(t + k - 1) for k in range(len(v["noises"]))]
    for ratio, noise in zip(ratios, v["noises"], strict=True):
        x = ratio**0.5 * x + (1 - ratio) ** 0.5 * noise
    np.testing.assert_allclose(v["undone"], x, atol=1e-5)


def jumps(steps: int, *, length: int, times: int) -> list[int]:
    """RePaint's walk: at 0, length, 2 length, ... (not within the first jump) go `length` up again, times - 1 times."""
    left = {t: times - 1 for t in range(0, steps - length, length)}
    walk, t = [], steps
    while t > 0:
        t -= 1
        walk.append(t)
        if left.get(t, 0):
            left[t] -= 1
            walk += range(t + 1, t + length + 1)
            t += length
    return walk


def check_dpo(v: Vectors) -> None:
    beta, model, noise = float(v["beta"]), v["model_pred"], v["noise"]
    pairs, entries = len(model) // 2, model[0].size
    np.testing.assert_array_equal(noise[:pairs], noise[pairs:])
    ours, theirs = (((p - noise) ** 2).mean((1, 2, 3)) for p in (model, v["ref_pred"]))
    np.testing.assert_allclose(v["model_losses"], ours, rtol=1e-12)
    np.testing.assert_allclose(v["ref_losses"], theirs, rtol=1e-12)
    better = (theirs - ours)[:pairs] - (theirs - ours)[pairs:]
    inside = beta / 2 * better
    np.testing.assert_allclose(v["inside_term"], inside, rtol=1e-9)
    np.testing.assert_allclose(v["loss"], np.log1p(np.exp(-inside)).mean(), rtol=1e-9)
    assert float(v["implicit_acc"]) == pytest.approx((inside > 0).mean())
    pull = beta / 2 / (1 + np.exp(inside)) / pairs
    sign = np.concatenate([pull, -pull])[:, None, None, None]
    np.testing.assert_allclose(v["gradient"], sign * 2 * (model - noise) / entries, rtol=1e-8, atol=1e-15)


def check_controlnet(v: Vectors) -> None:
    case = str(v["weights_case"])
    side = 8 * v["latents"].shape[-1]
    unet, network = small_unet(f"{case}/unet"), small_controlnet(f"{case}/controlnet")

    def noise(x: np.ndarray, t: int, half: str, scale: float | None) -> np.ndarray:
        residuals = None if scale is None else small_residuals(network, v, x, t, half, scale=scale)
        return small_prediction(unet, v, x, t, half, residuals=residuals)

    if v.name.startswith("controlnet-forward"):
        x, t = v["latents"], int(v["timestep"])
        assert (v["time_ids"] == [side, side, 0, 0, side, side]).all()
        for key, residual in small_residuals(network, v, x, t).items():
            close(residual, v[key], v)
        close(noise(x, t, "", None), v["plain"], v)
        np.testing.assert_allclose(v["controlled"][0], v["plain"], atol=1e-6)
        for scale, expected in zip(v["scales"], v["controlled"], strict=True):
            close(noise(x, t, "", float(scale)), expected, v)
        # Given residuals are added as they are: half of the stored ones is the ControlNet at scale 0.5.
        halves = {key: v[key] / 2 for key in v if key == "mid" or key.startswith("down_")}
        close(small_prediction(unet, v, x, t, "", residuals=halves), v["controlled"][1], v)
        assert np.abs(v["controlled"][2] - v["plain"]).max() > 0.1
        return

    def walk(scales: list[float | None]) -> list[np.ndarray]:
        x, after = v["latents"], []
        for t, scale in zip(map(int, v["timesteps"]), scales, strict=True):
            u, c = (noise(x, t, half, scale) for half in ("negative_", ""))
            x = ddim(x, u + float(v["guidance"]) * (c - u), t, t - 1000 // len(scales))
            after.append(x)
        return after

    steps = len(v["timesteps"])
    close(walk([None] * steps), v["plain"], v, times=10)
    for scale, expected in zip(v["scales"], v["controlled"], strict=True):
        close(walk([float(scale)] * steps), expected, v, times=10)
    close(walk([1.0, 1.0, *[None] * (steps - 2)]), v["controlled_first_half"], v, times=10)
    assert np.abs(v["controlled"][2][-1] - v["plain"][-1]).max() > 0.1


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
