"""Tasks among workers, on workers of this file alone: none is lost, none done twice, and lost workers are replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fleets import FleetHere, Here
from suite_texts import TWO_ARMS, suite_text

from bench import registry
from bench.errors import UserError
from bench.runner import executors
from bench.runner.executors import Wanted, opened, ray, thrifty
from bench.runner.executors.base import InProcess, Lost
from bench.runner.executors.local import Local
from bench.runner.executors.thrifty import Thrifty
from bench.runner.executors.worker import Setting
from bench.suite import Suite, parse


@dataclass(frozen=True)
class Doubling:
    """A recipe whose station doubles numbers, and fails at -13."""

    device: str = "cpu"

    def open(self) -> Doubling:
        return self

    def do(self, task: int) -> Callable[[], int]:
        if task == -13:
            raise UserError("thirteen is refused")
        return lambda: 2 * task

    def close(self) -> None:
        pass


def once(number: int) -> Callable[[int], bool]:
    """Fatal at a number, the first time."""
    seen: Counter[int] = Counter()

    def fatal(task: int) -> bool:
        seen[task] += 1
        return task == number and seen[task] == 1

    return fatal


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("tasks", [0, 1, 3, 20])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_task_is_done_once(workers: int, tasks: int, device: str) -> None:
    with FleetHere(workers) as fleet:
        done = dict(fleet.run(Doubling(device), range(tasks)))
        assert done == {i: 2 * i for i in range(tasks)}
        assert len(fleet.all) == min(workers, tasks), "a worker without a task is not started"
        assert dict(fleet.run(Doubling(device), range(tasks))) == done
        assert len(fleet.all) == min(workers, tasks), "workers are kept for the next stage"
    assert all(hand.ended for hand in fleet.all)


def test_what_waits_is_bounded_by_the_workers() -> None:
    """A long list is not read ahead of the work: two tasks a worker on a GPU, one on a CPU."""
    for device, most in (("cpu", 1), ("cuda", 2)):
        taken: list[int] = []

        def tasks(into: list[int] = taken) -> Iterator[int]:
            for i in range(100):
                into.append(i)
                yield i

        fleet = FleetHere(2)
        for n, _ in enumerate(fleet.run(Doubling(device), tasks())):
            assert len(taken) <= n + 1 + 2 * most + 2
        assert max(hand.most for hand in fleet.all) == most


def test_what_a_lost_worker_had_is_done_by_another() -> None:
    fleet = FleetHere(2, once(3))
    assert dict(fleet.run(Doubling("cuda"), range(8))) == {i: 2 * i for i in range(8)}
    assert len(fleet.all) == 3, "another took its place"


def test_a_task_that_ends_three_workers_is_given_up_and_the_others_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    fleet = FleetHere(2, lambda task: task == 3)
    done = dict(fleet.run(Doubling(), range(8)))
    lost = done.pop(3)
    assert isinstance(lost, Lost)
    assert "3 workers were lost" in lost.reason
    assert "it was unplugged" in lost.reason
    assert done == {i: 2 * i for i in range(8) if i != 3}
    assert capsys.readouterr().err.count("its batch goes to another") == 2


def test_workers_that_do_nothing_but_end_stop_the_run() -> None:
    with pytest.raises(UserError, match=r"9 workers were lost one after the other.*try fewer"):
        dict(FleetHere(4, lambda _: True).run(Doubling(), range(40)))
    with pytest.raises(UserError, match="workers do not start: it was unplugged"):
        dict(FleetHere(2, starts=False).run(Doubling(), range(4)))


def test_a_worker_s_error_is_the_driver_s_and_frees_the_workers() -> None:
    fleet = FleetHere(2)
    with pytest.raises(UserError, match="thirteen is refused"):
        dict(fleet.run(Doubling(), [1, -13, 2, 3]))
    assert not any(hand.waiting for hand in fleet.hands)
    assert dict(fleet.run(Doubling(), [5])) == {5: 10}, "the next stage is run"


def test_a_driver_that_stops_listening_ends_what_is_in_work() -> None:
    fleet = FleetHere(2)
    run = fleet.run(Doubling("cuda"), range(50))
    next(run)
    run.close()  # type: ignore[attr-defined]
    assert not any(hand.waiting for hand in fleet.hands)


# What is chosen ------------------------------------------------------------------------------------------------------


def suite_of(metric: str = "shapes-clipscore") -> Suite:
    text = suite_text(TWO_ARMS, methods=["standard"], metrics=[metric])
    return parse(text, file="chosen.yaml")


def chosen(wanted: Wanted, *, device: str = "cpu", threads: int | None = None) -> Any:
    suite = suite_of()
    return opened(wanted, device=device, threads=threads, suite=suite, models=suite.models)


def test_a_cpu_takes_workers_for_much_work_and_none_for_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thrifty, "cores", lambda: 4)
    monkeypatch.setattr(thrifty, "fitting", lambda: 99)
    found = chosen(Wanted())
    assert isinstance(found, Thrifty)
    assert (found.threads, found.fleet.workers) == (1, 4)
    found.fleet = FleetHere(4)
    assert dict(found.run(Doubling(), [1, 2], price=thrifty.WORTH - 1)) == {1: 2, 2: 4}
    assert (found.workers, found.fleet.all) == (0, [])
    assert dict(found.run(Doubling(), [1, 2], price=thrifty.WORTH)) == {1: 2, 2: 4}
    assert (found.workers, len(found.fleet.all)) == (4, 2)
    assert chosen(Wanted(), threads=2).fleet.workers == 2, "workers of two threads"


@pytest.mark.parametrize(("cores", "fitting"), [(1, 99), (8, 1)])
def test_one_core_or_little_memory_is_worked_on_by_this_process(
    cores: int, fitting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thrifty, "cores", lambda: cores)
    monkeypatch.setattr(thrifty, "fitting", lambda: fitting)
    found = chosen(Wanted())
    assert isinstance(found, InProcess)
    assert found.threads == 1, "as it would be with workers: the same run has the same pixels"


def test_a_large_model_on_a_cpu_has_one_process_and_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thrifty, "cores", lambda: 4)
    monkeypatch.setattr(thrifty, "SMALL_BYTES", 1000)
    found = chosen(Wanted())
    assert isinstance(found, InProcess)
    assert found.threads is None


def test_what_is_asked_for_is_had() -> None:
    for workers, threads in ((0, None), (1, 1)):
        found = chosen(Wanted(workers=workers))
        assert isinstance(found, InProcess)
        assert found.threads == threads
    found = chosen(Wanted(workers=3))
    assert isinstance(found, Local)
    assert (found.workers, found.threads) == (3, 1)
    assert isinstance(chosen(Wanted(), device="cuda"), InProcess), "one GPU is this process's"
    assert chosen(Wanted(workers=8), device="cuda").workers == 8


@pytest.mark.parametrize(
    ("wanted", "device", "said"),
    [
        (Wanted(executor="rya"), "cpu", "unknown executor 'rya'; did you mean 'ray'"),
        (Wanted(workers=2), "cuda:1", "--device cuda:1 is one GPU"),
        (Wanted(gpus_per_worker=1), "cpu", "--gpus-per-worker 1: expected a number above 0, with --device cuda"),
        (Wanted(ray_address="auto"), "cpu", "--ray-address is for --executor ray"),
    ],
)
def test_what_cannot_be_had_is_one_line(wanted: Wanted, device: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        chosen(wanted, device=device)


def test_without_ray_the_line_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed.*pip install 'noisebench\[ray\]'"):
        chosen(Wanted(executor="ray"))


def test_what_a_notebook_defines_needs_its_own_process() -> None:
    registry.put("metrics", "of-a-notebook", registry.get("metrics", "shapes-clipscore"), registry.NOTEBOOK)
    try:
        suite = suite_of("of-a-notebook")
        assert list(executors.of_session(suite)) == ["metric 'of-a-notebook'"]
        with pytest.raises(UserError, match=r"metric 'of-a-notebook' is defined in this session.*--workers 1"):
            opened(Wanted(workers=2), device="cpu", suite=suite, models=suite.models)
        assert isinstance(opened(Wanted(), device="cpu", suite=suite, models=suite.models), InProcess)
    finally:
        registry.forget(registry.NOTEBOOK)


def test_each_worker_has_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the place among those that live: what takes a lost one's place has its GPU."""

    def seen(gpus: float) -> list[str]:
        fleet = Local(4, Setting(), gpus=gpus)
        found = []
        for place in range(4):
            found.append(fleet._gpus()["CUDA_VISIBLE_DEVICES"])
            fleet.hands.append(Here(place, place=fleet._free_place()))
        del fleet.hands[1]
        assert fleet._gpus()["CUDA_VISIBLE_DEVICES"] == found[1]
        return found

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert seen(1.0) == ["0", "1", "2", "3"]
    assert seen(0.5) == ["0", "0", "1", "1"]
    assert seen(2.0) == ["0,1", "2,3", "4,5", "6,7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert seen(1.0) == ["4", "5", "6", "7"]


def test_rays_head_is_gone_when_nothing_listens_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(ray, "GONE_SECONDS", -1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = ray.Head(f"127.0.0.1:{server.getsockname()[1]}")
        head.looked -= 5
        head.check()
    head.looked -= 5
    with pytest.raises(UserError, match=r"Ray's head at 127.0.0.1:\d+ is gone.*run the same command again to resume"):
        head.check()
    assert head.gone
