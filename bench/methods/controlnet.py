"""ControlNet: a network beside the denoiser reads a control image (Zhang et al. 2023, 2302.05543).

e(x, t, prompt, image) is the denoiser with residuals added to its skip connections and to its middle,

    h_k <- h_k + scale r_k(x, t, prompt, image),

at every prediction: the loop's, in both halves of a guided call, and those of the other methods of a chain, so that
`[controlnet, inversion]` inverts what it samples. Scale and window are diffusers' `controlnet_conditioning_scale`,
`control_guidance_start` and `control_guidance_end`: of n calls, call i is controlled where start <= i / n and
(i + 1) / n <= end. Elsewhere the ControlNet is not asked, where diffusers multiplies its answer by zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, PrivateAttr, model_validator

from bench.errors import UserError
from bench.methods.base import Method
from bench.models.base import ControlledFamily, no_residuals, with_residuals
from bench.models.controlled import check_folders
from bench.needs.base import Lacking, Need
from bench.registry import register
from bench.sampling.records import CONTROL, CONTROLNET, Nfe, Sampling, Weights
from bench.weights.base import NamedWeights, rows, rows_for
from bench.weights.files import needs, pin

if TYPE_CHECKING:
    import torch

    from bench.models.base import Embeddings, ModelEntry
    from bench.models.controlled import Residuals
    from bench.prompts.base import Prompt
    from bench.prompts.control import ControlImage
    from bench.sampling.session import Session

AUTO = "auto"


@register("methods", "controlnet")
class ControlNet(Method):
    """Samples as the suite says with the residuals of a ControlNet; the baseline of a table of ControlNet's images."""

    about: ClassVar[str] = "the model with a ControlNet and the prompt's control image"
    source: ClassVar[str] = "2302.05543; diffusers' StableDiffusionXLControlNetPipeline"
    cost: ClassVar[str] = "+1 ControlNet call with each denoiser call, of as many rows"
    needs: ClassVar[frozenset[str]] = frozenset({CONTROL})

    kind: str = Field(default="canny", pattern=r"^[a-z0-9_-]+$")
    """Which control image of the prompt, and which weights of the model: canny, depth, openpose, or one's own."""
    weights: str = AUTO
    """A ControlNet's folder, or owner/name@COMMIT[:folder]; auto: the published ones for the model and kind."""
    scale: float = Field(default=1.0, ge=0, le=10)
    """How much of the residuals is added."""
    start: float = Field(default=0.0, ge=0, le=1)
    """Share of the calls after which control begins."""
    end: float = Field(default=1.0, ge=0, le=1)
    """Share of the calls after which it ends."""

    _pinned: Weights | None = PrivateAttr(default=None)
    _row: NamedWeights | None = PrivateAttr(default=None)
    _made_for: tuple[str, tuple[int, int]] | None = PrivateAttr(default=None)
    """The model's name and the size of its images."""
    _images: dict[tuple[ControlImage, str], torch.Tensor] = PrivateAttr(default_factory=dict)
    """Control images (3, H, W) in [0, 1] of the batch in work, by device."""

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"'start' should be below 'end', got {self.start:g} and {self.end:g}")
        return self

    # Planned --------------------------------------------------------------------------------------------------------

    def for_model(self, entry: ModelEntry) -> Self:
        """With its weights found and pinned; UserError where there are none or they do not fit the model."""
        if not issubclass(entry.family(), ControlledFamily):
            raise UserError(f"controlnet: {no_residuals(entry)}")
        row = rows_for("controlnet", entry, variant=self.kind)[0] if self.weights == AUTO else None
        try:
            found = row.pinned() if row else pin(self.weights, of="controlnet", kind=CONTROLNET)
        except Lacking as lacking:
            raise Lacking(str(lacking), lacking.need, self._with(row, lacking.instead, entry)) from lacking
        if found.file is not None:
            raise UserError(
                f"controlnet: weights {self.weights!r} are one file, and a ControlNet's settings lie beside it; give a "
                "folder with config.json"
            )
        check_folders(entry, found)
        return self._with(row, found, entry)

    def _with(self, row: NamedWeights | None, found: Weights, entry: ModelEntry) -> Self:
        made = self.model_copy()
        made._row, made._pinned, made._made_for, made._images = row, found, (entry.name, entry.size), {}
        return made

    def twinned(self, entry: ModelEntry) -> Self:
        """By the kind of image that the embedded model has weights for, where it has none for this one."""
        kinds = [row.variant for row in rows("controlnet") if row.model == entry.name]
        if self.weights != AUTO or self.kind in kinds or not kinds:
            return self
        return self.model_copy(update={"kind": kinds[0]})

    def requires(self) -> tuple[Need, ...]:
        return needs(self._weights(), "method controlnet", self._row.about_bytes if self._row else None)

    def check(self, prompt: Prompt) -> None:
        name, size = self._made_for or ("", None)
        prompt.control_image(self.kind).check(size, of=f"model {name!r}")

    def controls(self) -> tuple[str, ...]:
        return (self.kind,)

    def identity(self) -> dict[str, Any]:
        """With the content of its weights in the place of their name; the image's content is in the job id too."""
        found = super().identity()
        if self._pinned is not None:
            found["weights"] = dict(self._pinned.identity())
        return found

    def call_nfe(self, p: Sampling, i: int, calls: int) -> Nfe:
        return Nfe(networks=1) if self.acts(i, calls) else Nfe()

    def acts(self, i: int, calls: int) -> bool:
        """Whether call i of so many is controlled."""
        return self.scale != 0 and self.start <= i / calls and (i + 1) / calls <= self.end

    # Sampled --------------------------------------------------------------------------------------------------------

    def prepare(self, s: Session) -> None:
        """Loads the ControlNet and the batch's images; UserError where either does not load or fit."""
        with_residuals(s.family).control(self._weights())
        self._images.clear()
        self._stacked(s)

    def residuals(self, s: Session, x: torch.Tensor, t: Any, embeds: Embeddings, i: int) -> Residuals | None:
        if not self.acts(i, len(s.schedule.entries)):
            return None
        images = self._stacked(s)
        halves = len(x) // len(images)
        family = with_residuals(s.family)
        return family.residuals(self._weights(), x, t, embeds, images.repeat(halves, 1, 1, 1), self.scale)

    def _weights(self) -> Weights:
        if self._pinned is None:
            raise UserError("controlnet: no weights were chosen; ask for_model(entry) first")
        return self._pinned

    def _stacked(self, s: Session) -> torch.Tensor:
        """(B, 3, H, W) control images in [0, 1] of the session's images."""
        import torch

        found = []
        for item in s.items:
            image = item.prompt.control_image(self.kind)
            key = (image, s.family.device)
            if key not in self._images:
                image.check(s.family.entry.size, of=f"model {s.family.entry.name!r}")
                self._images[key] = _tensor(image).to(s.family.device)
            found.append(self._images[key])
        return torch.stack(found)


def _tensor(image: ControlImage) -> torch.Tensor:
    """(3, H, W) fp32 in [0, 1]: diffusers' preprocessing of an image of the output's own size."""
    import numpy as np
    import torch

    pixels = np.asarray(image.read(), dtype=np.float32) / 255.0
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
