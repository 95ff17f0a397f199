"""Which tests are `unit` and which `integration`, by INTEGRATION below, and what a unit test may not do."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

INTEGRATION_FIXTURES = frozenset({"one_thread", "bench_process", "bench_forked", "bench_in_turn"})
"""Tests of networks ask for one thread, as `bench` and `finished` do, and those of the program for a process."""
INTEGRATION_FOLDERS = frozenset({"perf", "reference"})
INTEGRATION = (
    "test_action.py",
    "test_browser.py",
    "test_browser_page.py",
    "test_browser_views.py",
    "test_browser_votes.py",
    "test_caption_tokens.py::test_every_word_of_the_grammar_is_one_token_of_its_own",
    "test_checkpoint.py::test_provenance_is_read_without_torch",
    "test_checkpoint.py::test_three_lines_with_a_plain_diffusers_pipeline",
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
    "test_model.py::test_every_branch_equals_the_released_inference_code",
    "test_model.py::test_importing_the_package_loads_no_torch",
    "test_moved.py",
    "test_notebooks.py",
    "test_pages.py",
    "test_page.py",
    "test_paged.py",
    "test_paged_browser.py",
    "test_parallel.py",
    "test_plots.py",
    "test_plugin.py",
    "test_plugin_kinds.py",
    "test_plugin_metrics.py",
    "test_provenance.py",
    "test_published.py",
    "test_readme.py",
    "test_remote.py",
    "test_remote_machines.py",
    "test_scaffold.py",
    "test_samplers.py",
    "test_select.py::test_selecting_starts_without_torch",
    "test_site.py",
    "test_site_in_browser.py",
    "test_set_intervals.py::test_the_interval_of_a_frechet_distance_holds",
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
        pytest.fail("a unit test starts no process and loads no pipeline; name it in INTEGRATION of tests/markers.py")

    def started(process: subprocess.Popen[Any], words: Any, *more: Any, **given: Any) -> None:
        # How Python finds a library where torch is first imported; without it torch would stay half imported.
        (start if str(words[0]).endswith("ldconfig") else refused)(process, words, *more, **given)

    monkeypatch.setattr(subprocess.Popen, "__init__", started)
    monkeypatch.setattr(PipelineFamily, "__init__", refused)
