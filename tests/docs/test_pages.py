"""What pages of docs/ say to type works: each command of docs/reproduce.md plans, and the table of docs/how-many.md is
what its command prints."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from conftest import call

from bench.report.paper import printed

ROOT = Path(__file__).parents[2]
REPRODUCE = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"`python -m bench run ([^`]*)`", REPRODUCE)))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_reproduces_the_paper_plans_on_the_embedded_world(command: str) -> None:
    done = call("plan", *shlex.split(command), "--twin")
    assert done.code == 0, done.err
    assert re.search(r"images: +\d+ to have", done.out), done.out


def test_every_table_of_the_paper_has_a_row() -> None:
    rows = [line for line in REPRODUCE.splitlines() if line.startswith("| ")]
    tables = {cell.table for cell in printed()}
    assert {"final:T2", "anon:T14"} <= tables
    for table in tables:
        source, _, number = table.partition(":")
        assert any(source in row and re.search(rf"\b{re.escape(number)}\b", row) for row in rows), table


def test_the_table_of_prompts_is_what_its_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("how_many", ROOT / "docs" / "how_many.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main()
    written = (ROOT / "reports" / "measured" / "how_many.csv").read_text()
    assert capsys.readouterr().out == written, "python docs/how_many.py > reports/measured/how_many.csv"
