"""Schedulers by name: what each costs, how it scales the latent, and that the pipeline really pays that."""

from __future__ import annotations

import inspect
import json
import warnings
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from bench import registry
from bench.errors import UserError
from bench.methods.base import Method
from bench.models.base import Embeddings, Family, ModelEntry
from bench.prompts.base import Prompt
from bench.sampling import noise
from bench.sampling.records import Item, Sampling
from bench.sampling.schedule import Schedule
from bench.sampling.session import Next, Session, Step

# diffusers calls numpy in ways that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy")

# STACK.md's table: denoiser calls at N = 10, 25 and 50.
N = (10, 25, 50)
PLUS_ONE = (11, 26, 51)
PLUS_NINE = (19, 34, 59)
TWICE_LESS_ONE = (19, 49, 99)
CALLS = {
    **dict.fromkeys(("ddim", "dpmpp_2m", "dpmpp_2m_karras", "unipc", "deis", "tcd"), N),
    **dict.fromkeys(("ddpm", "lcm", "sa_solver", "euler", "lms", "euler_a"), N),
    "pndm": PLUS_ONE,
    "pndm_prk": PLUS_NINE,
    **dict.fromkeys(("heun", "kdpm2", "kdpm2_a"), TWICE_LESS_ONE),
}
SIGMA_SCALED = ("euler", "euler_a", "lms", "heun", "kdpm2", "kdpm2_a")
BUILT = list(CALLS)
PROMPT = "a photo of a red circle"


def entry() -> ModelEntry:
    found: ModelEntry = registry.get("models", "shapes-sdxl")
    return found


def config() -> dict[str, Any]:
    folder = entry().folder
    assert folder is not None
    found: dict[str, Any] = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    return found


def build(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return registry.get("samplers", name).build(config())


@cache
def built(name: str) -> Any:
    """A scheduler for a test that sets its timesteps: those of kdpm2 take a quarter of a second to build."""
    return build(name)


@cache
def asked(name: str) -> Any:
    """A scheduler of a model's config that asks for velocity, Karras and beta sigmas, and leaves `clip_sample` out."""
    given = {k: v for k, v in config().items() if k != "clip_sample"}
    given |= {"prediction_type": "v_prediction", "use_karras_sigmas": True, "use_beta_sigmas": True}
    if name.startswith("dpmpp"):
        given["algorithm_type"] = "dpmsolver"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return registry.get("samplers", name).build(given)


@cache
def shapes() -> Family:
    return entry().load("cpu")


@cache
def encoded(images: int) -> tuple[Embeddings, Embeddings]:
    """The prompt and the negative prompt for so many images."""
    model = shapes()
    uncond = {k: v.expand(images, *v.shape[1:]) for k, v in model.encode_negative("").items()}
    return model.encode([PROMPT] * images), uncond


def session(name: str, *, steps: int, guidance: float = 5.0, seeds: tuple[int, ...] = (0, 1)) -> Session:
    """The same prompt with each seed, on the embedded pipeline."""
    cond, uncond = encoded(len(seeds))
    p = Sampling(name, steps, guidance, entry().size)
    return Session(shapes(), [Item(Prompt(0, PROMPT), s) for s in seeds], p, cond=cond, uncond=uncond)


def sample(
    name: str, *, steps: int, guidance: float = 5.0, seeds: tuple[int, ...] = (0, 1), sampler_seed: int = 0
) -> tuple[torch.Tensor, list[int]]:
    """Final latents of the embedded pipeline, and the batch size of each call of its UNet."""
    batches: list[int] = []
    hook = shapes().modules()["denoiser"].register_forward_pre_hook(lambda module, given: batches.append(len(given[0])))
    latents = torch.stack([noise.draw(PROMPT, s, entry().latent) for s in seeds])
    # Another seed of the same latents: what a stochastic sampler draws is all that differs.
    s = session(name, steps=steps, guidance=guidance, seeds=tuple(seed + 1000 * sampler_seed for seed in seeds))
    try:
        with torch.no_grad():
            made = s.sample(latents)
    finally:
        hook.remove()
        s.meter.close()
    return made, batches


def test_the_table_covers_every_sampler() -> None:
    assert set(CALLS) == set(registry.names("samplers"))


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_those_of_the_table(name: str) -> None:
    assert tuple(registry.get("samplers", name).calls(n) for n in N) == CALLS[name]


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("n", [4, *N])
def test_calls_are_the_schedulers_own_number_of_timesteps(name: str, n: int) -> None:
    scheduler = built(name)
    scheduler.set_timesteps(n)
    assert registry.get("samplers", name).calls(n) == len(scheduler.timesteps)


@pytest.mark.parametrize(("name", "steps"), [("lcm", 51), ("tcd", 51), ("pndm", 1), ("pndm_prk", 3)])
def test_a_step_count_that_a_scheduler_cannot_do_is_refused_at_once(name: str, steps: int) -> None:
    sampler = registry.get("samplers", name)
    with pytest.raises(UserError, match=f"sampler '{name}' takes .* steps, not {steps}"):
        sampler.check_steps(steps)
    sampler.check_steps(steps + 1 if steps < 10 else steps - 1)


@pytest.mark.parametrize("name", BUILT)
def test_no_scheduler_clamps_latents(name: str) -> None:
    """The class default clip_sample=True of DDIM and DDPM clamps latents, even where the config leaves it out."""
    for scheduler in (built(name), asked(name)):
        assert not scheduler.config.get("clip_sample", False)
        assert not scheduler.config.get("thresholding", False)


@pytest.mark.parametrize("name", BUILT)
def test_schedulers_keep_the_models_betas_and_prediction_type(name: str) -> None:
    scheduler = built(name)
    expected = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    np.testing.assert_allclose(scheduler.alphas_cumprod.numpy(), expected, rtol=1e-4)
    assert scheduler.config.prediction_type == "epsilon"
    assert asked(name).config.prediction_type == "v_prediction"


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("n", [10, 50])
def test_the_latent_is_scaled_to_the_first_noise_level(name: str, n: int) -> None:
    """Variance-preserving schedulers start at 1; the others at sqrt(1 + sigma²) = 1 / alpha of the first timestep."""
    scheduler = built(name)
    scheduler.set_timesteps(n)
    abar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    expected = abar[1000 - 1000 // n + 1] ** -0.5 if name in SIGMA_SCALED else 1.0
    assert float(scheduler.init_noise_sigma) == pytest.approx(expected, rel=1e-4)


def test_the_tables_scale_of_eulers_latent() -> None:
    scheduler = build("euler")
    scheduler.set_timesteps(50)
    assert f"{float(scheduler.init_noise_sigma):.2f}" == "13.16"


@pytest.mark.parametrize(
    ("name", "steps", "calls"), [("ddim", 3, 3), ("heun", 3, 5), ("pndm", 3, 4), ("pndm_prk", 4, 13), ("euler_a", 3, 3)]
)
def test_the_real_pipeline_calls_its_denoiser_that_often(name: str, steps: int, calls: int) -> None:
    """Guidance doubles the batch, not the calls."""
    made, batches = sample(name, steps=steps)
    assert batches == [4] * calls
    assert calls == registry.get("samplers", name).calls(steps)
    assert made.shape == (2, *entry().latent)
    assert torch.isfinite(made).all()


@pytest.mark.parametrize("steps", [5, 10])
def test_euler_is_ddim_on_the_same_timesteps(steps: int) -> None:
    """Euler's step on x / alpha is DDIM's, so with the right initial scale both end at nearly the same latents.

    They differ in their last step only: DDIM leaves alpha and sigma of timestep 0 (sigma 0.029), Euler goes to zero.
    """
    (ddim, _), (euler, _) = sample("ddim", steps=steps), sample("euler", steps=steps)
    assert float((ddim - euler).norm() / ddim.norm()) < 0.06
    assert float((ddim[0] - euler[1]).norm() / ddim[0].norm()) > 0.2


@pytest.mark.parametrize("name", ["ddim", "euler_a"])
def test_neither_the_batch_nor_the_order_changes_an_image(name: str) -> None:
    together, _ = sample(name, steps=3, seeds=(0, 1, 2))
    turned, _ = sample(name, steps=3, seeds=(2, 0))
    torch.testing.assert_close(turned, together[[2, 0]], rtol=0, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=0.1)


@pytest.mark.parametrize("name", BUILT)
def test_a_sampler_says_whether_its_steps_draw_noise(name: str) -> None:
    """Another generator changes the image of a stochastic sampler, and of no other."""
    sampler = registry.get("samplers", name)
    steps = max(2, sampler.fewest_steps)
    first, again = (sample(name, steps=steps, guidance=1.0, seeds=(0,), sampler_seed=s)[0] for s in (0, 1))
    assert torch.equal(first, again) == (not sampler.stochastic)


def test_a_latent_of_another_shape_is_refused() -> None:
    """SDXL's pipeline accepts any shape silently."""
    with pytest.raises(ValueError, match=r"latents of shape \(1, 4, 16, 16\); shapes-sdxl expects \(1, 4, 8, 8\)"):
        session("ddim", steps=2, seeds=(0,)).sample(torch.zeros(1, 4, 16, 16))


@pytest.mark.parametrize("name", BUILT)
def test_a_samplers_name_says_which_sigmas_it_has(name: str) -> None:
    """A model whose own config asks for Karras sigmas does not turn dpmpp_2m into dpmpp_2m_karras."""
    scheduler = asked(name)
    read = inspect.signature(type(scheduler).__init__).parameters
    for setting in ("use_karras_sigmas", "use_beta_sigmas"):
        if setting in read:
            assert scheduler.config[setting] == (setting == "use_karras_sigmas" and name == "dpmpp_2m_karras")
    if name.startswith("dpmpp"):
        assert scheduler.config["algorithm_type"] == "dpmsolver++"


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("n", [4, 10, 50])
def test_whole_steps_are_as_many_as_were_asked_for(name: str, n: int) -> None:
    """KDPM2's midpoints and PNDM's Runge-Kutta ones are no steps: from the first to the second is a whole one."""
    s = session(name, steps=n)
    s.meter.close()
    assert len(s.schedule) == n == len(s.timesteps)
    assert all(a > b or (a == b and "karras" in name) for a, b in pairwise(s.timesteps))
    if name in ("kdpm2", "kdpm2_a", "heun", "pndm", "pndm_prk", "euler", "euler_a", "lms", "ddpm"):
        plain = session("ddim", steps=n)
        plain.meter.close()
        assert s.timesteps == plain.timesteps


@pytest.mark.parametrize("name", [n for n in BUILT if registry.get("samplers", n).takes_timesteps])
def test_a_list_of_timesteps_takes_the_place_of_the_samplers_own(name: str) -> None:
    listed = (999, 845, 730, 587)
    s = session(name, steps=4)
    s.meter.close()
    p = replace(s.sampling, timesteps=listed)
    assert Schedule(registry.get("samplers", name), config(), p).timesteps == list(listed)


@pytest.mark.parametrize("name", [n for n in BUILT if not registry.get("samplers", n).takes_timesteps])
def test_a_sampler_that_takes_no_list_says_which_do(name: str) -> None:
    p = Sampling(name, 4, 5.0, (64, 64), timesteps=(999, 845, 730, 587))
    with pytest.raises(UserError, match=f"sampler '{name}' takes no list of timesteps; give one of ddpm, dpmpp_2m, "):
        registry.get("samplers", name).check(p)


@pytest.mark.parametrize("name", [n for n in BUILT if registry.get("samplers", n).memoryless])
def test_a_memoryless_samplers_step_may_be_taken_again(name: str) -> None:
    """The loop's own step twice from the same latents: the scheduler's state does not tell the two apart."""

    class Twice(Method):
        def step(self, s: Session, x: torch.Tensor, i: int, following: Next) -> Step:
            following(x + 0.1)
            return following(x)

    made, forwards = [], []
    for method in (None, Twice()):
        s = session(name, steps=2)
        s.method = method
        with torch.no_grad():
            made.append(s.sample(s.draw()))
        s.meter.close()
        forwards.append(s.cost.nfe(0).forwards)
    a, b = made
    assert forwards == [2, 4]
    if registry.get("samplers", name).stochastic:
        assert not torch.equal(a, b), "the second step drew other noise than the first"
        return
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_scheduler_whose_betas_are_an_array_is_built_and_each_is_its_own() -> None:
    config = {"trained_betas": np.linspace(1e-4, 0.02, 1000, dtype=np.float32), "prediction_type": "epsilon"}
    one, other = (registry.get("samplers", "ddim").build(config) for _ in range(2))
    np.testing.assert_allclose(one.betas.numpy(), config["trained_betas"])
    one.set_timesteps(7)
    assert (len(one.timesteps), other.num_inference_steps) == (7, None)
