"""docs/reliability.md names tests for each fault, and the tests are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from named_tests import ROOT, check_row, table_rows, unnamed

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = table_rows(PAGE.partition("## Faults")[2])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_fault_has_tests_that_exist(row: str) -> None:
    check_row(row, columns=5)


def test_every_file_of_fault_tests_is_on_the_page() -> None:
    beside = {"tests/faults/test_reliability_page.py", "tests/faults/test_advice.py"}
    assert unnamed(PAGE, Path(__file__).parent) - beside == set()
