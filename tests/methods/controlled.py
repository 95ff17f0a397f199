"""What the tests of ControlNet share: small pipelines with random ControlNets, prompts with control images, plans."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_unet
import torch
from analytic import make, session
from PIL import Image
from suite_texts import TWO_ARMS, suite_text

from bench import suite
from bench.errors import UserError
from bench.methods.controlnet import ControlNet
from bench.models.base import Family
from bench.prompts import own
from bench.prompts.base import Prompt
from bench.runner.plan import Plan, make_plan
from bench.sampling.session import Session

TEXTS = ("a red cat", "a photo of a dog and a frog")
KINDS = ("canny", "depth")


def home(folder: Path) -> Path:
    """`sdxl`, `sd` and `velocity`, each with the ControlNets NAME-canny and NAME-depth."""
    small: Any = {"sharpness": 1.0, "levels": 1}
    tiny_unet.save_sdxl(folder / "sdxl", **small)
    tiny_unet.save_sd(folder / "sd", **small)
    tiny_unet.save_sd(folder / "velocity", prediction="v_prediction", **small)
    for name in ("sdxl", "sd", "velocity"):
        for seed, kind in enumerate(KINDS):
            tiny_unet.save_controlnet(folder / name, folder / f"{name}-{kind}", seed=seed)
    return folder


def picture(path: Path, seed: int, *, side: int = 2 * tiny_unet.SIDE, mode: str = "RGB") -> Path:
    """A square image of random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def written(folder: Path, texts: Sequence[str] = TEXTS, *, first: int = 0, **more: Any) -> Path:
    """A prompt file whose prompt k has a canny image of seed `first` + 2 k and a depth image of the seed after it."""
    rows = []
    for k, text in enumerate(texts):
        control = {kind: f"{kind}/{k}.png" for kind in KINDS}
        for at, (kind, place) in enumerate(control.items()):
            picture(folder / place, first + 2 * k + at, mode="L" if kind == "depth" else "RGB")
        rows.append({"prompt": text, "control": control, **more})
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prompts(folder: Path, texts: Sequence[str] = TEXTS, **more: Any) -> list[Prompt]:
    return own.read(written(folder, texts, **more))


def images(found: Sequence[Prompt], kind: str) -> list[Image.Image]:
    """Control images as a user of diffusers opens them."""
    return [Image.open(p.control_image(kind).path) for p in found]


@cache
def loaded(folder: Path) -> Family:
    return tiny_unet.entry(folder).load("cpu")


def control(home: Path, name: str, kind: str = "canny", **more: Any) -> ControlNet:
    return ControlNet(kind=kind, weights=str(home / f"{name}-{kind}"), **more)


def ours(family: Family, methods: Any, prompts: Sequence[Prompt], **more: Any) -> tuple[Session, torch.Tensor]:
    """A made session and its final latents."""
    s = session(methods, prompts=prompts, family=family, **{"steps": 4, **more})
    try:
        return s, make(s).latents
    finally:
        s.meter.close()


def arm(home: Path, name: str = "sdxl", kind: str = "canny", **more: Any) -> dict[str, Any]:
    """A ControlNet's arm as a suite has it."""
    return {"use": "controlnet", "kind": kind, "weights": str(home / f"{name}-{kind}"), **more}


def planned(home: Path, prompts: Path, *methods: Any, model: str = "sdxl", baseline: str = "standard") -> Plan:
    """The plan of a suite of a prompt file."""
    text = suite_text(
        TWO_ARMS,
        name="control",
        models=[str(home / model)],
        prompts=[str(prompts)],
        guidance=None,
        baseline=baseline,
        methods=[*methods],
        metrics=["shapes-clipscore"],
    )
    return make_plan(suite.parse(text, file="suites/control.yaml"))


def refused(act: Callable[[], object], *facts: str) -> None:
    """It ends in one line that has these facts."""
    with pytest.raises(UserError) as error:
        act()
    assert "\n" not in str(error.value)
    for fact in facts:
        assert fact in str(error.value)
