"""NPNet: source noise and prompt embeddings in, golden noise out (paper section 3.2; PROTOCOL 1.6).

    e       = AdaGroupNorm(x_T, prompt)                                text
    golden  = SVD(x_T) + alpha' e + beta residual(x_T + e)             alpha' = 2 sigmoid(alpha) - 1 as published

Parts that are off: without text there is no e and the residual branch reads x_T; without SVD, x_T takes its place;
without the residual branch its term is missing. With text by cross-attention there is no e either: the residual
branch reads x_T and the prompt's tokens.

Accidents of the released inference code (commit aa7103e), kept under `layout="published"` and absent under "clean":

1. timm's NHWC features (B, 7, 7, 768) are read as NCHW: seven rows as channels, a 7 x 768 plane as the image.
2. All resizes, to 224 x 224 and back, are nearest; the clean Swin resizes bilinearly, the small backbone not at all.
3. alpha enters as 2 sigmoid(alpha) - 1, about alpha / 2, where the paper has alpha.
4. Rows of Vh are added to rows of U^T where the paper has V. Only so do the vectors of one rank meet, so the clean
   layout keeps the rows, gives them a defined sign and a scale, and says so in `blocks.SingularValues`.
5. A BatchNorm2d that nothing calls, and the backbone's 1000-class head, sit in the state dict.
6. Without attention (as the released training solver has it) the last MLP comes before the mean over rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import UserError
from npnet.network.architecture import NPNetConfig
from npnet.network.blocks import (
    CleanSwin,
    Factors,
    Modulation,
    PublishedSingularValues,
    PublishedSwin,
    SingularValues,
    SmallBackbone,
    decompose,
    zero,
)

__all__ = ["Factors", "NPNet", "decompose"]


class NPNet(nn.Module):
    """The noise prompt network of a configuration; untrained, it returns x_T, as alpha = beta = 0.

    It computes in fp32 on its own device, whatever it is given, and answers in the latents' dtype on their device.
    """

    def __init__(self, config: NPNetConfig) -> None:
        super().__init__()
        self.config = config
        self.provenance: dict[str, Any] = {}
        """Where the weights come from, as read from a checkpoint; written again by `save_pretrained`."""
        published = config.layout == "published"
        self.text: Modulation | None = None
        self.svd: nn.Module | None = None
        self.residual: nn.Module | None = None
        self.alpha: nn.Parameter | None = None
        self.beta: nn.Parameter | None = None
        if config.text == "modulation" and config.prompt is not None:
            self.text = Modulation(config.prompt, config.latent[0])
            self.alpha = nn.Parameter(torch.zeros(1))
            if not published:
                zero(self.text.linear)
        if config.svd:
            branch = PublishedSingularValues if published else SingularValues
            self.svd = branch(config.latent, attention=config.attention)
        if config.residual:
            self.residual = _backbone(config)
            self.beta = nn.Parameter(torch.zeros(1))

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        config: NPNetConfig | None = None,
        attention: bool | None = None,
        prompt: tuple[int, int] | None = None,
        trainable: bool = False,
    ) -> NPNet:
        """The network of a published `.pth`, a safetensors file, or a folder that holds one, on the CPU.

        It is in eval mode and its parameters need no gradient, so a call builds no graph and keeps nothing, while a
        gradient with respect to the latents stays possible; `trainable=True` gives training mode and gradients.
        `config`, `attention` and `prompt` are as in `npnet.network.checkpoint.load`. Raises UserError where the file is
        broken, would execute code, or does not fit.
        """
        from npnet.network import checkpoint

        network = checkpoint.load(path, config=config, attention=attention, prompt=prompt)
        return network.train(trainable).requires_grad_(trainable)

    def save_pretrained(self, path: str | Path, *, provenance: Mapping[str, Any] | None = None) -> Path:
        """Write `path` (a `.safetensors` file, or a folder, made if needed, that gets `npnet.safetensors`).

        Atomic. `provenance` (JSON) replaces what the network brought from its own checkpoint. Returns the file.
        """
        from npnet.network import checkpoint

        return checkpoint.save(self, path, provenance=provenance)

    def forward(self, latents: Tensor, prompt_embeds: Tensor | None = None, *, svd: Factors | None = None) -> Tensor:
        """latents (B, C, h, w), prompt_embeds (B or 1, T, W) -> golden noise (B, C, h, w).

        `svd` gives the latents' `decompose`d factors where they are known already. prompt_embeds are not looked at
        where text is off. Raises UserError on shapes that do not fit the configuration and on values not finite.
        """
        return self._branches(latents, prompt_embeds, svd)["golden"].to(latents)

    def branches(
        self, latents: Tensor, prompt_embeds: Tensor | None = None, *, svd: Factors | None = None
    ) -> dict[str, Tensor]:
        """`golden`, and of `text` (e), `svd` and `residual` (before alpha and beta) those that are on; (B, C, h, w)."""
        return {name: value.to(latents) for name, value in self._branches(latents, prompt_embeds, svd).items()}

    def _branches(self, latents: Tensor, prompt_embeds: Tensor | None, svd: Factors | None) -> dict[str, Tensor]:
        x, prompt, svd = self._checked(latents, prompt_embeds, svd)
        parts: dict[str, Tensor] = {}
        golden = x
        if self.svd is not None:
            golden = parts["svd"] = self.svd(x, svd)
        if self.text is not None and self.alpha is not None:
            parts["text"] = self.text(x, prompt)
            golden = golden + self._alpha_factor(self.alpha) * parts["text"]
        if self.residual is not None and self.beta is not None:
            parts["residual"] = self.residual(x + parts["text"] if "text" in parts else x, prompt)
            golden = golden + self.beta * parts["residual"]
        return {**parts, "golden": golden}

    def _alpha_factor(self, alpha: Tensor) -> Tensor:
        return 2 * torch.sigmoid(alpha) - 1 if self.config.layout == "published" else alpha

    def _checked(
        self, latents: Tensor, prompt_embeds: Tensor | None, svd: Factors | None
    ) -> tuple[Tensor, Tensor | None, Factors | None]:
        """The inputs in fp32 on the network's device, prompts repeated for the batch; or a UserError."""
        config = self.config
        device = latents.device
        for parameter in self.parameters():
            device = parameter.device
            if parameter.dtype != torch.float32:
                raise UserError(f"this NPNet's weights are {parameter.dtype}; it computes in float32: call .float()")
            break
        if latents.shape[1:] != config.latent or not latents.is_floating_point():
            raise UserError(
                f"latents {tuple(latents.shape)} ({latents.dtype}) do not fit this NPNet, which takes floating-point "
                f"(B, {', '.join(map(str, config.latent))}); use that image size, or a network trained for this one"
            )
        prompt = None
        if config.text != "none" and config.prompt is not None:
            expected = f"expected (B, {config.prompt[0]}, {config.prompt[1]}) with B 1 or {len(latents)}"
            if prompt_embeds is None:
                raise UserError(
                    f"this NPNet reads text ({config.text}) and got no prompt_embeds; {expected}: "
                    "pass what the pipeline's encode_prompt returns first"
                )
            if prompt_embeds.shape[1:] != config.prompt or len(prompt_embeds) not in (1, len(latents)):
                raise UserError(
                    f"prompt_embeds {tuple(prompt_embeds.shape)} do not fit this NPNet; {expected}: encode with the "
                    "model it was trained for, one prompt a latent or one for all"
                )
            prompt = prompt_embeds.to(device, torch.float32).expand(len(latents), -1, -1)
        x = latents.to(device, torch.float32)
        if not self.training:
            for name, value in (("latents", x), ("prompt_embeds", prompt)):
                if value is not None and not torch.isfinite(value).all():
                    raise UserError(f"{name} hold NaN or infinity; expected finite numbers: look at what made them")
        if svd is not None and self.svd is not None:
            u, s, vh = (factor.to(device, torch.float32) for factor in svd)
            if len(u) != len(x) or u.shape[2] != s.shape[1] or s.shape[1] != vh.shape[1]:
                raise UserError(
                    f"svd of shapes {[tuple(f.shape) for f in svd]} does not belong to latents {tuple(x.shape)}; "
                    "pass what npnet.network.model.decompose(latents) returns"
                )
            svd = (u, s, vh)
        return x, prompt, svd


def _backbone(config: NPNetConfig) -> nn.Module:
    if config.layout == "published":
        return PublishedSwin(config.latent)
    if config.backbone == "swin_tiny_patch4_window7_224":
        return CleanSwin(config.latent)
    width = config.prompt[1] if config.text == "cross_attention" and config.prompt is not None else None
    return SmallBackbone(
        config.latent, width=config.width, depth=config.depth, heads=config.heads, patch=config.patch, prompt=width
    )
