"""Commands that only read start at once: they import neither torch nor what needs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run

SCRIPT = """
import runpy, sys
sys.argv = ["bench", *sys.argv[1:]]
try:
    runpy.run_module("bench", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    code = stop.code
print([m for m in ("torch", "diffusers", "transformers") if m in sys.modules], code, file=sys.stderr)
"""


def last_line(*arguments: object) -> str:
    """What `python -m bench ARGUMENTS` says at its end: heavy modules, and the exit code."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *map(str, arguments)], capture_output=True, text=True)
    return done.stderr.splitlines()[-1]


def test_the_check_sees_a_heavy_module() -> None:
    """`doctor` does import torch; were it not seen here, the tests below would show nothing."""
    assert "torch" in last_line("doctor")


@pytest.mark.parametrize("command", ["--help", "--version", "run --help", "ls"])
def test_help_and_lists_import_no_torch(command: str) -> None:
    assert last_line(*command.split()) in ("[] 0", "[] None")


def test_plan_imports_no_torch(tiny: Path) -> None:
    assert last_line("plan", tiny, "--cache", os.environ["BENCH_CACHE"]) == "[] 0"


def test_the_papers_suite_is_planned_without_torch() -> None:
    suites = Path(__file__).parent.parent / "suites"
    assert last_line("plan", suites / "sdxl_main.yaml", "--twin", "--limit", 5) == "[] 0"


def test_report_gate_and_baseline_import_no_torch(finished: Run, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path)
    assert last_line("report", copy.folder) == "[] 0"
    assert last_line("baseline", "freeze", copy.folder, "--out", tmp_path / "frozen.json") == "[] 0"
    assert last_line("gate", copy.folder, "--baseline", tmp_path / "frozen.json") == "[] 0"
