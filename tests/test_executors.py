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
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench, Run
from covering import FULL
from fleets import FleetHere
from fork_server import Forked
from suite_texts import BEST_OF_2, TWO_ARMS, write_suite

from bench import registry
from bench.runner import executors
from bench.runner.executors import ray as of_ray
from bench.runner.executors.local import Process
from bench.runner.executors.worker import Setting
from bench.runner.jobs import Job

WORKERS = 2
ACTORS = 2 if FULL else 1
"""Each is a process that imports torch, as is the one that takes the place of the one that is killed."""
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
    by: str = "SIGKILL"
    mark: str = ""
    """A file that says that it has done so; it does so at every batch where there is none."""

    def noise(self, s, x):
        if not self.mark or not Path(self.mark).exists():
            if self.mark:
                Path(self.mark).touch()
            os.kill(os.getpid(), signal.Signals[self.by])
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
    ray = of_ray.imported()
    ray.init("local", num_cpus=ACTORS, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    file = tmp_path_factory.mktemp("plugin") / "lethal_methods.py"
    file.write_text(LETHAL)
    yield file
    registry.forget(str(file.resolve()))


def arguments(suite: Path, plugin: Path, runs: Path, *more: object) -> list[object]:
    return ["run", suite, "--plugin", plugin, "--runs", runs, "--limit", 2, "--no-cache", "--device", "cpu", *more]


@dataclass(frozen=True)
class Lethal:
    """A suite with an arm that ends the worker that makes its first batch; and a run of it by one process, unharmed."""

    mark: Path
    """A file: the method ends no worker while it is there."""
    alone: Run


@pytest.fixture(scope="module")
def tiny_and_lethal(bench: Bench, plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Lethal:
    home = tmp_path_factory.mktemp("tiny_and_lethal")
    (mark := home / "mark").touch()
    arms = ["standard", BEST_OF_2, {"use": "lethal", "mark": str(mark)}]
    suite = write_suite(home / "lethal.yaml", name="lethal", methods=arms, controls=None)
    done = bench(*arguments(suite, plugin, home / "runs", "--workers", 0))
    assert done.code == 0, done.err
    (folder,) = [one for one in (home / "runs").iterdir() if one.is_dir()]
    return Lethal(mark, Run(suite, home / "runs", home, folder))


def digests(run: Run) -> list[Any]:
    return run.rows("SELECT job_id, digest, latent_digest FROM images ORDER BY job_id")


OF_TIME = ("ms", "cost", "seconds", "peak", "hardware", "ratio", "from_cache", "compute")


def results_of(run: Run) -> dict[str, Any]:
    """What results.json says of images and scores, without times and places."""
    found = run.results()
    kept = {key: found[key] for key in ("arms", "comparisons")}

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if not any(word in k for word in OF_TIME)}
        return [timeless(one) for one in value] if isinstance(value, list) else value

    return dict(timeless(kept))


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_workers_make_the_same_run_though_one_is_killed(
    executor: str, request: pytest.FixtureRequest, bench: Bench, plugin: Path, tiny_and_lethal: Lethal, tmp_path: Path
) -> None:
    """Worker processes, and actors of Ray: what the killed one had in work is made by another."""
    if executor == "ray":
        request.getfixturevalue("rayed")
    alone, mark = tiny_and_lethal.alone, tiny_and_lethal.mark
    mark.unlink()
    workers = ACTORS if executor == "ray" else WORKERS
    done = bench(*arguments(alone.suite, plugin, tmp_path, "--executor", executor, "--workers", workers))
    run = Run(alone.suite, tmp_path, tmp_path, tmp_path / alone.folder.name)
    assert done.code == 0, done.err
    assert mark.exists()
    assert "was lost" in done.err
    assert "its batch goes to another" in done.err
    assert digests(run) == digests(alone), "bit by bit"
    for metric in ("shapes-geneval", "shapes-clipscore"):
        assert run.scores(metric) == alone.scores(metric)
    assert results_of(run) == results_of(alone)
    assert f"by {workers} worker" in done.err
    (stages,) = run.rows("SELECT stages FROM sessions")[-1]
    assert json.loads(stages)["generate"]["workers"] == workers


# Workers that end ----------------------------------------------------------------------------------------------------


def suite_of(home: Path, method: Any) -> Path:
    arms = ["standard", method]
    return write_suite(
        home / "lethal.yaml", TWO_ARMS, name="lethal", steps=2, methods=arms, metrics=["shapes-clipscore"]
    )


@executors.executor("unplugged")
class Unplugged(FleetHere):
    """Workers in this process, which are lost at each batch of `lethal`."""

    @classmethod
    def opened(cls, wanted: executors.Wanted, setting: Setting, *, device: str) -> Unplugged:
        return cls(int(wanted.workers or 1), _is_lethal)


def _is_lethal(task: Any) -> bool:
    return isinstance(task[0], Job) and any(name == "lethal" for name, _ in task[0].links)


def test_a_batch_that_ends_three_workers_fails_its_images_and_no_others(
    bench: Bench, plugin: Path, tmp_path: Path
) -> None:
    suite = suite_of(tmp_path, "lethal")
    done = bench(*arguments(suite, plugin, tmp_path / "runs", "--executor", "unplugged", "--workers", 2))
    assert done.code == 3, done.err
    assert "failed: 2 images of lethal; the first" in done.err
    assert "3 workers were lost in its batch, the last one so: it was unplugged" in done.err


def test_a_worker_says_which_signal_ended_it() -> None:
    worker = Process(1, {})
    worker.running.kill()
    worker.running.wait()
    assert worker.end() == "ended by signal 9, as where memory runs out"


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


def test_sigterm_says_how_to_resume_and_ends_with_143(bench: Bench, plugin: Path, tmp_path: Path) -> None:
    suite = suite_of(tmp_path, {"use": "lethal", "by": "SIGTERM"})
    done = bench(*arguments(suite, plugin, tmp_path / "runs", "--workers", 0))
    assert done.code == 143
    assert done.err.splitlines()[-1].startswith("interrupted; what is finished is kept, run the same command again")


def driver(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *map(str, arguments)],
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
    """How many images a run that may not have started has."""
    if not (folder / "ledger.sqlite").exists():
        return 0
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        there = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'images'").fetchone()
        return int(db.execute("SELECT COUNT(*) FROM images").fetchone()[0]) if there else 0


@needs_proc
def test_a_killed_driver_leaves_no_worker_and_its_run_resumes(bench: Bench, finished: Run, tmp_path: Path) -> None:
    run = Run(finished.suite, tmp_path / "runs", tmp_path / "cache", tmp_path / "runs" / finished.folder.name)
    process = Forked(run.arguments("--workers", WORKERS, "--no-cache"), tmp_path / "said")
    wait_for(lambda: made(run.folder))
    workers = [number for number, program in children(process.number).items() if "executors.worker" in program]
    assert len(workers) == WORKERS
    process.kill()
    wait_for(lambda: not any(Path(f"/proc/{one}").exists() for one in workers), 20)
    done = bench(*run.arguments("--no-cache"))
    assert done.code == 0, done.err
    assert digests(run) == digests(finished)


@needs_proc
@pytest.mark.slow
@pytest.mark.skipif(
    not FULL, reason="starts a Ray for itself: every week, by NOISEBENCH_FULL=1; test_fleet.py has Head"
)
def test_a_killed_head_of_ray_is_one_line_and_the_run_resumes(bench: Bench, plugin: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    runs = tmp_path / "runs"
    command = arguments(suite_of(tmp_path, "slow"), plugin, runs, "--batch-size", 1)
    process = driver(*command, "--executor", "ray", "--workers", 1)
    folder = wait_for(lambda: [one for one in runs.glob("*") if made(one)])[0]
    (head,) = [number for number, program in children(process.pid).items() if "gcs_server" in program]
    os.kill(head, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert said.splitlines()[-1].startswith("error: Ray's head at ")
    assert "run the same command again to resume" in said
    there = made(folder)
    assert 0 < there < 4
    done = bench(*command)
    assert done.code == 0, done.err
    assert f"{4 - there}/{4 - there} images" in done.err
