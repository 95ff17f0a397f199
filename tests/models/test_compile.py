"""`--compile`: what a plan says of it, and that it is another image's id. That it is compiled is a test of settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench
from suite_texts import TWO_ARMS, suite_text

from bench import registry
from bench.job.preflight import duration
from bench.models.loading import compile_seconds
from bench.suite import compiled, parse

TURBO = {"use": "shapes-turbo", "channels_last": True}


def suite(other: str = "reseed", models: Sequence[Any] = ("shapes-sdxl", TURBO)) -> str:
    return suite_text(
        TWO_ARMS, name=None, models=[*models], steps=2, methods=["standard", other], metrics=["shapes-clipscore"]
    )


def test_every_model_of_the_suite_is_compiled_and_keeps_its_other_settings() -> None:
    plain = parse(suite(), file="one.yaml", limit=1)
    found = compiled(plain)
    assert {name: one.compile for name, one in found.running.items()} == {"shapes-sdxl": True, "shapes-turbo": True}
    assert found.running["shapes-turbo"].channels_last
    assert found.id != plain.id, "compiled code rounds otherwise: images of it are others"
    for name in found.models:
        assert found.running[name].configured(name).digest() != registry.get("models", name).digest()


@pytest.mark.parametrize(("method", "times"), [("reseed", 2), ("dpo", 4)])
def test_a_plan_says_what_compiling_costs(bench: Bench, tmp_path: Path, method: str, times: int) -> None:
    """For the first shape of batch and once for all others, in every weights that methods put on the denoiser."""
    (tmp_path / "one.yaml").write_text(suite(method, ["shapes-sdxl"]))
    said = bench("plan", tmp_path / "one.yaml", "--limit", 1, "--compile").out
    seconds = registry.get("models", "shapes-sdxl").compile_s
    assert f"compiling shapes-sdxl: up to {times} times {duration(seconds)}" in said
    assert "compiling" not in bench("plan", tmp_path / "one.yaml", "--limit", 1).out


def test_a_plan_without_a_measured_time_says_so(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(suite())
    said = bench("plan", tmp_path / "one.yaml", "--limit", 1, "--compile").out
    assert "compiling shapes-turbo: up to 2 times, of unknown length" in said


def test_the_seconds_of_compiling_are_counted() -> None:
    import torch

    before = compile_seconds()
    torch.compile(lambda x: x + 1, backend="eager")(torch.ones(3))
    after = compile_seconds()
    assert after > before
    assert compile_seconds() == after
