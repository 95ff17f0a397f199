"""A fault costs what it concerns: one arm, one metric, one image; the others finish, and the exit code says so."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Done
from kept_models import kept
from kept_models import kept_models as kept_models

from bench import registry

pytestmark = pytest.mark.usefixtures("kept_models")
SUITE = """\
name: contained
models: [shapes-sdxl]
prompts: [shapes-pickapic]
samplers: [ddim]
steps: 2
baseline: standard
methods: [standard, inversion{method}]
metrics: [shapes-clipscore{metric}]
"""
METHOD = """\
import sys, time
from bench.methods.base import Method


class Odd{k}(Method):
    def {hook}:
        {body}
"""
METRIC = """\
import sys, time
import numpy as np
from bench.metrics.base import MetricEntry, Value


class Scorer{k}:
    def __init__(self):
        {load}

    def score(self, images, prompts):
        {score}


odd{k} = MetricEntry("odd{k}", "Odd{k}", "levels", lambda device: Scorer{k}(), lambda: "odd{k}-1")
"""
FAR = "done = following(x)\n        return done._replace(x=x * 1e20) if i else done"
Ran = Callable[..., tuple[Done, dict[str, Any]]]


@pytest.fixture
def ran(bench: Bench, tmp_path: Path) -> Ran:
    """Runs a suite with a plugin's text; returns how it ended, and its results."""

    def run(plugin: str, *more: object, method: str = "", metric: str = "") -> tuple[Done, dict[str, Any]]:
        suite, file = tmp_path / "contained.yaml", own_file(tmp_path)
        suite.write_text(SUITE.format(method=method, metric=metric))
        file.write_text(plugin)
        try:
            done = bench("run", suite, "--limit", 2, "--runs", tmp_path / "runs", "--no-cache", "--device", "cpu",
                         "--plugin", file, *more)  # fmt: skip
        finally:
            registry.forget(str(file))
        (folder,) = [p for p in (tmp_path / "runs").iterdir() if p.is_dir()]
        return done, json.loads((folder / "results.json").read_text())

    return run


def own_file(folder: Path) -> Path:
    """A file for a plugin; two of one name in a process are refused."""
    return folder / f"odd_{next(NUMBERS)}.py"


NUMBERS = itertools.count()


def complete(found: dict[str, Any]) -> dict[str, bool]:
    return {arm["method"]: arm["complete"] for arm in found["arms"] if arm["prompts"] == "*"}


def together(template: str, faults: Sequence[Mapping[str, str]]) -> tuple[str, int]:
    """A plugin file of a template's imports and then its rest once a fault, and the lines from one to the next."""
    imports, blank, rest = template.partition("\n\n")
    parts = [rest.format(k=k, **fault) for k, fault in enumerate(faults)]
    return imports + blank + "".join(parts), parts[0].count("\n")


Together = tuple[Done, dict[str, Any], int]


def ran_together(bench: Bench, home: Path, kind: str, template: str, faults: Sequence[Mapping[str, str]]) -> Together:
    """How a run of all faults ended, its results, and the lines of its plugin from one fault to the next."""
    file = own_file(home)
    text, lines = together(template, faults)
    file.write_text(text)
    names = "".join(f", odd{k}" for k in range(len(faults)))
    (home / "contained.yaml").write_text(SUITE.format(**{"method": "", "metric": "", kind: names}))
    try:
        with kept():
            done = bench("run", home / "contained.yaml", "--limit", 2, "--runs", home / "runs", "--no-cache",
                         "--device", "cpu", "--plugin", file)  # fmt: skip
    finally:
        registry.forget(str(file))
    assert done.code == 3, done.err
    assert "Traceback" not in done.err
    (folder,) = (home / "runs").iterdir()
    return done, json.loads((folder / "results.json").read_text()), lines


def failed(done: Done, k: int) -> str:
    """The line about the k-th of the faults that ran together, whatever the number of its file."""
    (line,) = [line for line in done.err.splitlines() if re.match(rf"failed: \d \w+ of odd{k};", line)]
    return re.sub(r"odd_\d+", "odd_@", line)


METHODS = [
    ("noise(self, s, x)", "sys.exit(0)", "SystemExit: 0 (odd_@.py:{line}"),
    ("noise(self, s, x)", "raise GeneratorExit('gone')", "GeneratorExit: gone (odd_@.py:{line}"),
    ("prepare(self, s)", "raise ZeroDivisionError('none')", "ZeroDivisionError: none (odd_@.py:{line}"),
    ("step(self, s, x, i, following)", "sys.exit('enough')", "SystemExit: enough (odd_@.py:{line}"),
    ("noise(self, s, x)", "return x * 1e20", "its initial noise is beyond 10000"),
    ("noise(self, s, x)", "return x / 0", "its initial noise is not finite"),
    ("step(self, s, x, i, following)", FAR, "its final latents are beyond 10000"),
]


@pytest.fixture(scope="module")
def methods_together(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Together:
    faults = [{"hook": hook, "body": body} for hook, body, _ in METHODS]
    return ran_together(bench, tmp_path_factory.mktemp("methods"), "method", METHOD, faults)


@pytest.mark.parametrize("k", range(len(METHODS)), ids=[f"{hook}-{body}" for hook, body, _ in METHODS])
def test_a_method_that_breaks_costs_its_own_arm(methods_together: Together, k: int) -> None:
    """Its file and line are named; a `sys.exit(0)` passes for no success."""
    done, found, lines = methods_together
    line = failed(done, k)
    assert line.startswith(f"failed: 2 images of odd{k}; the first: shapes-pickapic 0, seed 0: ")
    assert METHODS[k][2].format(line=7 + k * lines) in line
    assert complete(found) == {"standard": True, "inversion": True, **{f"odd{i}": False for i in range(len(METHODS))}}


METRICS = [
    ("pass", "sys.exit(0)", "SystemExit: 0 (odd_@.py:{score}"),
    (
        "pass",
        "return 1 / (len(images) - len(images))",
        "ZeroDivisionError: division by zero (odd_@.py:{score}",
    ),
    ("pass", "return []", "metric 'odd2': 0 scores of"),
    ("pass", "return ['much' for _ in images]", "AttributeError: 'str' object has no attribute 'reason'"),
    ("sys.exit(0)", "pass", "SystemExit: 0 (odd_@.py:{load}"),
    ("raise OSError('no weights')", "pass", "OSError: no weights (odd_@.py:{load}"),
]


@pytest.fixture(scope="module")
def metrics_together(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Together:
    faults = [{"load": load, "score": score} for load, score, _ in METRICS]
    return ran_together(bench, tmp_path_factory.mktemp("metrics"), "metric", METRIC, faults)


@pytest.mark.parametrize("k", range(len(METRICS)), ids=[f"{load}-{score}" for load, score, _ in METRICS])
def test_a_metric_that_breaks_costs_its_own_scores(metrics_together: Together, k: int) -> None:
    done, found, lines = metrics_together
    line = failed(done, k)
    assert line.startswith(f"failed: 4 scores of odd{k}; the first: shapes-pickapic 0, seed 0, standard: ")
    assert METRICS[k][2].format(load=8 + k * lines, score=11 + k * lines) in line
    rows = {row["metric"]: row["n"] for row in found["comparisons"] if row["prompts"] == "*"}
    assert (rows["shapes-clipscore"], rows[f"odd{k}"]) == (2, 0)


SET = """\
import sys
import numpy as np
from bench.metrics.base import MetricEntry


class Scorer{k}:
    def features(self, images, prompts):
        return np.arange(len(images) * 2.0).reshape(-1, 2)


def value{k}(features, weights):
    {body}


given{k} = {{"kind": "set", "value": value{k}}}
odd{k} = MetricEntry("odd{k}", "Odd{k}", "levels", lambda device: Scorer{k}(), lambda: "odd{k}-2", **given{k})
"""


SETS = [
    ("return 1 / 0", "ZeroDivisionError: division by zero (odd_@.py:{body})"),
    ("sys.exit(0)", "SystemExit: 0 (odd_@.py:{body})"),
    ("return float('nan')", "its value is not finite (nan) (odd_@.py:{value})"),
    # In a bootstrap draw, and where two arms are exchanged: the values themselves are fine.
    ("assert (weights == 1).all(); return 1.0", "AssertionError"),
    ("return 1.0 if len(weights) == 2 else [][0]", "IndexError: list index out of range (odd_@.py:{body})"),
]


@pytest.fixture(scope="module")
def sets_together(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Together:
    home = tmp_path_factory.mktemp("sets")
    return ran_together(bench, home, "metric", SET, [{"body": body} for body, _ in SETS])


@pytest.mark.parametrize("k", range(len(SETS)), ids=[body for body, _ in SETS])
def test_a_set_metric_whose_value_breaks_costs_its_own_value(sets_together: Together, k: int) -> None:
    """Its file and line are named, the other metrics have their numbers, and the exit code says so each time."""
    done, found, lines = sets_together
    reason, name = SETS[k][1].format(value=11 + k * lines, body=12 + k * lines), f"odd{k}"
    rows = {row["metric"]: row["n"] for row in found["comparisons"] if row["prompts"] == "*"}
    assert rows["shapes-clipscore"] == 2
    line = failed(done, k)
    assert re.match(rf"failed: \d values of {name}; the first: (standard|inversion) on shapes-pickapic: ", line)
    assert reason in line
    lost = [arm["metrics"][name] for arm in found["arms"] if arm["method"] == "inversion"]
    assert all(value["mean"] is None and f"has no value ({reason[:12]}" in value["refused"] for value in lost)
    assert all(arm["metrics"]["shapes-clipscore"]["mean"] is not None for arm in found["arms"])
    assert any(note.startswith(f"Odd{k} has no value in ") for note in found["notes"])


def test_a_gate_does_not_pass_where_a_plugin_ends_the_program(bench: Bench, tmp_path: Path) -> None:
    """Code of a plugin that runs before anything can be contained: at import, and where the plan asks it."""
    suite = tmp_path / "contained.yaml"
    suite.write_text(SUITE.format(method=", odd", metric="") + "gates: [{metric: shapes-clipscore, delta: -100}]\n")
    for text in ("import sys\nsys.exit(0)\n", METHOD.format(k="", hook="for_model(self, entry)", body="sys.exit(0)")):
        file = own_file(tmp_path)
        file.write_text(text)
        done = bench("run", suite, "--limit", 1, "--runs", tmp_path / "runs", "--no-cache", "--device", "cpu",
                     "--gate", "--json", tmp_path / "gate.json", "--plugin", file)  # fmt: skip
        assert done.code == 2, done.err
        assert f"{file.name}:" in done.error
        registry.forget(str(file))
        assert "SystemExit: 0" in done.error


SLOW = "time.sleep(30)\n        return {}"


def test_a_method_without_an_end_is_ended_by_a_limit(ran: Ran) -> None:
    started = time.monotonic()
    plugin = METHOD.format(k="", hook="noise(self, s, x)", body=SLOW.format("x"))
    done, found = ran(plugin, "--job-seconds", 2, method=", odd")
    assert time.monotonic() - started < 29
    assert done.code == 3, done.err
    assert "failed: 2 images of odd" in done.err
    assert "it took more than 2 s an image, the limit of --job-seconds" in done.err
    assert complete(found) == {"standard": True, "inversion": True, "odd": False}


def test_a_scorer_that_catches_everything_is_ended_by_a_limit(ran: Ran) -> None:
    """`except Exception` does not catch the limit."""
    started = time.monotonic()
    score = "try:\n            time.sleep(30)\n        except Exception:\n            pass\n        return []"
    done, _ = ran(METRIC.format(k="", load="pass", score=score), "--score-seconds", 1, metric=", odd")
    assert time.monotonic() - started < 29
    assert done.code == 3, done.err
    assert "failed: 4 scores of odd" in done.err
    assert "its score took more than 1 s an image, the limit of --score-seconds" in done.err


@pytest.mark.parametrize("given", ["0", "-1", "soon", "nan", "inf"])
def test_a_limit_is_a_number_of_seconds(bench: Bench, tmp_path: Path, given: str) -> None:
    done = bench("run", tmp_path / "none.yaml", "--job-seconds", given)
    assert done.code == 2
    assert f"expected a number of seconds above 0, got '{given}'" in done.err
