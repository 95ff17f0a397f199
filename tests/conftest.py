"""What tests share: a tiny suite on the embedded world, and one finished run of it.

`markers` says which tests are unit and which integration; `commands` runs the program.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium as chromium
from commands import Bench as Bench
from commands import Done as Done
from commands import InTurn as InTurn
from commands import bench as bench
from commands import bench_forked as bench_forked
from commands import bench_in_turn as bench_in_turn
from commands import bench_process as bench_process
from commands import call as call
from commands import call_main as call_main
from markers import as_small_as_a_unit_test as as_small_as_a_unit_test
from markers import pytest_collection_modifyitems as pytest_collection_modifyitems
from suite_texts import suite_text

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: two processes of several threads each slow one another many times over.
    os.environ["OMP_NUM_THREADS"] = "1"

TINY = suite_text()
"""The tiny suite's text; `suite_text(steps=2)` is that with other steps."""
TESTS = Path(__file__).parent
LIMIT = 4
"""Prompts of the shared run: 4 of standard, inversion and reseed each, and 4 chosen ones that need no more."""


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """A failure whose text holds half of a surrogate pair reaches the process that prints it, which reads UTF-8."""
    return printable((yield))


def printable(value: Any) -> Any:
    """A report's data with what UTF-8 cannot hold as an escape: `\\ud800`."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {printable(key): printable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(printable, value))
    return value


# Time -------------------------------------------------------------------------------------------------------------

IMPORTED = pytest.StashKey[int]()
"""Number of modules when the garbage collector was last set to leave them out."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave what was imported out of garbage collections.

    The harness collects between models, and each time all objects of torch, diffusers and pytest would be looked
    through: a fifth of the time of a small run.
    """
    if len(sys.modules) > item.config.stash.get(IMPORTED, 0) + 100:
        gc.collect()
        gc.freeze()
        item.config.stash[IMPORTED] = len(sys.modules)


# What tests share -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test touches the user's cache or the network, or fights another for a core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("BENCH_DATA", str(tmp_path_factory.mktemp("data")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("GITHUB_STEP_SUMMARY", raising=False)
        # Pages and figures are half of a small run's time; tests of them ask for them: `whole_report`.
        patch.setenv("BENCH_REPORT", "md")
        yield


@contextmanager
def forms(names: str) -> Iterator[None]:
    """Within, runs write these forms of the report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_REPORT", names)
        yield


@pytest.fixture
def whole_report() -> Iterator[None]:
    """Runs of this test write every form of the report, as a user's do."""
    with forms("md,html,tex,figures"):
        yield


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Results may differ in the last bits between thread counts; tests compare runs made with one."""
    import torch

    torch.set_num_threads(1)


Plug = Callable[..., None]


@pytest.fixture
def plug() -> Iterator[Plug]:
    """`plug("methods", name=plugin)`: until the test ends a plugin has that name, whether another has it or none."""
    from bench import registry

    with ExitStack() as stack:
        yield lambda kind, **plugins: stack.enter_context(registry.configured(kind, plugins))


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The surroundings in which the example plugin is installed."""
    for needed in ("pip", "hatchling"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed here, and nothing is downloaded for a test")
    target = tmp_path_factory.mktemp("site")
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    words = [sys.executable, *pip, "--target", str(target), str(TESTS / "example_plugin")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {"PYTHONPATH": os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])}


@dataclass(frozen=True)
class Run:
    """A run of the tiny suite and where all of its parts lie."""

    suite: Path
    runs: Path
    cache: Path
    folder: Path

    def arguments(self, *more: object) -> list[object]:
        """`run` and all that makes it this run."""
        return [
            "run",
            self.suite,
            "--limit",
            LIMIT,
            "--runs",
            self.runs,
            "--cache",
            self.cache,
            "--device",
            "cpu",
            *more,
        ]

    def copy(self, to: Path) -> Run:
        """The same run in another place, with an empty cache, for tests that change it."""
        shutil.copytree(self.runs, to / "runs")
        return Run(self.suite, to / "runs", to / "cache", to / "runs" / self.folder.name)

    def results(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "results.json").read_text())
        return found

    def rows(self, query: str, *values: object) -> list[Any]:
        """Rows of the ledger."""
        db = sqlite3.connect(self.folder / "ledger.sqlite")
        try:
            return db.execute(query, values).fetchall()
        finally:
            db.close()

    def scores(self, metric: str) -> dict[tuple[str, int], float]:
        """Scores of one metric by (method label, prompt index)."""
        query = """SELECT method, prompt_index, value FROM cells JOIN images USING (job_id)
                   JOIN scores ON scores.digest = images.digest WHERE metric = ? AND scores.prompt = ?"""
        from bench.prompts.base import Prompt
        from bench.runner.score import prompt_key

        cells = self.rows("SELECT DISTINCT prompt_index, prompt, category, metadata FROM cells")
        found: dict[tuple[str, int], float] = {}
        for index, text, category, metadata in cells:
            key = prompt_key(Prompt(index, text, category, json.loads(metadata) if metadata else None))
            found |= {(m, i): v for m, i, v in self.rows(query, metric, key) if i == index}
        return found


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny suite's file."""
    path = tmp_path_factory.mktemp("suites") / "tiny.yaml"
    path.write_text(TINY)
    return path


def make_run(suite: Path, home: Path, *more: object) -> tuple[Run, Done]:
    """A finished run of a suite file in `home`."""
    done = call(
        "run", suite, "--limit", LIMIT, "--runs", home / "runs", "--cache", home / "cache", "--device", "cpu", *more
    )
    folders = [p for p in (home / "runs").iterdir() if p.is_dir()] if (home / "runs").is_dir() else []
    assert len(folders) == 1, done.err
    return Run(suite, home / "runs", home / "cache", folders[0]), done


@pytest.fixture(scope="session")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Run:
    """One finished run of the tiny suite, with its page, that tests read and never change (see `Run.copy`)."""
    with forms("md,html"):
        run, done = make_run(tiny, tmp_path_factory.mktemp("finished"))
    assert done.code == 0, done.err
    return run
