"""What adapters share: a diffusers pipeline of two text encoders, a guided denoiser network and an AutoencoderKL."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import UserError
from bench.models.base import Denoiser, Embeddings, Model, ModelEntry, check_folder, quiet_hub_libraries

if TYPE_CHECKING:
    import torch

_ENCODERS = ("text_encoder", "text_encoder_2")
_NEEDED = (*_ENCODERS, "tokenizer", "tokenizer_2", "vae", "scheduler")


class PipelineModel(Model):
    """Every prediction goes through the pipeline's own networks and loop.

    A subclass says which pipeline it is for, encodes prompts, and calls the denoiser network. Its embeddings carry the
    names of the pipeline's arguments; those that guidance steers away from go in under `negative_` and the same name.
    """

    family: ClassVar[str]
    """The pipeline's class in diffusers."""
    network: ClassVar[str]
    """The pipeline's name for its denoiser network."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Further arguments of the pipeline's call."""

    def __init__(self, entry: ModelEntry, device: str):
        import diffusers
        import torch

        quiet_hub_libraries()
        self.entry, self.device = entry, device
        if entry.folder is not None:
            check_folder(entry.folder)
        dtype = torch.float32 if device == "cpu" else torch.float16
        try:
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                entry.source, revision=entry.revision, dtype=dtype, local_files_only=entry.folder is not None
            )
            if not isinstance(pipeline, getattr(diffusers, self.family)):
                raise ValueError(f"it is a {type(pipeline).__name__}; expected a {self.family}")
            missing = [name for name in (*_NEEDED, self.network) if getattr(pipeline, name, None) is None]
            if missing:
                raise ValueError(f"it has no {', '.join(missing)}")
            self.pipeline = pipeline.to(device)
        except Exception as error:
            # diffusers raises whatever its parsers raise; the user needs the place and the first line of the reason.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"model {entry.name!r} does not load from {entry.source}: {reason}") from error
        self.pipeline.set_progress_bar_config(disable=True)
        if self.pipeline.vae.config.force_upcast:
            # SDXL's published VAE overflows in fp16, and its config says so.
            self.pipeline.vae.to(torch.float32)
        for module in (getattr(self.pipeline, self.network), self.pipeline.vae):
            module.eval().requires_grad_(False)

    @abstractmethod
    def output(self, x: torch.Tensor, t: float, embeds: Embeddings) -> torch.Tensor:
        """What the network says of latents x (B, C, h, w) at timestep t: noise or velocity, as it was trained."""

    def denoiser(self, scheduler: Any, steps: int, guidance: float, cond: Embeddings, uncond: Embeddings) -> Denoiser:
        import torch

        def epsilon(x: torch.Tensor, t: float, embeds: Embeddings) -> torch.Tensor:
            # Methods work on unit-scale latents, so the scheduler's `scale_model_input` has no place here.
            y = self.output(x, t, embeds).float()
            if scheduler.config.prediction_type == "v_prediction":
                return d.alpha(t) * y + d.sigma(t) * x
            return y

        both = {k: torch.cat([uncond[k], cond[k]]) for k in cond}

        def predict_both(x: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
            u, c = epsilon(torch.cat([x, x]), t, both).chunk(2)
            return u, c

        scheduler.set_timesteps(steps)
        d = Denoiser(
            timesteps=list(dict.fromkeys(scheduler.timesteps.tolist())),
            guidance=guidance,
            alphas_cumprod=scheduler.alphas_cumprod.tolist(),
            predict_both=predict_both,
            predict_one=lambda x, t: epsilon(x, t, cond),
            cond=cond,
        )
        return d

    def sample(
        self,
        latents: torch.Tensor,
        scheduler: Any,
        *,
        steps: int,
        guidance: float,
        cond: Embeddings,
        uncond: Embeddings,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        expected = (len(generators), *self.entry.latent)
        if tuple(latents.shape) != expected:
            raise ValueError(f"latents of shape {tuple(latents.shape)}; {self.entry.name} expects {expected}")
        self.pipeline.scheduler = scheduler
        height, width = self.entry.size
        out: torch.Tensor = self.pipeline(
            **cond,
            **{f"negative_{name}": value for name, value in uncond.items()},
            latents=latents.to(cond["prompt_embeds"].dtype),
            generator=generators,
            num_inference_steps=steps,
            guidance_scale=guidance,
            height=height,
            width=width,
            output_type="latent",
            return_dict=False,
            **self.settings,
        )[0]
        return out

    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self.pipeline.vae
        latents = latents.to(vae.dtype)
        images: torch.Tensor = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def modules(self) -> dict[str, Any]:
        p = self.pipeline
        return {"denoiser": getattr(p, self.network), **{name: getattr(p, name) for name in _ENCODERS}, "vae": p.vae}
