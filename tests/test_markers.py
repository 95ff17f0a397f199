"""Every test is of one kind, and what is named as integration is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import INTEGRATION

KINDS = {"unit", "integration"}
TESTS = Path(__file__).parent


def test_every_test_is_of_exactly_one_kind(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        kinds = [mark.name for mark in item.iter_markers() if mark.name in KINDS]
        assert len(kinds) == 1, f"{item.nodeid}: {kinds}; tests/conftest.py alone says the kind"


@pytest.mark.parametrize("name", INTEGRATION)
def test_what_is_named_as_integration_is_there(name: str) -> None:
    """A test that was renamed would otherwise become unit."""
    file, _, test = name.partition("::")
    (path,) = TESTS.rglob(file)
    assert f"def {test}" in path.read_text()
