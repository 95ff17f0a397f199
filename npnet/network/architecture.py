"""What an NPNet is made of, as plain data without torch. Its defaults decide latents: the digest of `npnet` has it."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.errors import UserError


class NPNetConfig(BaseModel):
    """What an NPNet is made of; frozen, and JSON both ways (`model_dump_json`, `model_validate_json`).

    The published layout is the released inference code (commit aa7103e) with its accidents; the clean layout has
    none of them. Raises UserError where a combination cannot be built.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    latent: tuple[int, int, int] = (4, 128, 128)
    """Channels, height and width of a latent."""
    prompt: tuple[int, int] | None = (77, 2048)
    """Tokens and width of the prompt embeddings; None where no text is read."""
    backbone: Literal["swin_tiny_patch4_window7_224", "small"] = "swin_tiny_patch4_window7_224"
    """Network of the residual branch: timm's Swin-T as published, or a small one in plain torch."""
    text: Literal["none", "modulation", "cross_attention"] = "modulation"
    """None; AdaGroupNorm as published (2 C numbers a prompt); or prompt tokens attended to by latent patches."""
    svd: bool = Field(default=True, strict=True)
    """Singular-value branch; without it x_T takes its place."""
    attention: bool = Field(default=True, strict=True)
    """Self-attention inside the singular-value branch."""
    residual: bool = Field(default=True, strict=True)
    """Residual branch."""
    layout: Literal["published", "clean"] = "published"
    width: int = Field(default=96, gt=0, strict=True)
    """Channels of the small backbone."""
    depth: int = Field(default=4, gt=0, strict=True)
    """Blocks of the small backbone."""
    heads: int = Field(default=4, gt=0, strict=True)
    """Attention heads of the small backbone."""
    patch: int = Field(default=1, gt=0, strict=True)
    """Side in latent pixels of one patch of the small backbone."""

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        problem = self._problem()
        if problem:
            raise UserError(f"this NPNet cannot be built: {problem}")
        return self

    def _problem(self) -> str:
        """What stands against this combination, and what to do; empty if nothing does."""
        channels, h, w = self.latent
        small = self.residual and self.backbone == "small"
        if min(self.latent) < 1 or (self.prompt and min(self.prompt) < 1):
            return f"latent {self.latent} and prompt {self.prompt} need positive sizes"
        if self.text != "none" and self.prompt is None:
            return f"text={self.text!r} needs prompt=(tokens, width); give it, or set text='none'"
        if self.text == "cross_attention" and not small:
            return "text='cross_attention' lives in the residual branch's small backbone; set residual=True, " + (
                f"backbone='small' (given {self.backbone!r}), or text='modulation'"
            )
        if self.layout == "published" and h != w:
            return (
                f"latent {self.latent} is not square, and the published layout adds U^T to Vh, which have the same "
                "shape only for square latents; use layout='clean', or square latents"
            )
        if self.layout == "published" and (channels != 4 or h % 4):
            return f"the published layout takes latents (4, n, n) with n divisible by 4, not {self.latent}; use 'clean'"
        if self.layout == "published" and small:
            return "the published layout has the backbone swin_tiny_patch4_window7_224; use layout='clean' for 'small'"
        if small and (h % self.patch or w % self.patch):
            return f"patch={self.patch} does not divide the latent's {h} x {w}"
        if small and self.width % self.heads:
            return f"heads={self.heads} does not divide width={self.width}"
        return ""

    @classmethod
    def sdxl(cls, **changes: Any) -> Self:
        """The released network for SDXL (PROTOCOL 1.6)."""
        return cls(**changes)

    @classmethod
    def dreamshaper(cls, **changes: Any) -> Self:
        """The released network for DreamShaper-xl-v2-turbo: SDXL's architecture."""
        return cls(**changes)

    @classmethod
    def dit(cls, **changes: Any) -> Self:
        """The released network for Hunyuan-DiT: prompt embeddings are 1024 wide."""
        return cls(**{"prompt": (77, 1024), **changes})

    @classmethod
    def small(
        cls, latent: tuple[int, int, int] = (4, 8, 8), prompt: tuple[int, int] | None = (24, 128), **changes: Any
    ) -> Self:
        """A clean network of at most 0.7 M parameters for latents of 8 x 8 or 16 x 16; needs no timm.

        `text="cross_attention"` gives the second configuration, whose text can place things.
        """
        made = {"latent": latent, "prompt": prompt, "backbone": "small", "layout": "clean", **changes}
        if prompt is None:
            made.setdefault("text", "none")
        return cls(**made)
