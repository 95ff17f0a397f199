"""Align Your Steps: the published lists, their interpolation, and which models and samplers take them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from analytic import ALPHAS_CUMPROD, analytic_entry, make, paid, priced, session
from hypothesis import given
from hypothesis import strategies as st

from bench import registry
from bench.errors import UserError
from bench.methods.ays import TIMESTEPS, AlignYourSteps, log_levels, nearest_timestep, timesteps
from bench.methods.base import check_chain
from bench.models.base import ModelEntry
from bench.sampling.records import Sampling

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")  # __array__ of numpy 2

LEVELS = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
}
"""sigma / alpha as the authors publish them."""
SDXL = AlignYourSteps(schedule="sdxl")


def model(name: str) -> ModelEntry:
    found: ModelEntry = registry.get("models", name)
    return found


@pytest.mark.parametrize(("schedule", "name"), [("sd15", "StableDiffusion"), ("sdxl", "StableDiffusionXL")])
def test_the_lists_are_diffusers(schedule: str, name: str) -> None:
    from diffusers.schedulers import AysSchedules

    assert list(TIMESTEPS[schedule]) == AysSchedules[f"{name}Timesteps"]
    np.testing.assert_allclose(LEVELS[schedule][:-1], AysSchedules[f"{name}Sigmas"][:-1])


def test_the_levels_of_the_timesteps_are_the_schedules() -> None:
    np.testing.assert_allclose(np.exp(log_levels()), ((1 - ALPHAS_CUMPROD) / ALPHAS_CUMPROD) ** 0.5, rtol=1e-12)
    assert [nearest_timestep(v) for v in log_levels()] == list(range(1000))
    assert (nearest_timestep(9.0), nearest_timestep(-9.0)) == (999, 0)


@pytest.mark.parametrize("schedule", TIMESTEPS)
def test_the_published_levels_lie_at_the_published_timesteps(schedule: str) -> None:
    """Up to the three digits that are printed: one timestep at the most; the eleventh level is timestep 0."""
    for t, level in zip((*TIMESTEPS[schedule], 0), LEVELS[schedule], strict=True):
        assert abs(nearest_timestep(math.log(level)) - t) <= 1


@pytest.mark.parametrize("schedule", TIMESTEPS)
@given(steps=st.integers(1, 59))
def test_other_step_counts_interpolate_the_published_levels(schedule: str, steps: int) -> None:
    """The authors' rule: n + 1 points evenly over the eleven levels, linear in their logarithm, the last being zero."""
    along = np.linspace(0, 10, steps + 1)[:-1]
    expected = [nearest_timestep(float(v)) for v in np.interp(along, range(11), np.log(LEVELS[schedule]))]
    found = timesteps(schedule, steps)
    assert np.abs(np.subtract(found, expected)).max() <= 1
    assert list(found) == sorted(set(found), reverse=True)
    assert (len(found), found[0]) == (steps, 999)


def test_ten_and_twenty_steps() -> None:
    assert timesteps("sdxl", 10) == (999, 845, 730, 587, 443, 310, 193, 116, 53, 13)
    assert timesteps("sdxl", 20)[::2] == timesteps("sdxl", 10)


@pytest.mark.parametrize(("schedule", "steps"), [("sdxl", 60), ("sd15", 74), ("sdxl", 200)])
def test_more_steps_than_the_model_has_timesteps_there_are_refused(schedule: str, steps: int) -> None:
    with pytest.raises(UserError, match=f"two of {steps} steps fall on one"):
        timesteps(schedule, steps)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("sdxl", "sdxl"), ("dreamshaper", "sdxl"), ("shapes-sdxl", "sdxl"), ("sd14", "sd15"), ("sd15", "sd15")],
)
def test_the_models_family_chooses_the_list(name: str, schedule: str) -> None:
    method = AlignYourSteps().for_model(model(name))
    assert method == AlignYourSteps(schedule=schedule)  # type: ignore[arg-type]
    assert method.identity()["schedule"] == schedule
    p = Sampling("dpmpp_2m", 10, 5.5, (64, 64))
    assert method.sampling(p) == replace(p, timesteps=TIMESTEPS[schedule])


def test_models_without_a_published_list_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("sd21", "hunyuan-dit"):
        with pytest.raises(UserError, match=f"no timesteps are published for model '{name}'"):
            AlignYourSteps().for_model(model(name))
    assert SDXL.for_model(model("sd21")) == SDXL
    with pytest.raises(UserError, match="no model was chosen"):
        AlignYourSteps().sampling(Sampling("euler", 10, 1.0, (16, 16)))
    folder = tmp_path_factory.mktemp("other-betas")
    (folder / "scheduler").mkdir()
    (folder / "model_index.json").write_text('{"scheduler": ["diffusers", "DDIMScheduler"]}')
    (folder / "scheduler" / "scheduler_config.json").write_text('{"beta_end": 0.02}')
    entry = replace(analytic_entry(), adapter="bench.models.sdxl:SDXL", source=str(folder))
    with pytest.raises(UserError, match=r"has beta_end 0.02, and the published timesteps are for 0.012"):
        AlignYourSteps().for_model(entry)


@pytest.mark.parametrize("sampler", ["ddim", "euler_a", "unipc", "heun"])
def test_samplers_that_take_no_list_are_refused(sampler: str) -> None:
    with pytest.raises(UserError, match=f"sampler '{sampler}' takes no list of timesteps; give one of ddpm, dpmpp_2m"):
        session(SDXL, sampler)


def test_two_methods_that_set_the_sampling_are_refused() -> None:
    with pytest.raises(ValueError, match="both set how the image is sampled"):
        check_chain([SDXL, SDXL], ["ays", "ays"], Sampling("euler", 10, 5.0, (16, 16)))


@pytest.mark.parametrize("sampler", ["euler", "ddpm", "dpmpp_2m"])
@pytest.mark.parametrize("steps", [10, 7])
@pytest.mark.parametrize("guidance", [1, 5])
def test_it_costs_nothing_and_walks_its_list(sampler: str, steps: int, guidance: int) -> None:
    s = session(SDXL, sampler, steps=steps, guidance=guidance)
    made = make(s)
    assert s.timesteps == list(timesteps("sdxl", steps))
    assert paid(s) == priced(s)
    assert priced(s).forwards == steps
    assert torch.equal(made.noise, made.drawn)
    alone = make(session(SDXL, sampler, steps=steps, guidance=guidance, seeds=[0], prompts=["a red circle"]))
    assert torch.equal(alone.latents[0], made.latents[0])


def test_methods_move_between_the_lists_timesteps() -> None:
    """alpha and sigma of places are those of the list, so a chain with inversion or RePaint works between them."""
    s = session([SDXL, "repaint_every"], "euler")
    assert s.schedule.at(1)[0] == pytest.approx(ALPHAS_CUMPROD[845] ** 0.5, rel=1e-5)
    make(s)
    assert paid(s) == priced(s)
    assert priced(s).forwards == 19
