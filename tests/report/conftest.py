"""Pages opened in the browser, and one report to look at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.analysis.results import Computed

from . import many_pairs, paged_run, samples
from .tab import Open, Results, Shoot, Tab, used, write

FEW = 24


@pytest.fixture
def visit(chromium: Any) -> Iterator[Open]:
    """Opens a page; at the end of the test none has logged or thrown anything, and nothing but files was asked for."""
    tabs: list[Tab] = []

    def go(file: Path, fragment: str = "", **given: Any) -> Tab:
        tabs.append(Tab(chromium, file.as_uri() + fragment, **given))
        return tabs[-1]

    yield go
    for tab in tabs:
        tab.checked()
        tab.context.close()


@pytest.fixture(scope="session")
def opened(page: Path, chromium: Any) -> Iterator[Tab]:
    tab = Tab(chromium, page.as_uri())
    yield tab
    tab.context.close()


@pytest.fixture
def tab(opened: Tab) -> Iterator[Tab]:
    """The report of 130 pairs in a tab that all tests use which do not reload it."""
    yield from used(opened)


@pytest.fixture(scope="session")
def results() -> Results:
    return many_pairs.results(130)


@pytest.fixture(scope="session")
def page(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 130 pairs of four methods, with its images."""
    folder = tmp_path_factory.mktemp("report")
    many_pairs.draw_images(folder, results)
    return write(folder, results)


@pytest.fixture(scope="session")
def paged_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs, whose report has 128 pairs."""
    return paged_run.make_runs(tmp_path_factory.mktemp("paged"))


@pytest.fixture(scope="session")
def both(paged_runs: list[Path]) -> Computed:
    """Their results, which carry 20 of the pairs."""
    return paged_run.computed(paged_runs)


@pytest.fixture(scope="session")
def large(paged_runs: list[Path], both: Computed) -> Path:
    """The folder of their report."""
    folder = paged_runs[0].parent / "both"
    report.write(both.results, folder, formats=["html"], every=both.every)
    return folder


@pytest.fixture
def copied(large: Path, tmp_path: Path) -> Path:
    """Their report for a test of one's own to change; its images are gone."""
    return Path(shutil.copytree(large, tmp_path / "both"))


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 24 of these pairs, for tests that open it again and again."""
    folder, found = tmp_path_factory.mktemp("few"), many_pairs.results(FEW)
    many_pairs.draw_images(folder, found)
    return write(folder, found)


@pytest.fixture(scope="session")
def shoot() -> Shoot:
    """Keeps a screenshot in BENCH_ARTIFACTS, where that is set."""
    given = os.environ.get("BENCH_ARTIFACTS")
    folder = Path(given) / "report" if given else None

    def keep(tab: Tab, name: str, **how: Any) -> None:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            tab.page.screenshot(path=folder / f"{name}.png", **how)

    return keep


@pytest.fixture
def small() -> Results:
    """Two methods beside the baseline, one of them clearly better."""
    return samples.small()


@pytest.fixture
def example(tmp_path: Path) -> Results:
    """The committed example, with its images in `tmp_path`."""
    return samples.example(tmp_path)
