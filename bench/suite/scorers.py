"""Metrics with settings of the user's: `{use: hpsv2, checkpoint: FOLDER, dtype: fp16}`, or `hpsv2=FOLDER`.

Also `{use: hpsv2, implementation: package}`, computed by the original package in an environment of its own, and
`{use: endpoint, url: ...}`, a judge of the user's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from bench import registry
from bench.errors import UserError
from bench.suite import settings as suite_settings
from bench.suite.document import Document, Fault
from bench.suite.gates import Text


class ScorerSettings(BaseModel):
    """How a metric is computed where it is not by its published files in fp32."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    checkpoint: Text | None = None
    """A folder that holds the scorer's files under their published names."""
    dtype: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Precision of the scorer's networks; another one is part of the metric's digest."""
    reference: Text | None = None
    """What a metric of sets compares with: a folder of images, or a file of their statistics."""
    implementation: Literal["own", "package"] = "own"
    """Whose code computes it: ours, or the original package's in its environment."""
    url: Text | None = None
    """Of a judge of the user's own, and nothing else."""
    version: Text = ""
    """What is behind the URL, in the user's words; part of the metric's digest."""
    timeout: Annotated[float, Field(gt=0, le=86400)] | None = None
    """Seconds that a worker or a judge may take for an image; it decides no score."""

    @model_serializer(mode="wrap")
    def _short(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings that came later are written only where they are used, so that a suite keeps its id."""
        written: dict[str, Any] = whole(self)
        later = ("reference", "implementation", "url", "version", "timeout")
        return {k: v for k, v in written.items() if k not in later or v != type(self).model_fields[k].default}

    def on(self, metric: Any) -> Any:
        """A `MetricEntry` with these settings; UserError where it does not take them."""
        return metric.configured(
            self.checkpoint,
            self.dtype,
            self.implementation,
            url=self.url,
            version=self.version,
            timeout=self.timeout,
            reference=self.reference,
        )


def taken(document: Document) -> tuple[dict[str, ScorerSettings], list[Fault]]:
    """Settings by metric, each mapping under `metrics` giving way to its name; and what is wrong with them."""
    return suite_settings.taken(document, "metrics", ScorerSettings, check=check)


def check(name: str, settings: ScorerSettings) -> None:
    """UserError where a metric takes no settings, or its checkpoint's folder lacks a part."""
    settings.on(registry.get("metrics", name))


def split(metrics: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names, and checkpoints by name, of metrics as the command line has them: `hpsv2` or `hpsv2=FOLDER`."""
    parts = [metric.partition("=") for metric in metrics]
    for name, equals, folder in parts:
        if equals and not folder:
            raise UserError(f"--metric {name}=: expected a folder after the equals sign")
    return [name for name, _, _ in parts], {name: folder for name, _, folder in parts if folder}


def joined(settings: Mapping[str, ScorerSettings], given: Mapping[str, str]) -> dict[str, ScorerSettings]:
    """Settings with checkpoints of the command line over those of the file; UserError as `check`."""
    found = dict(settings)
    for name, folder in given.items():
        key = "url" if registry.get("metrics", name).asked else "checkpoint"
        found[name] = found.get(name, ScorerSettings()).model_copy(update={key: folder})
        check(name, found[name])
    return found
