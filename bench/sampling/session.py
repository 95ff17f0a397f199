"""One batch of images in the making: the loop that every arm goes through, and all that a method may ask of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench import registry
from bench.models.base import Embeddings, Family, with_residuals
from bench.sampling import noise
from bench.sampling.attention import AttentionMaps, recording
from bench.sampling.loop import Loop
from bench.sampling.memory import Memory, same
from bench.sampling.meter import Cost, Meter
from bench.sampling.prediction import Next, Prediction, Step
from bench.sampling.records import Item, Sampling
from bench.sampling.schedule import Schedule, move

if TYPE_CHECKING:
    import torch

    from bench.models.controlled import Residuals

__all__ = ["Memory", "Next", "Prediction", "Session", "Step"]


@dataclass
class _Shared:
    """What a session and its parts have in common."""

    facts: list[dict[str, Any]]
    failed: dict[int, str] = field(default_factory=dict)
    streams: dict[int, torch.Generator] = field(default_factory=dict)
    """Streams of fresh noise in use, by place in the whole batch."""


class Session:
    """B images of one model, sampling and method. Latents are canonical, unit-variance fp32 (B, C, h, w)."""

    def __init__(
        self,
        family: Family,
        items: Sequence[Item],
        sampling: Sampling,
        *,
        cond: Embeddings,
        uncond: Embeddings,
        meter: Meter | None = None,
        method: Any = None,
        scorers: Callable[[str], Any] | None = None,
        memory: Memory | None = None,
        schedule: Schedule | None = None,
    ):
        """`cond` and `uncond` have B rows. `method` has the hooks of the loop of `bench.methods.base.Method`."""
        self.family, self.items, self.sampling = family, items, sampling
        self.cond, self.uncond = cond, uncond
        self.meter = meter or Meter(family.modules(), family.device)
        if meter is None:
            self.meter.begin(len(items))
        self.method, self.memory, self._scorers = method, memory, scorers
        self.schedule = schedule or Schedule(
            registry.get("samplers", sampling.sampler), family.scheduler_config, sampling, device=family.device
        )
        self.places: Sequence[int] = range(len(items))
        """Places of these images in the whole batch."""
        self._shared = _Shared([{} for _ in items])
        self._own: dict[int, tuple[Any, dict[Any, Any]]] = {}

    # What a session knows -------------------------------------------------------------------------------------------

    @property
    def prompts(self) -> list[str]:
        return [item.prompt.text for item in self.items]

    @property
    def seeds(self) -> list[int]:
        return [item.seed for item in self.items]

    @property
    def guidance(self) -> float:
        """The guidance that the loop applies."""
        return self.sampling.scale

    @property
    def timesteps(self) -> Sequence[float]:
        """Timesteps of the sampler's whole steps, falling."""
        return self.schedule.timesteps

    @property
    def cost(self) -> Cost:
        return self.meter.cost

    @property
    def facts(self) -> list[dict[str, Any]]:
        """What methods noted of each image of the whole batch."""
        return self._shared.facts

    @property
    def failed(self) -> dict[int, str]:
        """Reasons by place in the whole batch."""
        return self._shared.failed

    def note(self, i: int, name: str, value: Any) -> None:
        """Keep a fact of image i, such as whether a search converged; reports show it."""
        self._shared.facts[self.places[i]][name] = value

    def fail(self, i: int, reason: str) -> None:
        """Give image i up for a reason of one line; the others of the batch continue."""
        self._shared.failed.setdefault(self.places[i], reason)

    def own(self, method: Any) -> dict[Any, Any]:
        """What a method keeps of these images from one call of a hook to the next; it ends with the session.

        Each link of a chain has its own, even where two are equal. A part (`take`) begins with nothing, so that a loop
        within a step keeps apart from the one around it.
        """
        # The method is kept too, so that no other one gets its id.
        return self._own.setdefault(id(method), (method, {}))[1]

    def take(self, rows: Sequence[int]) -> Session:
        """A session of these images alone; what it does counts for them only."""
        import torch

        part = object.__new__(Session)
        part.__dict__.update(self.__dict__)
        index = torch.tensor(list(rows), dtype=torch.long)

        def some(embeds: Embeddings) -> Embeddings:
            return {k: v[index.to(v.device)] for k, v in embeds.items()}

        part.items = [self.items[i] for i in rows]
        part.cond, part.uncond = some(self.cond), some(self.uncond)
        part.places = [self.places[i] for i in rows]
        part.memory, part._own = None, {}
        return part

    # Noise ----------------------------------------------------------------------------------------------------------

    def draw(self, seeds: Sequence[int] | None = None) -> torch.Tensor:
        """Initial latents of the images' prompts, with other seeds where given: the recipe of `noise.draw`."""
        drawn = noise.draw_batch(self.prompts, list(seeds or self.seeds), self.family.entry.latent)
        return drawn.to(self.family.device)

    def randn(self, purpose: str, k: int = 0) -> torch.Tensor:
        """Gaussian noise (B, C, h, w) from each image's own stream of that purpose and number."""
        import torch

        own = [noise.generator(item.prompt.text, item.seed, f"{purpose}-{k}") for item in self.items]
        drawn = [torch.randn(self.family.entry.latent, generator=one) for one in own]
        return torch.stack(drawn).to(self.family.device)

    # The network ----------------------------------------------------------------------------------------------------

    def predict(self, x: torch.Tensor, t: float, guidance: float | None = None, *, both: bool = False) -> Prediction:
        """The network's prediction of canonical x at timestep t; `guidance` None is the loop's own.

        At guidance 1 the conditional half alone is computed, unless `both` asks for the unconditional one too.
        """
        g = self.guidance if guidance is None else guidance
        cond, uncond = self._outputs(x, t, both=both or g != 1.0)
        return Prediction(self.schedule, x, t, cond, uncond, g)

    def _outputs(
        self, x: torch.Tensor, t: Any, *, both: bool, call: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The network's conditional and unconditional outputs; x is what it reads, `call` the loop's, if it is one."""
        import torch

        if not both:
            return self._call(x, t, self.cond, call), None
        embeds = {k: torch.cat([self.uncond[k], self.cond[k]]) for k in self.cond}
        u, c = self._call(torch.cat([x] * 2), t, embeds, call).chunk(2)
        return c, u

    def _call(self, x: torch.Tensor, t: Any, embeds: Embeddings, call: int | None) -> torch.Tensor:
        import torch

        with self.meter.only(self.places):
            memory, residuals = self.memory, self._residuals(x, t, embeds, call)
            if memory is None or torch.is_grad_enabled():
                if memory is not None:
                    memory.calls += 1
                return self._network(x, t, embeds, residuals)
            inputs = {"x": x, "t": float(t), **embeds}
            if residuals is not None:
                inputs |= {f"residual {i}": one for i, one in enumerate((*residuals.down, residuals.mid))}
            if memory.inputs is not None and same(inputs, memory.inputs):
                memory.reused += 1
                return memory.output.clone()
            memory.calls += 1
            output = self._network(x, t, embeds, residuals)
            if memory.inputs is None:
                memory.inputs = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
                memory.output = output.clone()
            return output

    def _residuals(self, x: torch.Tensor, t: Any, embeds: Embeddings, call: int | None) -> Residuals | None:
        """What the methods add within the denoiser, at every prediction: the loop's and their own."""
        if self.method is None or not self.method.adds_residuals():
            return None
        if call is None:
            # The first call of the loop that is not above t: at the loop's own timesteps the call itself.
            entries = self.schedule.entries
            call = next((i for i, entry in enumerate(entries) if entry <= float(t)), len(entries) - 1)
        with self.meter.foreign():
            found: Residuals | None = self.method.residuals(self, x, t, embeds, call)
        return found

    def _network(self, x: torch.Tensor, t: Any, embeds: Embeddings, residuals: Residuals | None) -> torch.Tensor:
        if residuals is None:
            return self.family.network(x, t, embeds)
        return with_residuals(self.family).controlled(x, t, embeds, residuals)

    # The loop -------------------------------------------------------------------------------------------------------

    def sample(self, x: torch.Tensor, start: int = 0) -> torch.Tensor:
        """Final latents (B, C, h, w) from canonical x at place `start`: diffusers' own scheduler, step by step.

        Where no method changes a step it is the pipeline's own computation, bit for bit. Where gradients are on,
        they flow to x.
        """
        shape = (len(self.items), *self.family.entry.latent)
        if tuple(x.shape) != shape:
            raise ValueError(f"latents of shape {tuple(x.shape)}; {self.family.entry.name} expects {shape}")
        loop = Loop(self)
        stretch: Any = loop.scheduler.init_noise_sigma if start == 0 else self.schedule.stretch(start)
        latents = x.to(self.family.latent_dtype) * stretch
        first = start if start == 0 else loop.entry(self.schedule.timesteps[start])
        with self._fresh("renoise-sampling"):
            for i in range(first, len(loop.timesteps)):
                latents = loop.step(latents, i)
        return latents

    @contextmanager
    def _fresh(self, purpose: str) -> Iterator[None]:
        """Within, `renoise` draws from streams of that purpose, from their beginning: a pass repeats itself."""
        streams, before = self._shared.streams, dict(self._shared.streams)
        for place, item in zip(self.places, self.items, strict=True):
            streams[place] = noise.generator(item.prompt.text, item.seed, purpose)
        try:
            yield
        finally:
            self._shared.streams = before

    def move(self, x: torch.Tensor, i: int, j: int, eps: torch.Tensor) -> torch.Tensor:
        """DDIM's move of canonical x from place i to place j along a noise prediction, either way (2010.02502)."""
        of_x, of_e = move(*self.schedule.at(i), *self.schedule.at(j))
        return of_x * x + of_e * eps

    def renoise(self, x: torch.Tensor, i: int, j: int) -> torch.Tensor:
        """Canonical x at place i with fresh noise up to place j <= i: the forward process (2201.09865, eq. 2).

        x_j = sqrt(w) x_i + sqrt(1 - w) z with w = (alpha_j / alpha_i)^2; z is the next of the image's own stream, which
        begins again with every pass of the loop.
        """
        import torch

        w = (self.schedule.at(j)[0] / self.schedule.at(i)[0]) ** 2
        shape, streams = self.family.entry.latent, self._shared.streams
        for place, item in zip(self.places, self.items, strict=True):
            if place not in streams:
                streams[place] = noise.generator(item.prompt.text, item.seed, "renoise")
        z = torch.stack([torch.randn(shape, generator=streams[place]) for place in self.places]).to(x.device)
        return w**0.5 * x + (1.0 - w) ** 0.5 * z

    # Pixels, metrics, attention -------------------------------------------------------------------------------------

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Final latents to images (B, 3, H, W), fp32 in [0, 1]; where gradients are on, they flow to the latents."""
        with self.meter.only(self.places):
            return self.family.pixels(latents)

    def reward(self, metric: str, images: torch.Tensor) -> torch.Tensor:
        """(B,) values of images (B, 3, H, W) in [0, 1] by a metric, more being better; differentiable where it is."""
        import torch

        if self._scorers is None:
            raise ValueError("this session has no scorers")
        scorer: Any = self._scorers(metric)
        sign = float(registry.get("metrics", metric).sign)
        prompts = [item.prompt for item in self.items]
        with self.meter.only(self.places), self.meter.uncounted():
            self.meter.count("rewards")
            if torch.is_grad_enabled() and images.requires_grad:
                return sign * scorer.differentiable(images, prompts)
            pixels = list((images.detach() * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
            values = [v.value for v in scorer.score(pixels, prompts)]
        return sign * torch.tensor(values, dtype=torch.float32, device=images.device)

    @contextmanager
    def record(self, where: str = "cross", *, side: int = 16) -> Iterator[AttentionMaps]:
        """Keep the attention maps (`cross` or `self`) of the denoiser calls within, conditional half only.

        Those of the layers whose maps are `side` x `side`, or of the nearest size that the model has (`bench.models`).
        """
        with recording(self.family, where, side=side, batch=len(self.items)) as maps:
            yield maps
