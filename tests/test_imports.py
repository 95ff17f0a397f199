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


def heavy_and_codes(*commands: Sequence[object], first: Path | None = None) -> tuple[list[str], list[int]]:
    """The heavy modules in a process in which these commands of `python -m bench` ran, and their exit codes.

    Packages in the folder `first` are found before those that are installed.
    """
    given = json.dumps([[str(word) for word in command] for command in commands])
    path = os.pathsep.join(filter(None, [str(first or ""), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, given], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    heavy, codes = json.loads(done.stderr.splitlines()[-1])
    return heavy, codes


def test_the_check_sees_a_heavy_module(tmp_path: Path) -> None:
    """`doctor` does import torch, here one without content; were it not seen, the tests below would show nothing."""
    (tmp_path / "torch.py").touch()
    assert "torch" in heavy_and_codes(["doctor"], first=tmp_path)[0]


def test_help_lists_and_plans_import_no_torch(tiny: Path) -> None:
    words = [command.split() for command in ("--help", "--version", "run --help", "ls")]
    papers = Path(__file__).parent.parent / "suites" / "sdxl_main.yaml"
    plans = (["plan", tiny, "--cache", os.environ["BENCH_CACHE"]], ["plan", papers, "--twin", "--limit", 5])
    assert heavy_and_codes(*words, *plans) == ([], [0] * 6)


def test_report_gate_and_baseline_import_no_torch(finished: Run, tmp_path: Path) -> None:
    folder, frozen = finished.copy(tmp_path).folder, tmp_path / "frozen.json"
    freeze = ["baseline", "freeze", folder, "--out", frozen]
    assert heavy_and_codes(["report", folder], freeze, ["gate", folder, "--baseline", frozen]) == ([], [0, 0, 0])
