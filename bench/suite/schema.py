"""What a suite is made of: its methods, controls, and all that is kept of its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bench import registry
from bench.backoff import AUTO, BatchSize
from bench.moved import by_former_names, by_todays_names
from bench.suite import models as suite_models
from bench.suite.document import fault, shown
from bench.suite.gates import Gates, Text
from bench.suite.models import ModelSettings
from bench.suite.scorers import ScorerSettings

Steps = Annotated[int, Field(strict=True, ge=1, le=1000)]
Guidance = Annotated[float, Field(strict=True, ge=0, le=100)]
Count = Annotated[int, Field(strict=True, ge=1)]


def _batch_size(value: Any) -> Any:
    if value not in (None, AUTO) and not (type(value) is int and value >= 1):
        fault(f"'batch_size' should be a whole number from 1, or {AUTO}, got {shown(value)}")
    return value


def renamed_parameters(method: Any) -> Mapping[str, str]:
    """Former names of a registered method's parameters to today's; none of a method that is not here."""
    known = isinstance(method, str) and method in registry.names("methods")
    return getattr(registry.get("methods", method), "renamed", {}) if known else {}


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Link(Part):
    """One method of a chain with all of its parameters, those left at their defaults included."""

    use: str
    """Its registered name."""
    params: dict[str, Any] = {}
    """Its parameters, sorted by name, as JSON holds them."""

    @model_validator(mode="before")
    @classmethod
    def _by_todays_names(cls, given: Any) -> Any:
        """Runs of earlier releases have the former names."""
        if isinstance(given, Mapping) and isinstance(given.get("params"), Mapping):
            return {**given, "params": by_todays_names(given["params"], renamed_parameters(given.get("use")))}
        return given


class MethodSpec(Part):
    """One arm of the comparison."""

    label: str
    """What tables and gates call it."""
    chain: tuple[Link, ...]
    """The noise methods applied, in order."""


class Control(Part):
    """A method whose true effect is known beforehand."""

    effect: Literal["zero", "positive"]
    """What a sound harness must find."""
    metric: Text | None = None
    """The one metric this is expected of; None: all of the suite's."""


class Fields(Part):
    """The fields that are kept as they were written."""

    name: Annotated[str, Field(strict=True, pattern=r"^[a-z0-9_-]+$", max_length=200)]
    """What run folders and reports are named after; the file's stem unless given. File systems take 255 characters."""
    title: Text = ""
    """One line for the report's head."""
    reproduces: Text = ""
    """The table or figure of the paper that this suite is for."""
    images_per_prompt: Count | None = None
    """Images for each prompt and seed; None: as many as each prompt set's own protocol makes."""
    baseline: Text
    """The label of the method that all others are paired with."""
    headline: Text | None = None
    """The metric of the report's headline; None: by the report's own rule. It decides no image and no score."""
    negative_prompt: Text = ""
    """For every prompt."""
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    """Precision of the models' networks; None: fp32 on a CPU, fp16 on a GPU."""
    batch_size: Annotated[BatchSize | None, BeforeValidator(_batch_size)] = None
    """Images at once, or `auto`: as many as fit a GPU and pay. None: four on a GPU, 50 on a CPU."""
    gates: Gates = ()
    """The rules of `bench gate`."""
    made_by: dict[Text, Text] = {}
    """Commands that make files of the suite's own, by the files' names as its methods give them."""


class Suite(Fields):
    """A validated suite after `--set`, `--limit`, `--method`, `--metric` and `--twin`."""

    models: tuple[str, ...]
    """Registered models."""
    running: dict[str, ModelSettings] = {}
    """The user's settings by model."""
    prompts: tuple[str, ...]
    """Registered prompt sets."""
    samplers: tuple[str, ...]
    """Registered samplers."""
    steps: tuple[int, ...] | None = None
    """Numbers of sampling steps; None: each model's default."""
    guidance: tuple[float, ...] | None = None
    """Guidance scales as diffusers has them; None: each model's default."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the initial noise; empty: each prompt's own, and prompts without any are left out."""
    methods: tuple[MethodSpec, ...]
    """The arms, the baseline among them."""
    metrics: tuple[str, ...]
    """Registered metrics."""
    scorers: dict[str, ScorerSettings] = {}
    """The user's settings by metric; also for a metric that only chooses."""
    controls: dict[str, Control] = {}
    """Expected effects by method label."""
    limit: int | None = None
    """Prompts taken of each set; None: all."""
    twin: bool = False
    """Whether models, prompts and metrics are the embedded stand-ins."""
    notes: tuple[str, ...] = ()
    """What a reader must know about how this suite differs from its file."""
    source_text: str = ""
    """The YAML as given."""

    def canonical(self) -> str:
        """All that decides results, as JSON that is the same for the same suite."""
        about = {"name", "title", "reproduces", "headline", "batch_size", "gates", "notes", "source_text", "made_by"}
        kept = self.model_dump(mode="json", exclude=about)
        if self.dtype is None:
            del kept["dtype"]  # suites had no precision at first, and the same suite keeps its id
        for key in ("scorers", "running"):
            if not kept[key]:
                del kept[key]
        for settings in kept.get("scorers", {}).values():
            settings.pop("timeout", None)
        for link in (link for method in kept["methods"] for link in method["chain"]):
            link["params"] = by_former_names(link["params"], renamed_parameters(link["use"]))
        return json.dumps(kept, sort_keys=True, separators=(",", ":"))

    @property
    def id(self) -> str:
        """First ten hex digits of the SHA-256 of `canonical()`."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:10]

    @contextmanager
    def configured(self) -> Iterator[None]:
        """Within, models and metrics are as `running` and `scorers` have them; UserError where a file has gone."""
        models = suite_models.entries(self.running)
        entries = {name: one.on(registry.get("metrics", name)) for name, one in self.scorers.items()}
        with registry.configured("metrics", entries), registry.configured("models", models):
            yield
