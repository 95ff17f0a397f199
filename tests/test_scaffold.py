"""What `init` writes works as it stands: its suite plans, its method runs, its test passes."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Bench

from bench import registry, scaffold


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in; methods that are defined there do not outlive the test."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    registry.forget(str((tmp_path / "my_method.py").resolve()))


def test_a_method_runs_by_the_command_that_is_printed_and_passes_its_test(bench: Bench, here: Path) -> None:
    done = bench("init", "method", "my_method")
    assert done.code == 0, done.err
    assert sorted(path.name for path in here.iterdir()) == ["my_method.py", "my_method.yaml", "test_my_method.py"]
    (command,) = re.findall(r"python -m bench (run .*)", done.out)
    few = ("--set", "steps=2", "--limit", 1, "--method", "my_method", "--metric", "shapes-clipscore", "--no-cache")
    run = bench(*command.split(), *few)
    assert run.code == 0, run.err
    spec = importlib.util.spec_from_file_location("test_my_method", here / "test_my_method.py")
    assert spec is not None
    assert spec.loader is not None
    written = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(written)
    written.test_its_images_change_with_its_share(here / "tested")


def test_a_suite_plans_for_real_and_on_the_embedded_world(bench: Bench, here: Path) -> None:
    assert bench("init", "suite", "mine", "--to", here / "suites").code == 0
    for more in ([], ["--twin"]):
        done = bench("plan", here / "suites" / "mine.yaml", *more)
        assert done.code == 0, done.err
        assert "inversion, best_of_2, reseed" in done.out


def test_nothing_is_written_over(bench: Bench, here: Path) -> None:
    (here / "test_my_method.py").write_text("mine")
    done = bench("init", "method", "my_method")
    assert done.code == 2
    assert "test_my_method.py" in done.error
    assert [path.name for path in here.iterdir()] == ["test_my_method.py"]
    assert (here / "test_my_method.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("method", "3x", "3x"),
        ("method", "../x", "../x"),
        ("method", "class", "class"),
        ("method", "Mine", "Mine"),
        ("method", "inversion", "a method of bench"),
        ("plugin", "best-of-n", "a method of bench"),
        ("mthod", "x", "did you mean 'method'"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(bench: Bench, here: Path, kind: str, name: str, said: str) -> None:
    done = bench("init", kind, name)
    assert done.code == 2
    assert said in done.error
    assert list(here.iterdir()) == []


def test_no_place_of_a_template_is_left_empty(tmp_path: Path) -> None:
    for kind in scaffold.KINDS:
        for path in scaffold.write(kind, f"my_{kind}_of_mine", tmp_path / kind):
            assert not re.search(r"@(?:name|Class|package|dist|register\w*)@", path.read_text())
