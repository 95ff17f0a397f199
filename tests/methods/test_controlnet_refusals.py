"""ControlNet in suites: what is refused before an image is made, in one line that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_dit
import tiny_unet

from bench import suite
from bench.methods.controlnet import ControlNet
from bench.sampling.records import CONTROLNET
from bench.weights.files import pin

from . import controlled
from .controlled import arm, control, loaded, planned, refused

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]


def test_a_prompt_without_its_image_is_refused_when_planned(home: Path, tmp_path: Path) -> None:
    prompts = controlled.written(tmp_path)
    where = f"method 'controlnet': prompt 1 of {prompts}: "
    pose = arm(home) | {"kind": "pose"}
    refused(
        lambda: planned(home, prompts, "standard", pose), "prompt 0", "no control image of kind 'pose'", "canny, depth"
    )
    controlled.picture(tmp_path / "canny" / "1.png", 1, side=64)
    refused(lambda: planned(home, prompts, "standard", arm(home)), where, "1.png is 64x64", "makes 32x32; give one")
    (tmp_path / "canny" / "1.png").write_bytes(b"no image")
    refused(lambda: planned(home, prompts, "standard", arm(home)), where, "1.png: not readable")
    (tmp_path / "canny" / "1.png").unlink()
    refused(lambda: planned(home, prompts, "standard", arm(home)), where, "1.png: no such file")
    planned(home, prompts, "standard", arm(home, kind="depth"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cross_attention_dim": 32}, "cross_attention_dim: 32 there, 64 here"),
        ({"in_channels": 9}, "in_channels: 9 there, 4 here"),
        ({"block_out_channels": (32,)}, "block_out_channels: [32] there, [16] here"),
        ({"conditioning_channels": 1}, "it reads control images of 1 channels"),
        ({"conditioning_embedding_out_channels": (8, 16, 16)}, "it brings control images to 1/4 of their size"),
        ({"global_pool_conditions": True}, "pools its residuals"),
    ],
)
def test_weights_of_another_architecture_are_refused(
    home: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """When planned, by the config files; and when loaded, where they lie on the hub."""
    tiny_unet.save_controlnet(home / "sdxl", tmp_path / "sdxl-canny", **changes)
    prompts = controlled.written(tmp_path)
    refused(lambda: planned(home, prompts, "standard", arm(tmp_path)), str(tmp_path / "sdxl-canny"), said)
    method = control(home, "sdxl").for_model(tiny_unet.entry(home / "sdxl"))
    family: Any = loaded(home / "sdxl")
    refused(lambda: family.control(pin(str(tmp_path / "sdxl-canny"), of="test", kind=CONTROLNET)), said)
    assert family.control(method._weights()) is family.control(method._weights())


def test_what_is_no_controlnet_is_refused(home: Path, tmp_path: Path) -> None:
    entry = tiny_unet.entry(home / "sdxl")
    (tmp_path / "empty").mkdir()
    wrong = {
        str(home / "sdxl"): "it is a UNet2DConditionModel; expected a ControlNetModel",
        str(tmp_path / "empty"): "no weights there",
        str(home / "sdxl-canny" / "diffusion_pytorch_model.safetensors"): "give a folder with config.json",
        "someone/net@main": "'main' is no commit of 40 hex digits",
    }
    for reference, said in wrong.items():
        refused(lambda given=reference: ControlNet(weights=given).for_model(entry), said)  # type: ignore[misc]
    unknown = tiny_unet.entry(home / "velocity")
    refused(lambda: ControlNet().for_model(unknown), "no canny weights are known for model 'velocity'; give weights")
    refused(lambda: control(home, "sd").for_model(entry), "cross_attention_dim: 32 there, 64 here")
    dit = tiny_dit.entry(tiny_dit.save(tmp_path / "dit"))
    refused(lambda: control(home, "sd").for_model(dit), "(family HunyuanDiT); give a model with a UNet")


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("start: 0.5, end: 0.5", "'start' should be below 'end', got 0.5 and 0.5"),
        ("scale: -1", "'scale'"),
        ("end: 2", "'end'"),
        ("kind: ../secret", "'kind'"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_at_their_line(parameters: str, said: str) -> None:
    text = f"""\
name: control
models: [sdxl]
prompts: [controlnet]
samplers: [ddim]
baseline: standard
methods:
  - standard
  - {{use: controlnet, {parameters}}}
metrics: [clipscore]
"""
    refused(lambda: suite.parse(text, file="s.yaml"), "s.yaml:8: ", said)
