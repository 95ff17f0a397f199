"""What the tests of weights share: small pipelines, networks and a LoRA to put on them, latents and plans."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_unet
import torch
from analytic import session

from bench import suite
from bench.errors import UserError
from bench.models.base import Family
from bench.prompts.base import Prompt
from bench.runner.plan import Plan, make_plan

PROMPTS = ("a red cat", "a photo of a dog and a frog")


def save(found: Path) -> Path:
    """`own` and `other`, equal but for the denoiser; `sd`, of another architecture; `lora`, for the first."""
    own = tiny_unet.save_sdxl(found / "own", sharpness=1.0, levels=1)
    other = tiny_unet.save_sdxl(found / "another", sharpness=1.0, levels=1, seed=1)
    shutil.copytree(own, found / "other")
    shutil.rmtree(found / "other" / "unet")
    shutil.copytree(other / "unet", found / "other" / "unet")
    tiny_unet.save_sd(found / "sd", sharpness=1.0, levels=1)
    save_lora(own, found / "lora")
    return found


def save_lora(pipeline: Path, folder: Path, **more: Any) -> Path:
    """A LoRA for a pipeline's UNet whose updates are not zero."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

    peft = pytest.importorskip("peft")
    unet = UNet2DConditionModel.from_pretrained(pipeline / "unet")
    torch.manual_seed(3)
    config = {"r": 2, "lora_alpha": 4, "target_modules": ["to_q", "to_v"], **more}
    unet.add_adapter(peft.LoraConfig(init_lora_weights=False, **config))
    layers = peft.utils.get_peft_model_state_dict(unet)
    StableDiffusionXLPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return folder


def loaded(folder: Path) -> Family:
    return tiny_unet.entry(folder).load("cpu")


def latents(family: Family, methods: Any = (), **more: Any) -> torch.Tensor:
    """Final latents with the methods' weights on, as a run makes them."""
    s = session(methods, prompts=PROMPTS, family=family, **{"steps": 3, **more})
    try:
        family.wear(s.method.adapters())
        s.meter.rebind(family.modules())
        with torch.no_grad():
            found = s.sample(s.draw())
        assert s.cost.nfe(0).forwards == len(s.schedule.entries)
        return found
    finally:
        s.meter.close()


def planned(model: Path | str, *methods: str) -> Plan:
    """The plan of `standard` and methods for one prompt."""
    text = f"""\
name: weights
models: ['{model}']
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 10
baseline: standard
methods: [standard, {", ".join(methods)}]
metrics: [shapes-clipscore]
"""
    return make_plan(suite.parse(text, file="suites/weights.yaml"), read=lambda name: [Prompt(0, "a cat and a dog")])


def refused(act: Callable[[], object], match: str) -> None:
    """It ends in one line that matches."""
    with pytest.raises(UserError, match=match) as error:
        act()
    assert "\n" not in str(error.value)
