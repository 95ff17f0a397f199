"""Our methods through a session, compared with the intermediate values of the public code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from analytic import Analytic, session
from networks import closed_form, small_unet
from stored import Vectors, found

from bench.methods.ays import TIMESTEPS, AlignYourSteps
from bench.methods.base import Method
from bench.methods.inversion import Inversion, InversionAsReleased
from bench.methods.repaint import RepaintEvery, RepaintFirst, jumps
from bench.sampling.session import Session

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")  # __array__ of numpy 2


class Stored(Analytic):
    """The network of a file; prompts are "0", "1", ... by place in the file's batch."""

    def __init__(self, v: Vectors):
        super().__init__(latent=v["latents"].shape[1:])
        self.v, self.unet = v, None if v.closed else small_unet(str(v["weights_case"]))

    def encode(self, prompts: Any) -> Any:
        rows = [int(p) for p in prompts]
        names = ("prompt_embeds",) if self.unet is None else ("prompt_embeds", "pooled_prompt_embeds")
        return {n: torch.from_numpy(self.v[n][rows]) for n in names}

    def against(self) -> Any:
        return {n: torch.from_numpy(self.v[f"negative_{n}"]) for n in self.encode(["0"])}

    def encode_negative(self, prompt: str) -> Any:
        return {n: one[:1] for n, one in self.against().items()}

    def network(self, x: Any, t: Any, embeds: Any) -> Any:
        if self.unet is None:
            numbers = {k: self.v[k] for k in ("mix", "token", "clock")}
            return closed_form(x.double(), float(t), embeds["prompt_embeds"], **numbers)
        side = 8.0 * x.shape[-1]
        added = {
            "text_embeds": embeds["pooled_prompt_embeds"],
            "time_ids": torch.tensor([[side, side, 0.0, 0.0, side, side]]).repeat(len(x), 1),
        }
        return self.unet(
            x.float(), t, encoder_hidden_states=embeds["prompt_embeds"], added_cond_kwargs=added, return_dict=False
        )[0]

    def modules(self) -> dict[str, Any]:
        return {"denoiser": self.unet or self.denoiser, "vae": self.vae}


def opened(path: Path, method: Method, sampler: str = "ddim") -> tuple[Vectors, Session, torch.Tensor]:
    """A file, a session of its network and batch with a method on, and its first latents."""
    v = Vectors(path)
    family = Stored(v)
    prompts = [str(i) for i in range(len(v["latents"]))]
    s = session(method, sampler, len(v["timesteps"]), float(v["guidance"]), prompts, family=family)
    s.uncond = family.against()
    return v, s, torch.from_numpy(v["latents"]).float()


def close(actual: torch.Tensor, expected: np.ndarray, times: float = 1.0) -> None:
    """Up to float32 latents."""
    bound = 3e-5 * times * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=bound)


def with_noises(s: Session, z: np.ndarray) -> None:
    """The file's noises in the place of the images' own."""
    rest = iter(torch.from_numpy(z).float())

    def renoise(x: torch.Tensor, i: int, j: int) -> torch.Tensor:
        w = (s.schedule.at(j)[0] / s.schedule.at(i)[0]) ** 2
        return w**0.5 * x + (1 - w) ** 0.5 * next(rest)

    s.renoise = renoise  # type: ignore[method-assign]


@pytest.mark.parametrize("path", [p for p in found("renoise") if "first" in p.stem], ids=lambda p: p.stem)
@torch.no_grad()
def test_repaint_first_is_the_released_renoising(path: Path) -> None:
    v, s, x = opened(path, RepaintFirst())
    ratio = (s.schedule.at(0)[0] / s.schedule.at(1)[0]) ** 2
    assert ratio == pytest.approx(float(v["weight"][0]), rel=1e-5)
    with_noises(s, v["z"])
    made = s.method.noise(s, x)
    close(made, v["renoised"])
    close(s.sample(made), v["final"], 10)


@pytest.mark.parametrize("path", [p for p in found("renoise") if "every" in p.stem], ids=lambda p: p.stem)
@torch.no_grad()
def test_repaint_every_is_the_commented_line(path: Path) -> None:
    v, s, x = opened(path, RepaintEvery())
    with_noises(s, v["z"])
    close(s.sample(x), v["final"], 20)


@pytest.mark.parametrize("path", [p for p in found("inversion") if "-r1-" in p.stem], ids=lambda p: p.stem)
@torch.no_grad()
def test_inversion_is_the_released_pair_and_image(path: Path) -> None:
    released = path.stem.split("-")[-2] == "released"
    v, s, x = opened(path, InversionAsReleased() if released else Inversion())
    made = s.method.noise(s, x)
    close(made, v["x_prime"])
    close(s.sample(made), v["final"], 10)


def test_the_lists_of_align_your_steps() -> None:
    (path,) = [p for p in found("ays") if p.stem == "ays"]
    v = Vectors(path)
    assert TIMESTEPS["sdxl"] == tuple(v["StableDiffusionXLTimesteps"].tolist())
    assert TIMESTEPS["sd15"] == tuple(v["StableDiffusionTimesteps"].tolist())


@pytest.mark.parametrize(("name", "sampler"), [("dpmpp", "dpmpp_2m"), ("euler", "euler")])
@torch.no_grad()
def test_align_your_steps_is_diffusers_walk(name: str, sampler: str) -> None:
    (path,) = [p for p in found("ays") if name in p.stem]
    v, s, x = opened(path, AlignYourSteps(schedule="sdxl"), sampler)
    assert s.timesteps == v["timesteps"].tolist()
    close(s.sample(x), v["results"][-1], 20)


def test_the_jumps_are_those_of_diffusers_repaint() -> None:
    (path,) = found("repaint")
    v = Vectors(path)
    for key in (k for k in v if k.startswith("timesteps_")):
        steps, length, times = map(int, key.split("_")[1:])
        levels = []
        for i in range(-1, steps - 1):
            level = steps - 2 - i
            levels.append(level)
            if i >= 0 and jumps(steps, length, i):
                levels += [*range(level + 1, level + length + 1), *range(level + length - 1, level - 1, -1)] * (
                    times - 1
                )
        assert (np.array(levels) * (1000 // steps)).tolist() == v[key].tolist()
