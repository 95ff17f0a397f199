"""What families share: a diffusers pipeline of text encoders, a guided denoiser network and an AutoencoderKL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import UserError, first_line
from bench.models import loading
from bench.models.base import (
    TORCH_DTYPES,
    ControlledFamily,
    Embeddings,
    Family,
    ModelEntry,
    check_folder,
    quiet_hub_libraries,
)
from bench.models.controlled import Residuals
from bench.models.controlled import load as load_controlnet
from bench.models.parking import Parking, parked
from bench.models.shapes_of import check_parts
from bench.models.worn import Wardrobe

if TYPE_CHECKING:
    import torch

    from bench.sampling.records import Weights


class PipelineFamily(Family):
    """Every prediction goes through the pipeline's own networks.

    A subclass says which pipeline it is for, encodes prompts, and calls the denoiser network. Its embeddings carry the
    names of the pipeline's arguments; those that guidance steers away from go in under `negative_` and the same name.
    """

    pipeline_class: ClassVar[str]
    """The pipeline's class in diffusers."""
    network_name: ClassVar[str]
    """The pipeline's name for its denoiser network."""
    encoders: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2")
    needed: ClassVar[tuple[str, ...]] = ("tokenizer", "tokenizer_2", "vae", "scheduler")

    def __init__(self, entry: ModelEntry, device: str, dtype: str):
        import diffusers
        import torch

        super().__init__(entry, device, dtype)
        quiet_hub_libraries()
        if entry.folder is not None:
            check_folder(entry.folder)
        try:
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                entry.source,
                revision=entry.revision,
                variant=entry.loading.variant,
                dtype=getattr(torch, TORCH_DTYPES[dtype]),
                local_files_only=entry.folder is not None,
            )
            if not isinstance(pipeline, getattr(diffusers, self.pipeline_class)):
                raise ValueError(f"it is a {type(pipeline).__name__}; expected a {self.pipeline_class}")
            missing = [n for n in (*self.encoders, *self.needed, self.network_name) if not getattr(pipeline, n, None)]
            if missing:
                raise ValueError(f"it has no {', '.join(missing)}")
            self.pipeline = loading.place(pipeline, entry, device)
        except (torch.OutOfMemoryError, UserError):
            raise
        except Exception as error:
            # diffusers raises whatever its parsers raise; the user needs the place and the first line of the reason.
            reason = first_line(error)
            raise UserError(f"model {entry.name!r} does not load from {entry.source}: {reason}") from error
        self.pipeline.set_progress_bar_config(disable=True)
        self.scheduler_config = self.pipeline.scheduler.config
        if self.pipeline.vae.config.force_upcast:
            # SDXL's published VAE overflows in fp16, and its config says so.
            self.pipeline.vae.to(torch.float32)
        for module in (self._own, self.pipeline.vae):
            module.eval().requires_grad_(False)
        check_parts(entry, self._own.config, self.pipeline.vae.config, self.scheduler_config)
        encoders = {name: getattr(self.pipeline, name) for name in self.encoders}
        leaves = entry.loading.text_encoders == "leave" and entry.loading.offload == "none"
        self._parking = parked(encoders, device, leaves=leaves)
        self._wardrobe = Wardrobe(entry.loading.prepared(self._own))

    @property
    def _own(self) -> Any:
        return getattr(self.pipeline, self.network_name)

    @property
    def latent_dtype(self) -> torch.dtype:
        # Of the first parameter: diffusers' own `dtype` walks every module, 4 % of a step of the embedded world.
        found: torch.dtype = next(self._own.parameters()).dtype
        return found

    @property
    def tokenizer(self) -> Any:
        return self.pipeline.tokenizer

    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        import torch

        vae = self.pipeline.vae
        latents = latents.to(vae.dtype)
        mean, std = (getattr(vae.config, f"latents_{n}", None) for n in ("mean", "std"))
        if mean is not None and std is not None:
            mean, std = (torch.tensor(v).view(1, -1, 1, 1).to(latents.device, latents.dtype) for v in (mean, std))
            latents = latents * std / vae.config.scaling_factor + mean
        else:
            latents = latents / vae.config.scaling_factor
            shift = getattr(vae.config, "shift_factor", None)
            latents = latents if shift is None else latents + shift
        images: torch.Tensor = vae.decode(latents, return_dict=False)[0]
        return (images.float() / 2 + 0.5).clamp(0, 1)

    @property
    def parking(self) -> Parking | None:
        return self._parking

    def modules(self) -> dict[str, Any]:
        p = self.pipeline
        return {"denoiser": self._own, **{name: getattr(p, name) for name in self.encoders}, "vae": p.vae}

    def wear(self, weights: Sequence[Weights]) -> None:
        setattr(self.pipeline, self.network_name, self._wardrobe.network(self, weights))


class UNetFamily(PipelineFamily, ControlledFamily):
    """Families whose denoiser is a UNet with cross-attention to the prompt's tokens."""

    network_name = "unet"
    reads_attention = True

    def __init__(self, entry: ModelEntry, device: str, dtype: str):
        super().__init__(entry, device, dtype)
        self._beside: dict[str, Any] = {}
        """ControlNets by digest; they stay on the device as long as the model."""

    def added(self, n: int, embeds: Mapping[str, Any]) -> dict[str, Any]:
        """What the UNet and a ControlNet read of n rows besides the prompt's tokens."""
        return {}

    def network(self, x: torch.Tensor, t: Any, embeds: Embeddings) -> torch.Tensor:
        return self.call(x, t, embeds)

    def control(self, weights: Weights) -> Any:
        """The ControlNet of these weights; UserError where it does not load or fit."""
        if weights.digest not in self._beside:
            self._beside[weights.digest] = load_controlnet(self, weights)
        return self._beside[weights.digest]

    def residuals(
        self, weights: Weights, x: torch.Tensor, t: Any, embeds: Embeddings, images: torch.Tensor, scale: float
    ) -> Residuals:
        import torch

        network = self.control(weights)
        down, mid = network(
            x.to(network.dtype),
            t if isinstance(t, torch.Tensor) else torch.as_tensor(t, device=x.device),
            encoder_hidden_states=embeds["prompt_embeds"],
            controlnet_cond=images.to(x.device, network.dtype),
            conditioning_scale=scale,
            return_dict=False,
            **self.added(len(x), embeds),
        )
        return Residuals(tuple(down), mid)

    def controlled(self, x: torch.Tensor, t: Any, embeds: Embeddings, residuals: Residuals) -> torch.Tensor:
        return self.call(
            x,
            t,
            embeds,
            down_block_additional_residuals=residuals.down,
            mid_block_additional_residual=residuals.mid,
        )

    def attention(self, where: str) -> list[tuple[int, Any]] | None:
        height, width = self.entry.latent[1:]
        if height != width:
            return None
        unet, found = self._own, []
        depth = len(unet.down_blocks)
        places = [*((k, b) for k, b in enumerate(unet.down_blocks)), (depth - 1, unet.mid_block)]
        places += [(depth - 1 - k, b) for k, b in enumerate(unet.up_blocks)]
        for level, block in places:
            for transformer in getattr(block, "attentions", None) or []:
                for layer in getattr(transformer, "transformer_blocks", []):
                    module = layer.attn2 if where == "cross" else layer.attn1
                    if module is not None:
                        found.append((height >> level, module))
        return found

    def timestep_cond(self, n: int, guidance: float) -> torch.Tensor | None:
        """The embedding of guidance for networks that read it (LCM's); None for all others."""
        import torch

        width = getattr(self._own.config, "time_cond_proj_dim", None)
        if width is None:
            return None
        scale = torch.tensor(guidance - 1).repeat(n)
        found: torch.Tensor = self.pipeline.get_guidance_scale_embedding(scale, embedding_dim=width)
        return found.to(self.device, self.latent_dtype)

    def call(self, x: torch.Tensor, t: Any, embeds: Mapping[str, Any], **more: Any) -> torch.Tensor:
        """The UNet's output for the pipeline's embeddings; `more` are its further arguments."""
        import torch

        unet = self._own
        t = t if isinstance(t, torch.Tensor) else torch.as_tensor(t, device=x.device)
        y: torch.Tensor = unet(
            x.to(self.latent_dtype),
            t,
            encoder_hidden_states=embeds["prompt_embeds"],
            return_dict=False,
            **self.added(len(x), embeds),
            **more,
        )[0]
        return y


__all__ = ["Embeddings", "PipelineFamily", "UNetFamily"]
