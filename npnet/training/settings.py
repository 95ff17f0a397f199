"""The settings of a training, as its YAML file has them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from bench.errors import nearest
from bench.suite import Count
from bench.suite import document as suite_yaml
from npnet import NPNetConfig
from npnet.training.data import SelectionSettings

_FROM_PAIRS = ("latent", "prompt")
_NOT_THE_RESULT = ("cache", "cache_svd", "cache_embeddings")
"""Settings that a resumed training may change. Epochs too, under a constant schedule."""
Switch = Annotated[bool, Field(strict=True)]


class TrainConfig(BaseModel):
    """A training's settings, a YAML file; paths are relative to where the command is run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: tuple[Path, ...] = Field(min_length=1)
    """A collection made by `npnet collect`, or several of one model."""
    selection: SelectionSettings | None
    """{metrics, threshold, mode}; a selection file or several; or none."""
    network: dict[str, Any] = {}
    """Fields of NPNetConfig that differ from what the pairs suggest: svd, residual, text, attention, layout, ..."""
    conditioning: Literal["per_sample", "first_of_batch"] = "per_sample"
    """Whose prompt a pair is given: its own, or the first of its batch as in the released code."""
    limit: int | None = Field(default=None, ge=2, strict=True)
    """Number of pairs, validation included, drawn from those selected; fewer are a subset of more."""
    validation: float = Field(default=0.1, gt=0, lt=1, strict=True)
    """Share of the pairs kept for validation; no prompt is on both sides."""
    seed: int = Field(default=0, ge=0, strict=True)
    """Decides the initial weights, the split, the draw and the order of pairs."""
    epochs: Count = 30
    """Passes over the training pairs."""
    batch: Count = 64
    """Pairs of one optimizer step, over all processes and accumulation."""
    accumulation: Count = 1
    """Parts in which a process goes through its share of a batch, to need less memory."""
    learning_rate: float = Field(default=1e-4, gt=0, strict=True)
    """Of AdamW."""
    weight_decay: float = Field(default=0.01, ge=0, strict=True)
    """Of AdamW."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over the steps: as it is, or falling to zero along a cosine."""
    clip: float | None = Field(default=None, gt=0, strict=True)
    """Largest gradient norm; none as in the paper."""
    ema: float | None = Field(default=None, gt=0, lt=1, strict=True)
    """Decay of an average of the weights, which is then what is validated and written."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto is bf16 autocast on a GPU that has it, and fp32 on the CPU."""
    cache: Path | None = None
    """Folder of prompt embeddings and singular values; by default `npnet` in the folder that BENCH_CACHE names."""
    cache_svd: Switch = True
    """Decompose every source noise once and keep it; else in every step."""
    cache_embeddings: Switch = True
    """Encode every prompt once and keep it; else in every step."""
    svd_dtype: Literal["float16", "float32"] = "float16"
    """How singular vectors are kept; a pair of SDXL takes 0.26 or 0.53 MB."""

    @field_validator("pairs", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    @field_validator("selection", mode="before")
    @classmethod
    def _file_or_none(cls, value: Any) -> Any:
        if value == "none":
            return None
        if isinstance(value, str | Path):
            return {"file": (value,)}
        return {"file": value} if isinstance(value, list | tuple) else value

    @field_validator("network")
    @classmethod
    def _known_fields(cls, value: dict[str, Any]) -> dict[str, Any]:
        known = [name for name in NPNetConfig.model_fields if name not in _FROM_PAIRS]
        for name in value:
            if name in _FROM_PAIRS:
                suite_yaml.fault(f"'network.{name}' follows from the pairs; leave it out", name)
            if name not in known:
                suite_yaml.fault(f"unknown key {'network.' + name!r}{nearest(name, known)}", name)
        return value

    def record(self) -> dict[str, Any]:
        """The settings for a checkpoint's provenance: folders by their names, caches left out."""
        data = self.model_dump(mode="json", exclude=set(_NOT_THE_RESULT))
        data["pairs"] = [path.name for path in self.pairs]
        if data["selection"]:
            data["selection"]["file"] = [path.name for path in self.selection.file] if self.selection else []
        return data
