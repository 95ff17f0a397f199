"""Scores by a worker over a pipe: what it may do wrong costs the scores that it concerns, and nothing else.

The worker here is a program of the standard library in the place of the packages', which no test installs; the packages
themselves are run by `tox -e reference` (tests/reference/test_packages.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import call
from reference import small_clips as small
from suite_texts import TWO_ARMS, suite_text, write_suite

from bench import environments, registry, suite
from bench.errors import UserError
from bench.metrics import worker
from bench.metrics.base import MetricEntry
from bench.prompts.base import Prompt
from bench.store import Ledger

PROGRAM = Path(__file__).with_name("worker_program.py")
IMAGES = [np.full((8, width, 3), 7, np.uint8) for width in range(10, 22)]
"""A sound answer is the width of the image, in hundredths."""
WIDTHS = [0.10, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.17, 0.18, 0.19, 0.20, 0.21]


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.hps_folder(tmp_path_factory.mktemp("hps"), "workers")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> environments.Environment:
    """An environment that holds a Python and nothing else."""
    monkeypatch.setenv("BENCH_ENVIRONMENTS", str(tmp_path / "environments"))
    monkeypatch.setattr(worker, "PROGRAM", PROGRAM)
    one = environments.find("hpsv2")
    one.python.parent.mkdir(parents=True)
    one.python.symlink_to(Path(sys.executable).resolve())
    one.mark.write_text("{}")
    return one


def packaged(hps: Path, timeout: float | None = None) -> MetricEntry:
    entry: MetricEntry = registry.get("metrics", "hpsv2").configured(str(hps), "fp32", "package", timeout=timeout)
    return entry


def scored(entry: MetricEntry, *texts: str) -> list[Any]:
    """Values, or reasons, of as many images as there are prompts."""
    prompts = [Prompt(i, text) for i, text in enumerate(texts)]
    return [v.reason or v.value for v in entry.scorer("cpu").score(IMAGES[: len(texts)], prompts)]


def test_images_and_prompts_arrive_whole_and_in_order(made: Any, hps: Path) -> None:
    assert scored(packaged(hps), *["ok"] * 12) == WIDTHS, "more than one request"
    (length,) = scored(packaged(hps), "length 鳥居 “é”\n\u2028 " * 300)
    assert length == 300 * len("length 鳥居 “é”\n\u2028 ")


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("die", "the worker of hpsv2: it ended (exit code 7): the last words"),
        ("kill", "the worker of hpsv2: it ended (signal 9)"),
        ("hang", "the worker of hpsv2: no answer within 0.5 s"),
        ("garbage", "the worker of hpsv2: an answer that is no JSON: b'<html>\\n'"),
        ("another", "the worker of hpsv2: an answer to no request of ours"),
        ("short", "no scores for 1 image"),
        ("many", "2 scores for 1 image"),
        ("text", "scores that are no numbers"),
        ("bool", "scores that are no numbers"),
        ("endless", "the worker of hpsv2: an answer that was cut off, or is longer than 1000000 bytes"),
        ("nan", "its score is not finite (nan)"),
        ("null", "no score was given"),
        ("error", "ValueError: it does not like this one; second line"),
    ],
)
def test_what_is_wrong_with_an_answer_costs_that_score(made: Any, hps: Path, prompt: str, reason: str) -> None:
    texts = ["ok", "ok", prompt, "ok", *["ok"] * 8]
    found = scored(packaged(hps, 0.5 if prompt == "hang" else None), *texts)
    assert found == [*WIDTHS[:2], reason, *WIDTHS[3:]]


def test_what_the_packages_print_is_no_answer(made: Any, hps: Path) -> None:
    assert scored(packaged(hps), "shout", "ok") == [0.10, 0.11]


def test_a_worker_that_breaks_again_and_again_is_not_asked_any_more(made: Any, hps: Path) -> None:
    started = time.monotonic()
    found = scored(packaged(hps, 0.3), *["hang"] * 12)
    assert found[:3] == ["the worker of hpsv2: no answer within 0.3 s"] * 3
    assert set(found[3:]) == {
        "not asked: 3 requests broke one after the other; the worker of hpsv2: no answer within 0.3 s"
    }
    assert time.monotonic() - started < 30, "not every image waits for its time"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("refuse", "it does not load: OSError: no weights"),
        ("old", "it does not speak our protocol"),
        ("exit", "it does not start: it ended (exit code 3): no such module"),
    ],
)
def test_a_worker_that_does_not_load_is_started_once(
    made: Any, hps: Path, how: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    monkeypatch.setenv("TEST_WORKER_LOADS", how)
    monkeypatch.setenv("TEST_WORKER_STARTS", str(starts))
    assert set(scored(packaged(hps), *["ok"] * 12)) == {f"the worker of hpsv2: {reason}"}
    assert starts.read_text() == "*"


def test_a_scorer_that_is_no_longer_referenced_leaves_no_process(made: Any, hps: Path) -> None:
    scorer: Any = packaged(hps).scorer("cpu")
    scorer.score(IMAGES[:1], [Prompt(0, "ok")])
    pid = scorer.process.running.pid
    os.kill(pid, 0)
    folder = Path(scorer.folder.name)
    assert {path.name for path in folder.iterdir()} == {"HPS_v2.1_compressed.pt", "open_clip_config.json"}
    del scorer
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not folder.exists()


def test_the_digest_has_checkpoint_lock_and_worker(
    made: Any, hps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = packaged(hps).digest()
    assert environments.lock_digest("hpsv2") in first
    assert first == packaged(hps, 5.0).digest(), "patience decides no score"
    assert first != registry.get("metrics", "hpsv2").configured(str(hps), "fp32").digest()
    assert first != packaged(small.hps_folder(tmp_path / "other", "another")).digest()
    other = tmp_path / "worker.py"
    other.write_bytes(PROGRAM.read_bytes() + b"\n")
    monkeypatch.setattr(worker, "PROGRAM", other)
    assert first != packaged(hps).digest()


def test_an_environment_that_is_not_made_is_one_line_before_any_image(
    hps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_ENVIRONMENTS", str(tmp_path / "none"))
    file = written(tmp_path, hps)
    done = call("run", file, "--limit", 1, "--runs", tmp_path / "runs", "--no-cache", "--device", "cpu")
    assert done.code == 2
    assert "python -m bench env make hpsv2" in done.error
    assert not list((tmp_path / "runs").rglob("*.png"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("use: pickscore, implementation: package", "metric 'pickscore' has no implementation but its own"),
        ("use: shapes-clipscore, implementation: package", "'shapes-clipscore' has no implementation but its own"),
        ("use: hpsv2, implementation: package, dtype: fp16", "its package has a precision of its own"),
        ("use: hpsv2, timeout: 5", "takes 'timeout' with 'implementation: package' only"),
        ("use: hpsv2, implementation: theirs", "'implementation' of metric 'hpsv2' should be 'own' or 'package'"),
        ("use: hpsv2, url: http://127.0.0.1/", "takes neither url nor version"),
        ("use: hpsv2, implementation: package, timeout: 0", "'timeout' of metric 'hpsv2' should be greater than 0"),
    ],
)
def test_a_setting_that_a_metric_does_not_have_is_reported(settings: str, said: str) -> None:
    text = suite_text(TWO_ARMS, metrics=None) + f"metrics:\n  - {{{settings}}}\n"
    with pytest.raises(UserError) as caught:
        suite.parse(text, file="workers.yaml")
    assert said in str(caught.value)


def written(folder: Path, hps: Path) -> Path:
    own = {"use": "hpsv2", "implementation": "package", "checkpoint": str(hps)}
    arms = ["standard", "reseed"]
    return write_suite(folder / "workers.yaml", TWO_ARMS, steps=2, methods=arms, metrics=[own, "shapes-clipscore"])


def test_a_run_continues_without_the_scores_that_failed(
    made: Any, hps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    bad = registry.get("prompts", "shapes-pickapic").read()[1].text
    monkeypatch.setenv("TEST_WORKER_DIES_AT", bad)
    args = ("run", written(tmp_path, hps), "--limit", 3, "--runs", tmp_path / "runs", "--no-cache", "--device", "cpu")
    done = call(*args)
    assert done.code == 3, done.err
    assert "failed: 2 scores of hpsv2; the first: shapes-pickapic 1, seed 0, standard: the worker of hpsv2" in done.err
    (run,) = (p for p in (tmp_path / "runs").iterdir() if p.is_dir())
    ledger = Ledger(run, read_only=True)
    scores = dict(ledger.db.execute("SELECT metric, COUNT(*) FROM scores GROUP BY metric"))
    ledger.close()
    assert scores == {"hpsv2": 4, "shapes-clipscore": 6}
    monkeypatch.delenv("TEST_WORKER_DIES_AT")
    assert call(*args).code == 0, "what failed is asked again"


def test_the_workers_program_needs_no_package_until_it_loads_one() -> None:
    """It runs where this project is not installed."""
    real = Path(environments.__file__).parents[1] / "workers" / "packages.py"
    ask = [sys.executable, "-I", "-S", str(real), "hpsv2", "--checkpoint", "nowhere"]
    done = subprocess.run(ask, capture_output=True, text=True, input="")
    assert done.returncode == 1
    assert done.stdout.startswith('{"protocol": 1, "error": "ModuleNotFoundError: No module named')
    assert "import bench" not in real.read_text()
    assert "from bench" not in real.read_text()
