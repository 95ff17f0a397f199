"""The method `controlnet` through a session, compared with diffusers' ControlNet and pipelines as they were stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from analytic import Methods, session
from networks import SCHEDULE, small_controlnet, small_unet, small_vae
from PIL import Image
from stored import Vectors, found

from bench.methods.controlnet import ControlNet
from bench.models.base import ModelEntry
from bench.models.sdxl import SDXL
from bench.prompts import own
from bench.prompts.base import Prompt
from bench.sampling.session import Session

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]


class Stored(SDXL):
    """SDXL's own family on the file's networks; prompts are "0", "1", ... by place in the file's batch."""

    v: Vectors

    def encode(self, prompts: Any) -> Any:
        rows = [int(p) for p in prompts]
        return {n: torch.from_numpy(self.v[n][rows]) for n in ("prompt_embeds", "pooled_prompt_embeds")}

    def against(self) -> Any:
        return {n: torch.from_numpy(self.v[f"negative_{n}"]) for n in ("prompt_embeds", "pooled_prompt_embeds")}

    def encode_negative(self, prompt: str) -> Any:
        return {n: one[:1] for n, one in self.against().items()}


def written(v: Vectors, folder: Path) -> tuple[Stored, list[Prompt]]:
    """The file's networks as the folders of a pipeline and a ControlNet, and its control images as a prompt set."""
    import tiny_unet
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline

    case = str(v["weights_case"])
    StableDiffusionXLPipeline(
        vae=small_vae(),
        text_encoder=tiny_unet._text_encoder(),
        text_encoder_2=tiny_unet._text_encoder(projected=True),
        tokenizer=tiny_unet.tokenizer(),
        tokenizer_2=tiny_unet.tokenizer(),
        unet=small_unet(f"{case}/unet"),
        scheduler=DDIMScheduler.from_config(SCHEDULE),
        add_watermarker=False,
    ).save_pretrained(folder / "model")
    small_controlnet(f"{case}/controlnet").save_pretrained(folder / "controlnet")
    rows = []
    for i, image in enumerate(v["image"]):
        assert set(np.unique(image)) <= {0.0, 1.0}, "a PNG holds it exactly"
        Image.fromarray((255 * image.transpose(1, 2, 0)).astype(np.uint8)).save(folder / f"{i}.png")
        rows.append(json.dumps({"prompt": str(i), "control": {"canny": f"{i}.png"}}))
    (folder / "set.jsonl").write_text("\n".join(rows))
    entry = ModelEntry("stored", "bench.models.sdxl:SDXL", str(folder / "model"), None, 4, 5.0, (64, 64), (4, 8, 8))
    family = Stored(entry, "cpu", "fp32")
    family.v = v
    return family, own.read(folder / "set.jsonl")


def opened(family: Stored, prompts: list[Prompt], **window: float) -> Session:
    """A session of the file's batch with a ControlNet on, or without one where there is no scale."""
    v = family.v
    controlnet = Path(family.entry.source).parent / "controlnet"
    methods: Methods = ControlNet(weights=str(controlnet), **window) if window else ()
    s = session(methods, "ddim", 4, float(v.get("guidance", np.array(1.0))), prompts, family=family)
    s.uncond = family.against()
    return s


def close(actual: torch.Tensor, expected: np.ndarray, times: float = 1.0) -> None:
    bound = 1e-5 * times * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=bound)


FORWARD = [p for p in found("controlnet") if "forward" in p.stem]
PIPELINE = [p for p in found("controlnet") if "pipeline" in p.stem]


@pytest.mark.parametrize("path", FORWARD, ids=lambda p: p.stem)
@torch.no_grad()
def test_the_residuals_and_what_the_unet_makes_of_them(path: Path, tmp_path: Path) -> None:
    v = Vectors(path)
    x, t = torch.from_numpy(v["latents"]), float(v["timestep"])
    stored = written(v, tmp_path)
    for scale, expected in zip(v["scales"].tolist(), v["controlled"], strict=True):
        s = opened(*stored, scale=scale)
        given = s.method.residuals(s, x, t, s.cond, 0)
        if scale == 0:
            assert given is None, "a ControlNet that adds nothing is not asked"
        else:
            for i, one in enumerate((*given.down, given.mid)):
                name = "mid" if i == len(given.down) else f"down_{i}"
                close(one, scale * v[name])
            assert len(given.down) == sum(k.startswith("down_") for k in v)
        close(s.predict(x, t).cond, expected)
        s.meter.close()
    s = opened(*stored)
    close(s.predict(x, t).cond, v["plain"])
    s.meter.close()


@pytest.mark.parametrize("path", PIPELINE, ids=lambda p: p.stem)
@torch.no_grad()
def test_the_loop_is_the_pipelines(path: Path, tmp_path: Path) -> None:
    v = Vectors(path)
    cases: list[tuple[dict[str, float], np.ndarray]] = [({}, v["plain"]), ({"end": 0.5}, v["controlled_first_half"])]
    cases += [({"scale": scale}, after) for scale, after in zip(v["scales"].tolist(), v["controlled"], strict=True)]
    stored = written(v, tmp_path)
    for window, after in cases:
        s = opened(*stored, **window)
        assert s.timesteps == v["timesteps"].tolist()
        close(s.sample(torch.from_numpy(v["latents"])), after[-1], 10)
        s.meter.close()
