"""An installed wheel has everything that a twin run needs, and nothing of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import Bench

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


@pytest.fixture
def plugin(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of plugins that `init` writes, beside the folder `site` that it is installed into."""
    monkeypatch.chdir(tmp_path)
    done = bench("init", "plugin", "my-idea")
    assert done.code == 0, done.err
    project = tomllib.loads(Path("bench-my-idea/pyproject.toml").read_text())["project"]
    assert project["entry-points"]["bench.methods"] == {"my_idea": "bench_my_idea.method:MyIdea"}
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", "site")
    subprocess.run([sys.executable, *pip, "./bench-my-idea"], check=True, capture_output=True)
    return tmp_path / "bench-my-idea"


PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:2]
import pytest
from bench.cli import main
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[2]]) or main(sys.argv[3:]))
"""


@pytest.mark.usefixtures("whole_report")
def test_the_wheel_does_the_main_job_without_a_checkout_and_knows_an_installed_package_of_plugins(
    wheel: zipfile.ZipFile, plugin: Path, tmp_path: Path
) -> None:
    """A suite by its name, from images to report, by what was unpacked alone; and the package's own test, which finds
    its method by its entry point. One process, for importing is most of it."""
    site, work = tmp_path / "site", tmp_path / "work"
    wheel.extractall(site)
    work.mkdir()
    arguments = ["run", "shapes_quick", "--limit", "1", "--set", "steps=2", "--no-cache", "--device", "cpu"]
    arguments += ["--method", "reseed", "--metric", "shapes-clipscore"]
    command = [sys.executable, "-c", PROGRAM, str(site), str(plugin / "tests"), *arguments]
    surroundings = {**os.environ, "PYTHONPATH": str(site), "BENCH_REPORT": "html"}
    done = subprocess.run(command, cwd=work, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    report = next(work.glob("runs/shapes_quick-*/report.html"))
    assert report.stat().st_size > 10_000
    assert str(ROOT / "bench") not in (report.parent / "results.json").read_text()


def test_locks_worker_and_reference_cards_are_inside(wheel: zipfile.ZipFile) -> None:
    folders = ("bench/environments", "bench/workers", "bench/metrics/cards")
    files = {p.relative_to(ROOT).as_posix() for f in folders for p in (ROOT / f).rglob("*") if p.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert {"bench/environments/hpsv2.txt", "bench/workers/packages.py", "bench/metrics/cards/images/00.png"} <= files
    assert files <= set(wheel.namelist())
