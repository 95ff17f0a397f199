"""What tests share: a tiny suite on the embedded world, runners of the command line, and one finished run of it."""

from __future__ import annotations

import gc
import importlib.util
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium as chromium
from suite_texts import suite_text

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: two processes of several threads each slow one another many times over.
    os.environ["OMP_NUM_THREADS"] = "1"

TINY = suite_text()
"""The tiny suite's text; `suite_text(steps=2)` is that with other steps."""
TESTS = Path(__file__).parent
LIMIT = 4
"""Prompts of the shared run: 4 of standard, inversion and reseed each, and 4 chosen ones that need no more."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error line; a second one, or a traceback, fails the test."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err, self.err
        assert self.err.rstrip().endswith(lines[0]), "an error has one line, and it is the last one"
        return lines[0]


Bench = Callable[..., Done]

# Kinds of tests ---------------------------------------------------------------------------------------------------

INTEGRATION_FIXTURES = frozenset({"one_thread", "bench_process", "bench_forked", "bench_in_turn"})
"""Tests of networks ask for one thread, as `bench` and `finished` do, and those of the program for a process."""
INTEGRATION_FOLDERS = frozenset({"perf", "reference"})
INTEGRATION = (
    "test_action.py",
    "test_browser.py",
    "test_browser_page.py",
    "test_browser_views.py",
    "test_browser_votes.py",
    "test_captions.py::test_every_word_of_the_grammar_is_one_token_of_its_own",
    "test_checkpoint.py",
    "test_clipscore.py::test_it_is_two_and_a_half_times_the_cosine_cut_at_zero",
    "test_contributing.py",
    "test_run.py::test_a_chooser_takes_the_best_candidate_by_a_metric_without_ties",
    "test_compare_forms.py::test_compare_and_power_import_no_torch",
    "test_detector.py",
    "test_env.py",
    "test_executors.py",
    "test_exporters.py::test_mlflow_has_each_arm_with_its_numbers_once",
    "test_exporters.py::test_weights_and_biases_offline",
    "test_fetch.py",
    "test_fetch_faults.py",
    "test_fetch_sources.py",
    "test_figures.py",
    "test_first_screen.py",
    "test_fleet.py::test_a_cpu_takes_workers_for_much_work_and_none_for_little",
    "test_fresh.py",
    "test_gate_simulation.py",
    "test_gains.py::test_the_command_prints_the_table_without_torch",
    "test_hub_prompts.py",
    "test_identity_packages.py::test_code_that_moves_within_the_project_is_the_same_code",
    "test_imports.py",
    "test_kills.py",
    "test_latex.py",
    "test_memory.py::test_a_stages_peak_is_its_own_or_unknown",
    "test_model.py::test_importing_the_package_loads_no_torch",
    "test_moved.py",
    "test_notebooks.py",
    "test_pages.py",
    "test_page.py",
    "test_paged.py",
    "test_paged_browser.py",
    "test_parallel.py",
    "test_plan.py::test_planning_loads_no_network_library",
    "test_plots.py",
    "test_plugin.py",
    "test_plugin_kinds.py",
    "test_plugin_metrics.py",
    "test_provenance.py",
    "test_readme.py",
    "test_remote.py",
    "test_remote_machines.py",
    "test_scaffold.py",
    "test_samplers.py",
    "test_select.py::test_selecting_starts_without_torch",
    "test_site.py",
    "test_site_in_browser.py",
    "test_set_metrics.py::test_the_interval_of_a_frechet_distance_holds",
    "test_shards.py::test_the_slurm_script",
    "test_store.py::test_a_killed_process_lets_go_of_its_run_folder",
    "test_store.py::test_a_second_process_on_a_run_folder",
    "test_together.py",
    "test_votes.py",
    "test_wheel.py",
    "test_workers.py",
)
"""What else is integration: files, or tests in them by the beginning of their name. All that is left is unit."""


def is_integration(item: pytest.Item) -> bool:
    """Whether a test starts a process, loads a pipeline, or takes more than a second."""
    return (
        not INTEGRATION_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        or item.path.parent.name in INTEGRATION_FOLDERS
        or f"{item.path.name}::{item.name}".startswith(INTEGRATION)
    )


@pytest.hookimpl(tryfirst=True)  # before -m chooses among them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test is `unit` or `integration`, and it is said here alone; files with slow tests come first.

    What processes of pytest-xdist are left with at the end is then small (with --no-loadscope-reorder).
    """
    for item in items:
        item.add_marker("integration" if is_integration(item) else "unit")
    slow = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def as_small_as_a_unit_test(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit test that starts a process or loads a pipeline fails, and says where to name it."""
    if request.node.get_closest_marker("unit") is None:
        return
    from bench.models.pipeline import PipelineFamily

    start = subprocess.Popen.__init__

    def refused(*_: object, **__: object) -> None:
        pytest.fail("a unit test starts no process and loads no pipeline; name it in INTEGRATION of tests/conftest.py")

    def started(process: subprocess.Popen[Any], words: Any, *more: Any, **given: Any) -> None:
        # How Python finds a library where torch is first imported; without it torch would stay half imported.
        (start if str(words[0]).endswith("ldconfig") else refused)(process, words, *more, **given)

    monkeypatch.setattr(subprocess.Popen, "__init__", started)
    monkeypatch.setattr(PipelineFamily, "__init__", refused)


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


def call(*arguments: object) -> Done:
    """`bench ARGUMENTS` in this process."""
    from bench.cli import main

    return call_main(main, *arguments)


def call_main(main: Callable[[list[str]], int], *arguments: object) -> Done:
    """A program's `main` with ARGUMENTS, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:  # argparse leaves this way
            code = int(stop.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def bench(one_thread: None) -> Bench:
    """Runs a command of the program in this process."""
    return call


@pytest.fixture(scope="session")
def bench_process() -> Bench:
    """Runs a command of the program in a process of its own."""

    def process(*arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "bench", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            timeout=300,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return process


@pytest.fixture(scope="session")
def bench_forked(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Runs a command of the program in a fork of a process that has imported torch and diffusers: `forks`.

    Its surroundings count from there on. What is read at the import of those, such as HF_ENDPOINT, is not read again.
    """
    from forks import Forked

    def process(*arguments: object, env: dict[str, str] | None = None) -> Done:
        running = Forked(arguments, tmp_path_factory.mktemp("forked"), env)
        return Done(running.wait(), running.out, running.err)

    return process


InTurn = Callable[..., list[Done]]
IN_TURN = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from bench.cli import main

done = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
    done.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(done))
"""


@pytest.fixture(scope="session")
def bench_in_turn() -> InTurn:
    """Runs commands one after the other in one process of their own: a second of imports once, and not each time."""

    def process(*commands: Sequence[object], env: dict[str, str] | None = None) -> list[Done]:
        given = json.dumps([[str(word) for word in command] for command in commands])
        done = subprocess.run(
            [sys.executable, "-c", IN_TURN, given],
            capture_output=True,
            text=True,
            env={**os.environ, **(env or {})},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return [Done(*one) for one in json.loads(done.stdout)]

    return process


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
