"""A suite file and the plugins that it names, which are this folder's own and make nothing; and how it is read."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]
from facts import missing
from pydantic import BaseModel, ConfigDict, Field

from bench import registry, suite
from bench.errors import UserError
from bench.registry import MetricName


class Parameters(BaseModel):
    """A method that any model can have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def for_model(self, entry: Any) -> Any:
        return self

    def twinned(self, entry: Any) -> Any:
        return self


class BestOfN(Parameters):
    """A method with a number and a metric among its parameters."""

    n: int = Field(4, ge=2)
    chooser: MetricName = "preference"


class Golden(Parameters):
    """A method that has no weights for a twin."""

    weights: str

    def for_model(self, entry: Any) -> Any:
        if entry.twin_of:
            raise UserError("golden: no weights are known for it; give some")
        return self


def plain(**names: tuple[str, ...]) -> dict[str, Any]:
    """Entries by name, each with what it is a twin of."""
    return {name: SimpleNamespace(twin_of=of) for name, of in names.items()}


PLUGINS = {
    "models": plain(sdxl=(), sd21=(), orphan=(), shapes=("sdxl", "sd21")),
    "prompts": plain(drawbench=(), hpd=(), lonely=(), shapes_short=("drawbench",), shapes_long=("hpd",)),
    "samplers": plain(ddim=(), euler=()),
    "metrics": plain(
        hpsv2=(),
        clipscore=(),
        preference=(),
        pickscore=(),
        shapes_pref=("hpsv2", "preference"),
        shapes_clip=("clipscore",),
    ),
    "methods": {
        "standard": Parameters,
        "inversion": Parameters,
        "ays": Parameters,
        "best_of_n": BestOfN,
        "golden": Golden,
    },
}

LINES = """\
models: [sdxl]
prompts: [drawbench, hpd]
samplers: [ddim]
steps: 50
guidance: 5.5
seeds: [0]
baseline: standard
methods:
  - standard
  - inversion
  - use: best_of_n
    name: best_of_4
metrics: [hpsv2, clipscore]
"""
KEYS = yaml.safe_load(LINES)
STANDARD, INVERSION, BEST_OF_4 = KEYS["methods"]
RULES = """\
controls: {inversion: zero, best_of_4: {effect: positive, metric: hpsv2}}
gates:
  - {metric: hpsv2, method: inversion, delta: 0.0}
  - {metric: clipscore, delta: 0.0}
  - {metric: calls, method: best_of_4, ratio: 5}
"""
"""What may be written below LINES, whose last line is the thirteenth."""


@pytest.fixture
def plugins() -> Iterator[None]:
    """Until the test ends these are all plugins that there are."""
    with registry.isolated(PLUGINS):
        yield


def parse(text: str = LINES, **options: Any) -> suite.Suite:
    """The suite of a text."""
    return suite.parse(text, file="suites/s.yaml", **options)


def refused(text: str = LINES, **options: Any) -> str:
    """The one line with which a text is refused."""
    with pytest.raises(UserError) as caught:
        parse(text, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lacks(said: str, at: int, *facts: str) -> list[str]:
    """Which of these facts, and whether the line, an error about a suite's text does not say."""
    return missing(said, *facts) + [f"line {at}"] * (not said.startswith(f"suites/s.yaml:{at}: "))


def changed(old: str, new: str) -> str:
    """Text, and not a builder's keys: what is tested is the format, and the line that an error names."""
    assert LINES.count(old) == 1
    return LINES.replace(old, new)


def labels(made: suite.Suite) -> list[str]:
    """Names of its methods."""
    return [method.label for method in made.methods]
