"""Models with settings of the user's: `{use: sdxl, size: 768, dtype: bf16, variant: fp16, vae_tiling: true}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from bench import registry
from bench.suite import settings as suite_settings
from bench.suite.document import Document, Fault, fault, shown
from bench.suite.gates import Text

if TYPE_CHECKING:
    from bench.models.base import ModelEntry

SIDES = range(8, 16_385)
"""Pixels of a side."""


def _sides(value: Any) -> Any:
    """(height, width) of one number, or of two."""
    sides = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(sides) != 2 or not all(type(side) is int and side in SIDES for side in sides):
        least, most = SIDES[0], SIDES[-1]
        fault(f"'size' should be pixels, or [height, width], from {least} to {most}, got {shown(value)}")
    return sides


class ModelSettings(BaseModel):
    """How a model is run where it is not as its catalogue row says. What may change pixels is in every job id."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    size: Annotated[tuple[int, int], BeforeValidator(_sides)] | None = None
    """Height and width in pixels; one number for both."""
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Precision of its networks, before the suite's."""
    variant: Text | None = None
    """Which files of weights: `fp16` reads `*.fp16.safetensors`."""
    offload: Literal["none", "model", "sequential"] = "none"
    """Networks wait in host memory, as a whole or layer by layer; changes no pixel."""
    text_encoders: Literal["leave", "stay"] = "leave"
    """On a GPU: whether they wait in host memory once the prompts are encoded; changes no pixel."""
    vae_tiling: bool = False
    """Decode in overlapping tiles."""
    attention_slicing: bool = False
    """Attention head by head."""
    compile: bool = False
    """`torch.compile` of the denoiser."""
    channels_last: bool = False
    """Convolutions on channels-last tensors."""

    def configured(self, name: str) -> ModelEntry:
        """The model of that name with these settings; UserError where it cannot have them."""
        given = self.model_dump(exclude_defaults=True)
        found: ModelEntry = registry.get("models", name).configured(**given)
        return found


def taken(document: Document) -> tuple[dict[str, ModelSettings], list[Fault]]:
    """Settings by model, each mapping under `models` giving way to its name; and what is wrong with them."""
    return suite_settings.taken(document, "models", ModelSettings, check=lambda name, one: one.configured(name))


def entries(settings: Mapping[str, ModelSettings]) -> dict[str, ModelEntry]:
    """The models of a suite that have settings, by name."""
    return {name: one.configured(name) for name, one in settings.items()}
