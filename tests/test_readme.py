"""README.md keeps its promises: the method it shows works, the suite it shows is valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bench import registry
from bench.plan import make_plan
from bench.prompts.base import Prompt
from bench.suite import parse

README = (Path(__file__).parents[1] / "README.md").read_text()


def _block(marker: str, language: str) -> str:
    found = re.search(rf"{re.escape(marker)}.*?```{language}\n(.*?)```", README, re.S)
    assert found, f"README.md has no {language} block behind {marker!r}"
    return found[1]


def test_the_example_method_mirrors_the_latent() -> None:
    torch = pytest.importorskip("torch")
    exec(compile(_block("<!-- example method -->", "python"), "README.md", "exec"), {"__name__": "readme"})
    try:
        method = registry.get("methods", "antithetic")()
        latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        assert torch.equal(method.noise(None, latents), -latents)
    finally:
        registry._plugins["methods"].pop("antithetic")


def test_the_example_suite_plans() -> None:
    suite = parse(_block("## Write a suite", "yaml"), file="README.md")
    plan = make_plan(suite, read=lambda name: [Prompt(i, f"{name} {i}") for i in range(3)])
    # 5 methods x 2 sets x 3 prompts x 2 step counts x 4 seeds
    assert len(plan.cells) == 5 * 2 * 3 * 2 * 4


@pytest.mark.parametrize("marker", ["<!-- run command -->", "<!-- test command -->"])
def test_the_two_commands_are_where_ci_looks(marker: str) -> None:
    assert ".venv/bin/" in _block(marker, "")


def test_npnet_is_used_in_three_lines_outside_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    made: dict[str, Any] = {}
    exec(compile(_block("<!-- example npnet -->", "python"), "README.md", "exec"), made)
    assert made["image"].size == (64, 64)
    assert made["latents"].shape == (1, 4, 8, 8)


def test_no_placeholder_is_left() -> None:
    assert "@@" not in README
