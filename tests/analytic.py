"""A model whose noise prediction is exact: each prompt's images are a Gaussian mixture of a few numbers.

x_0 ~ sum_k w_k N(m_k, v_k I) gives x_t = alpha x_0 + sigma e ~ sum_k w_k N(alpha m_k, S_k I) with
S_k = alpha^2 v_k + sigma^2, and e(x, t) = -sigma grad log p_t(x) = sigma sum_k r_k(x) (x - alpha m_k) / S_k with r_k
the posterior of component k (2011.13456, section 3). With one component the prediction is affine in x, and so is every
DDIM step.

`session(...)` builds a batch of it with methods on, `make` takes the batch through all stages as a run does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from bench import registry
from bench.methods.base import Chain, Method, check_chain
from bench.models.base import Embeddings, Family, ModelEntry
from bench.prompts.base import Prompt
from bench.runner.plan import check_needs
from bench.sampling import noise
from bench.sampling.meter import Meter
from bench.sampling.records import EPSILON, VELOCITY, Item, Nfe, Sampling
from bench.sampling.session import Session

SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
"""SDXL's scheduler settings (PROTOCOL 0)."""
ALPHAS_CUMPROD = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
PROMPTS = ("a red circle", "two blue squares")


@dataclass(frozen=True)
class Mixture:
    """sum_k weights_k N(means_k, variances_k I) over latents of D numbers."""

    weights: tuple[float, ...]
    means: tuple[tuple[float, ...], ...]
    variances: tuple[float, ...]

    def tokens(self) -> torch.Tensor:
        """(K, 2 + D): log weight, variance and mean of every component, which is what the network reads."""
        rows = zip(np.log(self.weights), self.variances, self.means, strict=True)
        return torch.tensor([[w, v, *m] for w, v, m in rows], dtype=torch.float32)

    def mean(self) -> np.ndarray:
        """(D,): the mean of the images."""
        found: np.ndarray = np.array(self.weights) @ np.array(self.means)
        return found


@cache
def mixture(prompt: str, components: int, size: int) -> Mixture:
    """A prompt's images: components of variance 0.05 to 0.25, means of unit size, drawn from the prompt's words.

    The empty prompt is wider: means half as far from zero, variances 0.6 to 0.8.
    """
    rng = np.random.default_rng(noise.stream(prompt, 0, "mixture"))
    weights, wide = rng.uniform(1, 2, components), prompt == ""
    means = rng.standard_normal((components, size)) * (0.5 if wide else 1.0)
    variances = rng.uniform(0.05, 0.25, components) + (0.55 if wide else 0.0)
    return Mixture(
        tuple((weights / weights.sum()).tolist()), tuple(map(tuple, means.tolist())), tuple(variances.tolist())
    )


def alpha_sigma(t: float) -> tuple[float, float]:
    """alpha and sigma at timestep t, interpolated in log abar between whole timesteps."""
    abar = float(np.exp(np.interp(t, np.arange(1000), np.log(ALPHAS_CUMPROD))))
    return abar**0.5, (1 - abar) ** 0.5


def exact_noise(x: torch.Tensor, t: float, tokens: torch.Tensor) -> torch.Tensor:
    """e(x, t) in float64: x (B, C, h, w), tokens (B, K, 2 + D)."""
    alpha, sigma = alpha_sigma(float(t))
    flat, tokens = x.double().flatten(1), tokens.double()
    log_weights, variances, means = tokens[..., 0], tokens[..., 1], tokens[..., 2:]
    total = alpha**2 * variances + sigma**2
    off = flat[:, None] - alpha * means
    of_k = torch.softmax(log_weights - 0.5 * flat.shape[1] * total.log() - off.square().sum(-1) / (2 * total), -1)
    return (sigma * (of_k / total)[..., None] * off).sum(1).view(x.shape)


class Exact(nn.Module):
    """The denoiser: `exact_noise`, or the velocity alpha e - sigma x_0 = (e - sigma x) / alpha."""

    def __init__(self, prediction: str):
        super().__init__()
        self.prediction = prediction

    def forward(self, x: torch.Tensor, t: Any, tokens: torch.Tensor) -> torch.Tensor:
        eps = exact_noise(x, float(t), tokens)
        if self.prediction == VELOCITY:
            alpha, sigma = alpha_sigma(float(t))
            eps = (eps - sigma * x.double()) / alpha
        return eps.to(x.dtype)


class Paint(nn.Module):
    """The decoder, an affine map: RGB value c of an 8 x 8 patch is 1/2 + x[c mod C] / 20."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        channels = [c % latents.shape[1] for c in range(3)]
        return 0.5 + latents[:, channels].repeat_interleave(8, 2).repeat_interleave(8, 3) / 20


class Analytic(Family):
    """Epsilon or velocity over `components` Gaussians a prompt; `mixtures` are prompts' own in their place."""

    def __init__(
        self,
        entry: ModelEntry | None = None,
        device: str = "cpu",
        dtype: str = "fp32",
        *,
        prediction: str = EPSILON,
        components: int = 3,
        latent: tuple[int, int, int] = (1, 2, 2),
        mixtures: dict[str, Mixture] | None = None,
    ):
        super().__init__(entry or analytic_entry(latent), device, dtype)
        self.components, self.mixtures = components, mixtures or {}
        self.scheduler_config = {**SCHEDULER, "prediction_type": prediction}
        self.denoiser, self.vae = Exact(prediction), Paint()

    @property
    def latent_dtype(self) -> torch.dtype:
        return torch.float32

    def mixture(self, prompt: str) -> Mixture:
        size = int(np.prod(self.entry.latent))
        return self.mixtures.get(prompt) or mixture(prompt, self.components, size)

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        tokens = [self.mixture(p).tokens() for p in prompts]
        most = max([self.components, *(len(m.weights) for m in self.mixtures.values())])
        # Components that are not there have weight zero: prompts of a batch have equally many tokens.
        padded = [torch.cat([one, one[:1].repeat(most - len(one), 1)]) for one in tokens]
        for one, full in zip(tokens, padded, strict=True):
            full[len(one) :, 0] = -torch.inf
        return {"prompt_embeds": torch.stack(padded).to(self.device)}

    def encode_negative(self, prompt: str) -> Embeddings:
        return self.encode([prompt])

    def network(self, x: torch.Tensor, t: Any, embeds: Embeddings) -> torch.Tensor:
        found: torch.Tensor = self.denoiser(x, t, embeds["prompt_embeds"])
        return found

    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.vae.decode(latents)
        return found.float()

    def modules(self) -> dict[str, Any]:
        return {"denoiser": self.denoiser, "vae": self.vae}


def analytic_entry(latent: tuple[int, int, int] = (1, 2, 2)) -> ModelEntry:
    """Its row of a catalogue; `load` gives the family with its defaults."""
    return ModelEntry(
        name="analytic",
        adapter="analytic:Analytic",
        source="analytic",
        revision="1",
        steps=10,
        guidance=5.0,
        size=(8 * latent[1], 8 * latent[2]),
        latent=latent,
    )


def gaussian(mean: float = 0.5, variance: float = 0.25, *, size: int = 4) -> Mixture:
    """One isotropic Gaussian, for which every step is affine."""
    return Mixture((1.0,), ((mean,) * size,), (variance,))


Methods = Method | str | Sequence[Method | str]


def chain(methods: Methods, entry: ModelEntry | None = None) -> Chain:
    """Methods (or names of registered ones) as a chain for the model."""
    given = [methods] if isinstance(methods, Method | str) else methods
    built = [registry.get("methods", m)() if isinstance(m, str) else m for m in given]
    return Chain(links=tuple(m.for_model(entry or analytic_entry()) for m in built))


def session(
    methods: Methods = (),
    sampler: str = "ddim",
    steps: int = 10,
    guidance: float = 5.0,
    prompts: Sequence[str | Prompt] = PROMPTS,
    seeds: Sequence[int] | None = None,
    *,
    family: Family | None = None,
    negative: str = "",
    **more: Any,
) -> Session:
    """One batch, an image a prompt with seeds 0, 1, ..., planned and refused as a suite would be.

    `more` goes to `Session`: scorers, memory, and so on.
    """
    family = family or Analytic()
    links = chain(methods, family.entry)
    texts = [p if isinstance(p, Prompt) else Prompt(i, p, "") for i, p in enumerate(prompts)]
    p = Sampling(sampler, steps, float(guidance), family.entry.size)
    check_chain(links.links, [type(m).__name__ for m in links.links], p)
    p = links.sampling(p)
    check_needs(links, family.entry, registry.get("samplers", p.sampler))
    for text in texts:
        links.check(text)
    seeds = [links.seed(s) for s in (range(len(texts)) if seeds is None else seeds)]
    cond = family.encode([t.text for t in texts])
    against = family.encode_negative(negative)
    items = [Item(t, s) for t, s in zip(texts, seeds, strict=True)]
    meter = Meter(family.modules(), family.device)
    meter.begin(len(items))
    uncond = {k: against[k].expand_as(v) for k, v in cond.items()}
    return Session(family, items, p, cond=cond, uncond=uncond, meter=meter, method=links, **more)


@dataclass(frozen=True)
class Made:
    """What `make` made: initial latents as drawn and as the methods left them, final latents, pixels in [0, 1]."""

    drawn: torch.Tensor
    noise: torch.Tensor
    latents: torch.Tensor
    pixels: torch.Tensor


def make(s: Session) -> Made:
    """A session's images through all stages, each counted as its own, as a run makes them."""
    with torch.no_grad():
        drawn = s.draw()
        with s.meter.stage("prepare"):
            s.method.prepare(s)
        with s.meter.stage("noise"), s.meter.foreign():
            x = s.method.noise(s, drawn)
        x = x.detach()
        with s.meter.stage("sampling"):
            latents = s.sample(x)
        with s.meter.stage("decode"):
            pixels = s.decode(latents)
    return Made(drawn, x, latents, pixels)


def priced(s: Session) -> Nfe:
    """What a plan says that an image of the session costs."""
    found: Nfe = s.method.nfe(s.sampling, registry.get("samplers", s.sampling.sampler).calls(s.sampling.steps))
    return found


def paid(s: Session, i: int = 0) -> Nfe:
    """What image i of a made session did cost."""
    return s.cost.nfe(i)
