"""The public prompt sets whose files are stored beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import registry
from bench.prompts.base import Prompt

SHARED = Path(__file__).parents[2] / "shared" / "prompts"
needs_files = pytest.mark.skipif(not SHARED.is_dir(), reason="no folder `shared/prompts` beside the checkout")

HERE = ("drawbench", "hpd", "hpd_full", "hpd_all", "geneval", "t2i-compbench")
CATEGORIES = ("color", "shape", "texture", "spatial", "3d_spatial", "non_spatial", "numeracy", "complex")


def read(name: str) -> list[Prompt]:
    """A set's prompts."""
    found: list[Prompt] = registry.get("prompts", name).read()
    return found


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """The public sets' files are those."""
    monkeypatch.setenv("BENCH_DATA", str(SHARED))
