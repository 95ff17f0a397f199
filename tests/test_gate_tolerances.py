"""The loss that a baseline's gate allows: relative, of one metric or of all, and which of two holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Bench, Run
from frozen_worlds import against, drawn, outcomes
from frozen_worlds import world as world
from perf.simulated_runs import METRIC, World
from suite_texts import write_suite

from bench import gate
from bench.errors import UserError


def test_a_relative_tolerance_is_of_the_frozen_mean(world: World) -> None:
    old = {arm: values + 10 for arm, values in drawn(0).items()}
    new = {arm: values - 0.3 for arm, values in old.items()}
    mean = old["method"].mean()
    assert outcomes(against(world, old, new, tolerance=gate.tolerances(["4%"])))["method", "change"] == "passed"
    assert outcomes(against(world, old, new, tolerance=gate.tolerances(["2%"])))["method", "change"] == "failed"
    assert 0.02 * mean < 0.3 < 0.04 * mean


def test_a_baseline_s_own_tolerance_holds_unless_the_command_has_another(world: World) -> None:
    old, new = drawn(0), drawn(0, both=-0.5)
    results, samples = world.run(old)
    frozen = gate.freeze(results, samples, {METRIC: "0.6"})
    results, samples = world.run(new)
    assert outcomes(gate.against_baseline(results, frozen, samples))["method", "change"] == "passed"
    again = gate.against_baseline(results, frozen, samples, tolerance=gate.tolerances([f"{METRIC}=0.1"]))
    assert outcomes(again)["method", "change"] == "failed"


def test_a_command_s_tolerance_for_all_metrics_stands_before_the_baseline_s_own(world: World) -> None:
    frozen = gate.freeze(*world.run(drawn(0)), {METRIC: "0.6"})
    results, samples = world.run(drawn(0, both=-0.5))
    for given in (0, gate.tolerances(["0"])):
        judged = gate.against_baseline(results, frozen, samples, tolerance=given)
        assert outcomes(judged)["method", "change"] == "failed"
        assert judged.verdicts[0].rule == "simulated: new - frozen >= 0"


@pytest.mark.parametrize("given", [["0.01", "0.5"], ["x=0.01", "0.5", "x=1%"]])
def test_two_tolerances_of_one_metric_are_an_error(given: list[str]) -> None:
    with pytest.raises(UserError, match=r"the second one of (all metrics|x); give one of them"):
        gate.tolerances(given)


def test_a_tolerance_that_nothing_reads_is_an_error(world: World) -> None:
    with pytest.raises(UserError, match="every metric that is compared has one of its own"):
        against(world, drawn(0), drawn(0), tolerance=gate.tolerances(["0.1", f"{METRIC}=0.2"]))


def test_a_tolerance_that_nothing_will_read_is_found_before_the_run(
    bench: Bench, finished: Run, tmp_path: Path
) -> None:
    """The suite no longer has the metric; one that `bench score` added to the run is read."""
    frozen, copy = tmp_path / "b.json", finished.copy(tmp_path)
    assert bench("baseline", "freeze", copy.folder, "--out", frozen).code == 0
    fewer = write_suite(tmp_path / "fewer.yaml", metrics=["shapes-geneval"])
    given = ("--limit", 4, "--runs", tmp_path / "new", "--baseline", frozen, "--tolerance", "shapes-clipscore=0.1")
    done = bench("run", fewer, *given)
    assert done.code == 2
    assert "--tolerance shapes-clipscore=...: nothing is compared on shapes-clipscore" in done.error
    assert not (tmp_path / "new").exists()
    assert bench(*copy.arguments("--baseline", frozen, "--tolerance", "shapes-clipscore=0.1")).code == 0
