"""The documents keep their promises: the method works, the suites are valid, the links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bench import registry
from bench.prompts.base import Prompt
from bench.runner.plan import make_plan
from bench.suite import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def _block(marker: str, language: str, text: str = README) -> str:
    found = re.search(rf"{re.escape(marker)}.*?```{language}\n(.*?)```", text, re.S)
    assert found, f"there is no {language} block behind {marker!r}"
    return found[1]


def test_the_example_method_mirrors_the_latent() -> None:
    torch = pytest.importorskip("torch")
    code = compile(_block("<!-- example method -->", "python"), "README.md", "exec")
    with registry.reading("README.md"):
        exec(code, {"__name__": "readme", "__file__": "README.md"})
    try:
        method = registry.get("methods", "antithetic")()
        latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        assert torch.equal(method.noise(None, latents), -latents)
    finally:
        registry.forget("README.md")


@pytest.mark.parametrize(("page", "methods"), [("README.md", 4), ("docs/suites.md", 5)])
def test_the_example_suites_plan(page: str, methods: int) -> None:
    suite = parse(_block("<!-- example suite -->", "yaml", (ROOT / page).read_text()), file=page)
    plan = make_plan(suite, read=lambda name: [Prompt(i, f"{name} {i}") for i in range(3)])
    # methods x 2 sets x 3 prompts x 2 step counts x 4 seeds
    assert len(plan.cells) == methods * 2 * 3 * 2 * 4


@pytest.mark.parametrize("marker", ["<!-- run command -->", "<!-- test command -->"])
def test_the_two_commands_are_where_ci_looks(marker: str) -> None:
    assert ".venv/bin/" in _block(marker, "")
    assert _block(marker, "").count("\n") == 1, "one line that can be pasted"


def test_npnet_is_used_in_three_lines_outside_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    made: dict[str, Any] = {}
    exec(compile(_block("<!-- example npnet -->", "python"), "README.md", "exec"), made)
    assert made["image"].size == (64, 64)
    assert made["latents"].shape == (1, 4, 8, 8)


def test_no_placeholder_is_left() -> None:
    assert "@@" not in README


def test_readme_is_short() -> None:
    assert README.count("\n") <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
