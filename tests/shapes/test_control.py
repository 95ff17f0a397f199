"""The embedded world's control images, and the ControlNet that is trained to follow them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import registry
from bench.methods.controlnet import ControlNet
from bench.shapes import control, networks, package, plugin
from bench.shapes.plugin import WEIGHTS
from bench.shapes.prompt_sets import CONTROLLED
from bench.shapes.scenes import Object, Scene, render
from bench.shapes.tasks import latent_chunks, mixed, to_images

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"),
]


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return package.load_pipeline(WEIGHTS / "shapes-sdxl")


@pytest.fixture(scope="module")
def work(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a training that was killed when it had encoded its first scenes, which the next one reads."""
    folder = tmp_path_factory.mktemp("work")
    of: dict[str, Any] = {"seed": control.SEED, "chunks": 1, "say": lambda line: None}
    latent_chunks(folder / "latents-mixed", pipeline.vae, mixed, **of)
    return folder


# Edges ---------------------------------------------------------------------------------------------------------------


def test_the_edges_of_a_square_are_its_outline() -> None:
    """A square of 10 pixels at (20, 30): inside on its right and lower sides, outside on the other two."""
    found = control.edges(render(Scene("white", (Object("square", "red", 10, 20, 30),))))
    expected = np.zeros((64, 64), bool)
    expected[29, 20:30] = expected[39, 20:30] = True
    expected[30:40, 19] = expected[30:40, 29] = True
    assert np.array_equal(found, expected)


def test_agreement_is_f1_with_a_pixel_of_slack() -> None:
    """Two of four drawn pixels lie within one of the two that are wanted: 2 * 1/2 * 1 / (1/2 + 1)."""
    wanted, drawn = np.zeros((2, 8, 8), bool)
    wanted[2, 2] = wanted[2, 3] = True
    drawn[3, 3] = drawn[1, 2] = drawn[6, 6] = drawn[7, 7] = True
    assert control.agreement(drawn, wanted) == pytest.approx(2 / 3)
    assert control.agreement(wanted, wanted) == 1
    assert control.agreement(np.zeros((8, 8), bool), wanted) == 0
    assert control.agreement(np.eye(8, dtype=bool) & (np.arange(8) > 5), wanted) == 0


def test_edges_are_those_of_the_scenes_that_the_denoiser_learns_from(pipeline: Any, work: Path) -> None:
    """Decoded latents have the edges of the scene of the same row, and not those of the next one's."""
    (chunk,) = (work / "latents-mixed").iterdir()
    latents = torch.load(chunk, weights_only=True)
    with torch.no_grad():
        images = to_images(pipeline.vae.decode(latents[:40] / pipeline.vae.config.scaling_factor).sample)
    drawn, wanted = [control.edges(image) for image in images], control.scene_edges(1)
    own = np.mean([control.agreement(a, b) for a, b in zip(drawn, wanted, strict=False)])
    others = np.mean([control.agreement(a, b) for a, b in zip(drawn, wanted[1:], strict=False)])
    assert own > 0.8
    assert others < 0.3


# The prompt set ------------------------------------------------------------------------------------------------------


def test_the_prompt_set_holds_what_is_drawn(tmp_path: Path) -> None:
    control.write_prompts(tmp_path)
    assert (tmp_path / "prompts.jsonl").read_text() == (CONTROLLED / "prompts.jsonl").read_text()
    prompts, drawn = plugin.controlled.read(), control.drawn_prompts()
    assert len(prompts) == len(drawn) == plugin.controlled.size
    for prompt, (row, edges) in zip(prompts, drawn, strict=True):
        assert (prompt.text, prompt.category, prompt.metadata) == (row["prompt"], row["category"], row["metadata"])
        image = prompt.control_image("canny")
        image.check((64, 64), of="it")
        assert np.array_equal(np.asarray(image.read()), edges[..., None].repeat(3, -1) * np.uint8(255))
    assert {p.path.name for p in (q.control_image("canny") for q in prompts)} == {
        f.name for f in (CONTROLLED / "canny").iterdir()
    }


# The network ---------------------------------------------------------------------------------------------------------


def test_training_moves_the_controlnet_and_not_the_denoiser(pipeline: Any, work: Path) -> None:
    before = {k: v.clone() for k, v in pipeline.unet.state_dict().items()}
    network, totals = control.train_controlnet(
        work, pipeline, steps=2, batch=4, scenes=500, say=lambda line: None, seed=0
    )
    assert totals["steps"] == 2
    assert all(torch.equal(v, before[k]) for k, v in pipeline.unet.state_dict().items())
    ends = [p for part in (network.controlnet_down_blocks, network.controlnet_mid_block) for p in part.parameters()]
    assert all(float(p.detach().abs().max()) > 0 for p in ends), "they begin at zero"


def test_its_folder_serves_the_method_on_the_model(pipeline: Any, tmp_path: Path) -> None:
    network = networks.controlnet(pipeline.unet)
    package.save_controlnet(tmp_path / "shapes-controlnet", network)
    package.write_card(tmp_path / "shapes-controlnet", command="none")
    config = json.loads((tmp_path / "shapes-controlnet" / "config.json").read_text())
    assert config["_class_name"] == "ControlNetModel"
    method = ControlNet(weights=str(tmp_path / "shapes-controlnet")).for_model(registry.get("models", "shapes-sdxl"))
    for prompt in plugin.controlled.read():
        method.check(prompt)
    again = package.load_controlnet(tmp_path / "shapes-controlnet")
    assert all(torch.equal(v.half().float(), again.state_dict()[k].float()) for k, v in network.state_dict().items())


def test_its_figures_are_of_the_same_noise_with_it_and_without(pipeline: Any) -> None:
    """An untrained one answers nothing, so both are the same drawings."""
    found = control.figures(pipeline, networks.controlnet(pipeline.unet), per_task=1, steps=2)
    assert found["edges_with"] == found["edges_without"]
    assert found["geneval_with"] == found["geneval_without"]
    assert 0 < found["edges_by_chance"] < 0.5
