"""The SDXL family: `StableDiffusionXLPipeline`, from the hub or from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.models.base import Denoiser, Embeddings, Model, ModelEntry, check_folder, quiet_hub_libraries
from bench.registry import add_plugin

if TYPE_CHECKING:
    import torch

add_plugin(
    "models",
    "sdxl",
    ModelEntry(
        name="sdxl",
        adapter="bench.models.sdxl:SDXL",
        source="stabilityai/stable-diffusion-xl-base-1.0",
        revision="462165984030d82259a11f4367a4eed129e94a7b",
        steps=50,
        guidance=5.5,
        size=(1024, 1024),
        latent=(4, 128, 128),
        # anon:T5: 11.69 s for 50 DDIM steps.
        call_ms=234.0,
        call_ms_on="one RTX 4090 (the paper, table 5 of its first version)",
    ),
    "bench",
)
add_plugin(
    "models",
    "dreamshaper",
    ModelEntry(
        name="dreamshaper",
        adapter="bench.models.sdxl:SDXL",
        source="Lykon/dreamshaper-xl-v2-turbo",
        revision="2d67e21854b3d1fae8df93e57debd16eeff3d0a5",
        # The paper's; the model's own advice is 4 to 8 steps at guidance 2.
        steps=50,
        guidance=3.5,
        size=(1024, 1024),
        latent=(4, 128, 128),
    ),
    "bench",
)

_NAMES = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")


class SDXL(Model):
    """Adapter; every prediction goes through the pipeline's own UNet, text encoders, VAE and loop."""

    def __init__(self, entry: ModelEntry, device: str):
        import torch
        from diffusers import DiffusionPipeline

        quiet_hub_libraries()
        self.entry, self.device = entry, device
        if entry.folder is not None:
            check_folder(entry.folder)
        dtype = torch.float32 if device == "cpu" else torch.float16
        try:
            self.pipeline = DiffusionPipeline.from_pretrained(
                entry.source, revision=entry.revision, dtype=dtype, local_files_only=entry.folder is not None
            ).to(device)
        except Exception as error:
            # diffusers raises whatever its parsers raise; the user needs the place and the first line of the reason.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"model {entry.name!r} does not load from {entry.source}: {reason}") from error
        self.pipeline.set_progress_bar_config(disable=True)
        if self.pipeline.vae.config.force_upcast:
            # SDXL's published VAE overflows in fp16, and its config says so.
            self.pipeline.vae.to(torch.float32)
        for module in (self.pipeline.unet, self.pipeline.vae):
            module.eval().requires_grad_(False)

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=False
        )
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def encode_negative(self, prompt: str) -> Embeddings:
        # None, not "": SDXL's config asks for zeros where no negative prompt is given.
        _, embeds, _, pooled = self.pipeline.encode_prompt(
            "", device=self.device, do_classifier_free_guidance=True, negative_prompt=prompt or None
        )
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def _time_ids(self, n: int, dtype: torch.dtype) -> torch.Tensor:
        import torch

        height, width = self.entry.size
        ids = [height, width, 0, 0, height, width]
        return torch.tensor([ids] * n, dtype=dtype, device=self.device)

    def denoiser(self, scheduler: Any, steps: int, guidance: float, cond: Embeddings, uncond: Embeddings) -> Denoiser:
        import torch

        unet = self.pipeline.unet

        def epsilon(x: torch.Tensor, t: float, embeds: Embeddings) -> torch.Tensor:
            # Methods work on unit-scale latents, so the scheduler's `scale_model_input` has no place here.
            y: torch.Tensor = unet(
                x.to(unet.dtype),
                torch.as_tensor(t, device=x.device),
                encoder_hidden_states=embeds["prompt_embeds"],
                added_cond_kwargs={
                    "text_embeds": embeds["pooled_prompt_embeds"],
                    "time_ids": self._time_ids(len(x), embeds["prompt_embeds"].dtype),
                },
                return_dict=False,
            )[0].float()
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
        embeds = (
            cond["prompt_embeds"],
            uncond["prompt_embeds"],
            cond["pooled_prompt_embeds"],
            uncond["pooled_prompt_embeds"],
        )
        out: torch.Tensor = self.pipeline(
            **dict(zip(_NAMES, embeds, strict=True)),
            latents=latents.to(embeds[0].dtype),
            generator=generators,
            num_inference_steps=steps,
            guidance_scale=guidance,
            height=height,
            width=width,
            output_type="latent",
            return_dict=False,
        )[0]
        return out

    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self.pipeline.vae
        latents = latents.to(vae.dtype)
        images: torch.Tensor = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def modules(self) -> dict[str, Any]:
        p = self.pipeline
        return {"denoiser": p.unet, "text_encoder": p.text_encoder, "text_encoder_2": p.text_encoder_2, "vae": p.vae}
