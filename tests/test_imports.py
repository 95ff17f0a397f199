"""Commands that only read start at once: they import neither torch nor what needs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from conftest import Run

SCRIPT = """
import json, runpy, sys
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["bench", *words]
    try:
        runpy.run_module("bench", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        codes.append(stop.code or 0)
print(json.dumps([[m for m in ("torch", "diffusers", "transformers") if m in sys.modules], codes]), file=sys.stderr)
"""


def heavy_and_codes(*commands: Sequence[object]) -> tuple[list[str], list[int]]:
    """The heavy modules in a process in which these commands of `python -m bench` ran, and their exit codes."""
    given = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run([sys.executable, "-c", SCRIPT, given], capture_output=True, text=True)
    heavy, codes = json.loads(done.stderr.splitlines()[-1])
    return heavy, codes


def test_the_check_sees_a_heavy_module() -> None:
    """`doctor` does import torch; were it not seen here, the tests below would show nothing."""
    assert "torch" in heavy_and_codes(["doctor"])[0]


def test_help_and_lists_import_no_torch() -> None:
    commands = ("--help", "--version", "run --help", "ls")
    assert heavy_and_codes(*(command.split() for command in commands)) == ([], [0, 0, 0, 0])


def test_plan_imports_no_torch(tiny: Path) -> None:
    papers = Path(__file__).parent.parent / "suites" / "sdxl_main.yaml"
    commands = (["plan", tiny, "--cache", os.environ["BENCH_CACHE"]], ["plan", papers, "--twin", "--limit", 5])
    assert heavy_and_codes(*commands) == ([], [0, 0])


def test_report_gate_and_baseline_import_no_torch(finished: Run, tmp_path: Path) -> None:
    folder, frozen = finished.copy(tmp_path).folder, tmp_path / "frozen.json"
    freeze = ["baseline", "freeze", folder, "--out", frozen]
    assert heavy_and_codes(["report", folder], freeze, ["gate", folder, "--baseline", frozen]) == ([], [0, 0, 0])
