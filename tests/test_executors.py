"""The same images, scores and results by this process, worker processes and actors of Ray; and what ends workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Done, Run

from bench import registry
from bench.runner.executors import ray as executors
from bench.runner.executors.local import Process

WORKERS = 2
LETHAL = '''\
"""A method that ends the process it works in, once or at every batch; and one that takes three seconds."""

import os
import signal
import time
from pathlib import Path

from bench.methods.base import Method
from bench.registry import register


@register("methods", "lethal")
class Lethal(Method):
    mark: str = ""
    """A file that says that it has done so; it does so at every batch where there is none."""

    def noise(self, s, x):
        if not self.mark or not Path(self.mark).exists():
            if self.mark:
                Path(self.mark).touch()
            os.kill(os.getpid(), signal.{signal})
        return -x


@register("methods", "slow")
class Slow(Method):
    def noise(self, s, x):
        time.sleep(3)
        return -x
'''


@pytest.fixture(scope="module")
def rayed() -> Any:
    """Ray on this machine, once for all tests of this file."""
    pytest.importorskip("ray")
    ray = executors.imported()
    ray.init("local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    yield ray
    ray.shutdown()


def again(bench: Bench, finished: Run, home: Path, *more: object) -> tuple[Run, Done]:
    """The shared run once more, elsewhere and without anything to take images from."""
    run = Run(finished.suite, home / "runs", home / "cache", home / "runs" / finished.folder.name)
    return run, bench(*run.arguments("--no-cache", *more))


def digests(run: Run) -> list[Any]:
    return run.rows("SELECT job_id, digest, latent_digest FROM images ORDER BY job_id")


OF_TIME = ("ms", "cost", "seconds", "peak", "hardware", "ratio", "from_cache", "compute")


def results_of(run: Run) -> dict[str, Any]:
    """What results.json says of images and scores, without times and places."""
    found = run.results()
    kept = {key: found[key] for key in ("arms", "comparisons", "controls")}

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if not any(word in k for word in OF_TIME)}
        return [timeless(one) for one in value] if isinstance(value, list) else value

    return dict(timeless(kept))


def check_same(run: Run, done: Done, finished: Run) -> None:
    assert done.code == 0, done.err
    assert digests(run) == digests(finished), "bit by bit"
    for metric in ("shapes-geneval", "shapes-clipscore"):
        assert run.scores(metric) == finished.scores(metric)
    assert results_of(run) == results_of(finished)
    assert f"by {WORKERS} workers" in done.err
    (stages,) = run.rows("SELECT stages FROM sessions")[-1]
    assert json.loads(stages)["generate"]["workers"] == WORKERS


def test_two_worker_processes_make_the_same_run(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run, done = again(bench, finished, tmp_path, "--workers", WORKERS)
    check_same(run, done, finished)


def test_two_actors_of_ray_make_the_same_run(rayed: object, bench: Bench, finished: Run, tmp_path: Path) -> None:
    run, done = again(bench, finished, tmp_path, "--executor", "ray", "--workers", WORKERS)
    check_same(run, done, finished)


# Workers that end ----------------------------------------------------------------------------------------------------


def lethal(home: Path, *, kind: str = "SIGKILL") -> Path:
    path = home / f"lethal_{home.name}.py"  # two files of one name would be one plugin
    path.write_text(LETHAL.replace("{signal}", kind))
    return path


def suite_of(home: Path, method: str) -> Path:
    path = home / "lethal.yaml"
    path.write_text(
        "name: lethal\nmodels: [shapes-sdxl]\nprompts: [shapes-pickapic]\nsamplers: [ddim]\nsteps: 2\nseeds: [0]\n"
        f"baseline: standard\nmethods: [standard, {method}]\nmetrics: [shapes-clipscore]\n"
    )
    return path


def lethal_run(bench: Bench, home: Path, mark: str, *more: object, kind: str = "SIGKILL") -> Done:
    file = lethal(home, kind=kind)
    try:
        suite = suite_of(home, f"{{use: lethal, mark: '{mark}'}}")
        return bench("run", suite, "--plugin", file, "--limit", 2, "--runs", home / "runs", "--no-cache",
                     "--device", "cpu", *more)  # fmt: skip
    finally:
        registry.forget(str(file.resolve()))


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_the_batch_of_a_killed_worker_is_made_by_another(
    executor: str, request: pytest.FixtureRequest, bench: Bench, tmp_path: Path
) -> None:
    if executor == "ray":
        request.getfixturevalue("rayed")
    mark = tmp_path / "mark"
    done = lethal_run(bench, tmp_path, str(mark), "--executor", executor, "--workers", 2)
    assert done.code == 0, done.err
    assert mark.exists()
    assert "was lost" in done.err
    assert "its batch goes to another" in done.err


def test_a_batch_that_ends_three_workers_fails_its_images_and_no_others(bench: Bench, tmp_path: Path) -> None:
    done = lethal_run(bench, tmp_path, "", "--workers", 2)
    assert done.code == 3, done.err
    assert "failed: 2 images of lethal; the first" in done.err
    assert "3 workers were lost in its batch, the last one so: ended by signal 9" in done.err


def test_a_local_workers_pipe_has_no_name_to_connect_to() -> None:
    """Messages are pickles, which can hold code: no process but the worker and its driver may write any."""
    worker = Process(1, {})
    try:
        with socket.socket(fileno=os.dup(worker.connection.fileno())) as ours:
            assert ours.family == socket.AF_UNIX
            assert not ours.getsockname()
            assert not ours.getpeername()
    finally:
        worker.end()


# The driver's end ----------------------------------------------------------------------------------------------------


def test_sigterm_says_how_to_resume_and_ends_with_143(bench: Bench, tmp_path: Path) -> None:
    done = lethal_run(bench, tmp_path, "", "--workers", 0, kind="SIGTERM")
    assert done.code == 143
    assert done.err.splitlines()[-1].startswith("interrupted; what is finished is kept, run the same command again")


def driver(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *map(str, arguments), "--no-cache"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def children(process: int) -> dict[int, str]:
    """The processes that a process has started, and their programs."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process and fields[0] != "Z":
                found[int(status.parent.name)] = (status.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def wait_for(what: Any, seconds: float = 240) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.1)
    pytest.fail(f"it did not come within {seconds:g} s")


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads processes from /proc")


def made(folder: Path) -> int:
    """How many images a run that may not have begun has."""
    if not (folder / "ledger.sqlite").exists():
        return 0
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        there = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'images'").fetchone()
        return int(db.execute("SELECT COUNT(*) FROM images").fetchone()[0]) if there else 0


@needs_proc
def test_a_killed_driver_leaves_no_worker_and_its_run_resumes(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = Run(finished.suite, tmp_path / "runs", tmp_path / "cache", tmp_path / "runs" / finished.folder.name)
    process = driver(*run.arguments("--workers", WORKERS))
    wait_for(lambda: made(run.folder))
    workers = [number for number, program in children(process.pid).items() if "executors.worker" in program]
    assert len(workers) == WORKERS
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{one}").exists() for one in workers), 20)
    _, done = again(bench, finished, tmp_path)
    assert done.code == 0, done.err
    assert digests(run) == digests(finished)


@needs_proc
@pytest.mark.slow
def test_a_killed_head_of_ray_is_one_line_and_the_run_resumes(bench: Bench, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    file, runs = lethal(tmp_path), tmp_path / "runs"
    arguments = ["run", suite_of(tmp_path, "slow"), "--plugin", file, "--limit", 4, "--batch-size", 1, "--runs", runs,
                 "--device", "cpu"]  # fmt: skip
    process = driver(*arguments, "--executor", "ray", "--workers", 1)
    folder = wait_for(lambda: [one for one in runs.glob("*") if made(one)])[0]
    (head,) = [number for number, program in children(process.pid).items() if "gcs_server" in program]
    os.kill(head, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert said.splitlines()[-1].startswith("error: Ray's head at ")
    assert "run the same command again to resume" in said
    there = made(folder)
    assert 0 < there < 8
    try:
        done = bench(*arguments, "--no-cache")
    finally:
        registry.forget(str(file.resolve()))
    assert done.code == 0, done.err
    assert f"{8 - there}/{8 - there} images" in done.err
