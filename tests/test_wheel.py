"""An installed wheel has everything that a twin run needs, and nothing of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WEIGHTS_LIMIT = 60_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling", reason="the build backend is not installed here")
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_the_weights_are_inside_and_whole(wheel: zipfile.ZipFile) -> None:
    weights = ROOT / "bench" / "shapes" / "weights"
    files = {p.relative_to(ROOT).as_posix(): p.stat().st_size for p in weights.rglob("*") if p.is_file()}
    packed = {i.filename: i.file_size for i in wheel.infolist()}
    assert "bench/shapes/weights/shapes-sdxl/model_index.json" in files
    assert files.items() <= packed.items()


def test_the_weights_stay_small(wheel: zipfile.ZipFile) -> None:
    assert sum(i.file_size for i in wheel.infolist() if "/weights/" in i.filename) <= WEIGHTS_LIMIT


def test_the_report_template_is_inside_and_tests_are_not(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "bench/report/template.html.j2" in names
    assert not [n for n in names if n.startswith("tests/")]


def test_the_papers_numbers_are_inside(wheel: zipfile.ZipFile) -> None:
    # bench.report.paper looks beside the package in a checkout, and here in an installation.
    assert wheel.read("bench/baselines/paper/tables.csv") == (ROOT / "baselines" / "paper" / "tables.csv").read_bytes()


def test_the_suites_are_inside(wheel: zipfile.ZipFile) -> None:
    # bench.suite.shipped looks beside the package in a checkout, and here in an installation.
    files = {p.relative_to(ROOT).as_posix() for p in (ROOT / "suites").rglob("*") if p.is_file()}
    assert "suites/sdxl_main.yaml" in files
    assert {f"bench/{name}" for name in files} <= set(wheel.namelist())


@pytest.mark.usefixtures("whole_report")
def test_the_wheel_does_the_main_job_without_a_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """A suite by its name, from images to report, by what was unpacked alone."""
    site, work = tmp_path / "site", tmp_path / "work"
    wheel.extractall(site)
    work.mkdir()
    arguments = ["run", "shapes_quick", "--limit", "1", "--set", "steps=2", "--no-cache", "--device", "cpu"]
    arguments += ["--method", "reseed", "--metric", "shapes-clipscore"]
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from bench.cli import main; sys.exit(main({arguments!r}))"
    surroundings = {**os.environ, "PYTHONPATH": str(site), "BENCH_REPORT": "html"}
    done = subprocess.run([sys.executable, "-c", code], cwd=work, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = next(work.glob("runs/shapes_quick-*/report.html"))
    assert report.stat().st_size > 10_000
    assert str(ROOT / "bench") not in (report.parent / "results.json").read_text()


def test_locks_worker_and_reference_cards_are_inside(wheel: zipfile.ZipFile) -> None:
    folders = ("bench/environments", "bench/workers", "bench/metrics/cards")
    files = {p.relative_to(ROOT).as_posix() for f in folders for p in (ROOT / f).rglob("*") if p.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert {"bench/environments/hpsv2.txt", "bench/workers/packages.py", "bench/metrics/cards/images/00.png"} <= files
    assert files <= set(wheel.namelist())
