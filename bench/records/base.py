"""What all records share, and the names by which rows are distinguished."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """A frozen row. A number is finite; a name that the row does not have is an error.

    A field with a default may be missing in a file; it is written only where it was given.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True, use_attribute_docstrings=True
    )


class Setting(Record):
    """What a comparison holds fixed."""

    model: str
    """Name of the model."""
    sampler: str
    """Name of the sampler."""
    steps: int
    """Denoising steps that were asked for."""
    guidance: float
    """Guidance scale g of diffusers: 1 is without guidance."""


class Labels(Record):
    """Which arm a row is of: one method under one setting on one prompt set."""

    model: str
    """Name of the model."""
    prompts: str
    """A prompt set, or `*` for all of them pooled."""
    sampler: str
    """Name of the sampler."""
    steps: int
    """Denoising steps that were asked for."""
    guidance: float
    """Guidance scale g of diffusers: 1 is without guidance."""
    method: str
    """The method's label in the suite."""

    @property
    def setting(self) -> tuple[str, str, int, float]:
        """Model, sampler, steps and guidance, as `bench.analysis.arms.Setting`."""
        return self.model, self.sampler, self.steps, self.guidance
