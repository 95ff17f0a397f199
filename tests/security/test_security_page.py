"""docs/security.md names a test for each threat, and the tests are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from named_tests import ROOT, check_row, table_rows, unnamed

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = table_rows(PAGE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_threat_has_tests_that_exist(row: str) -> None:
    check_row(row, columns=3)


def test_every_file_of_security_tests_is_on_the_page() -> None:
    assert unnamed(PAGE, Path(__file__).parent) == set()
