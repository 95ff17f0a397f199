"""`--executor ray`: actors of Ray, on this machine or a cluster. Only here is Ray imported, when it is asked for."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench.errors import UserError, first_line
from bench.runner.executors import Wanted, executor
from bench.runner.executors.fleet import Fleet, Hand
from bench.runner.executors.worker import Setting, Worker

SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""Unless the user says otherwise nothing is reported to anyone, and workers have their fair share of a processor: by
itself Ray gives them a low priority, and beside anything else they hardly work."""
GONE_SECONDS = 5.0
"""Without a connection to the head for so long, it is taken for gone. Ray itself ends the driver after a minute."""


class RayWorker:
    """The actor: a worker whose answers are finished at once."""

    def __init__(self, setting: bytes) -> None:
        from bench.runner.executors.worker import packed

        self.worker = Worker(setting)
        self.first = self.worker.problem or packed("ready")

    def ready(self) -> bytes:
        """The answer to the setting."""
        return self.first

    def answer(self, message: bytes) -> bytes:
        """Do what a message asks for."""
        return self.worker.answer(message)()


@dataclass(eq=False)
class Actor(Hand):
    """An actor, and its answers to come, in order."""

    actor: Any = None
    answers: deque[Any] = field(default_factory=deque)
    why: str = ""

    def send(self, message: bytes) -> None:
        self.answers.append(self.actor.answer.remote(message))

    def receive(self) -> bytes | None:
        import ray

        try:
            found: bytes = ray.get(self.answers.popleft())
            return found
        except ray.exceptions.RayError as error:
            self.why = first_line(error)
            return None

    def end(self) -> str:
        import ray

        with contextlib.suppress(Exception):
            ray.kill(self.actor)
        return self.why or "Ray lost the actor"


@executor("ray")
class RayFleet(Fleet):
    """Actors of Ray."""

    name = "ray"

    def __init__(self, workers: int, setting: Setting, *, gpus: float, head: str, ours: bool):
        import ray

        super().__init__(workers, setting)
        self.actor = ray.remote(num_cpus=setting.threads or 1, num_gpus=gpus, max_restarts=0)(RayWorker)
        self.ours = ours
        """Whether Ray was started, or connected to, for this run."""
        self.head = Head(head)

    @classmethod
    def opened(cls, wanted: Wanted, setting: Setting, *, device: str) -> RayFleet:
        """UserError where Ray is not installed, cannot be reached, or has too few processors or GPUs for one worker."""
        ray = imported()
        ours = not ray.is_initialized()
        if ours:
            _connect(wanted.ray_address)
        gpus = (1.0 if wanted.gpus_per_worker is None else wanted.gpus_per_worker) if device == "cuda" else 0.0
        there = ray.cluster_resources()
        most = int(there.get("CPU", 0) // (setting.threads or 1))
        if gpus:
            most = min(most, int(there.get("GPU", 0) / gpus))
        if most < 1:
            has = f"{there.get('CPU', 0):g} processors and {there.get('GPU', 0):g} GPUs"
            raise UserError(f"--executor ray: a worker needs {setting.threads or 1} processors and {gpus:g} GPUs, and "
                            f"Ray has {has}; give --device cpu, --threads or --gpus-per-worker")  # fmt: skip
        workers = most if wanted.workers in (None, "auto") else max(1, int(wanted.workers))
        return cls(workers, setting, gpus=gpus, head=ray.get_runtime_context().gcs_address, ours=ours)

    def start(self, number: int, setting: bytes) -> Hand:
        hand = Actor(number, actor=self.actor.remote(setting))
        hand.answers.append(hand.actor.ready.remote())
        return hand

    def heard(self, hands: Sequence[Hand], seconds: float) -> list[Hand]:
        import ray

        self.head.check()
        firsts = {hand.answers[0]: hand for hand in hands if isinstance(hand, Actor) and hand.answers}
        done, _ = ray.wait(list(firsts), num_returns=1, timeout=seconds)
        return [firsts[one] for one in done]

    def what_is_waited_for(self) -> str:
        return "Ray has no processors or GPUs free for them, or they load the libraries"

    def close(self) -> None:
        if self.head.gone:  # to ask Ray for anything now would take minutes
            self.hands.clear()
            return
        super().close()
        if self.ours:
            import ray

            ray.shutdown()


class Head:
    """Ray's head, looked at now and then."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.address, self.place = address, (host.strip("[]"), int(port))
        self.gone = False
        self.seen = self.looked = time.monotonic()

    def check(self) -> None:
        """UserError where it has been gone for a while."""
        now = time.monotonic()
        if now - self.looked < 1:
            return
        self.looked = now
        try:
            socket.create_connection(self.place, timeout=2).close()
            self.seen = now
        except OSError as error:
            self.gone = now - self.seen > GONE_SECONDS
            if self.gone:
                raise UserError(
                    f"Ray's head at {self.address} is gone ({error.strerror or error}); what is finished is kept, run "
                    "the same command again to resume"
                ) from None


def seen() -> Iterator[str]:
    """Whether Ray is here and what it has, as `doctor` says it; a cluster is asked where RAY_ADDRESS names one."""
    try:
        found = f"ray {version('ray')}"
    except PackageNotFoundError:
        yield "note     no ray: needed for --executor ray only; pip install 'noisebench[ray]'"
        return
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield f"ok       {found}: it would work on this machine; RAY_ADDRESS, or --ray-address, names a cluster"
        return
    ray = imported()
    ours = not ray.is_initialized()
    try:
        if ours:
            _connect(address)
    except UserError as error:
        yield f"missing  {found}, no cluster: {first_line(error)}"
        return
    there = ray.cluster_resources()
    yield (
        f"ok       {found} at {address}: {len(ray.nodes())} machines, {there.get('CPU', 0):g} processors, "
        f"{there.get('GPU', 0):g} GPUs"
    )
    if ours:
        ray.shutdown()


def imported() -> Any:
    """Ray; UserError where it is not installed."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f"--executor ray: Ray is not installed ({first_line(error)}); pip install 'noisebench[ray]', or give "
            "--executor local"
        ) from None
    return ray


def _connect(address: str | None) -> None:
    """Connect to a cluster, or start Ray on this machine alone."""
    import ray

    place = address or os.environ.get("RAY_ADDRESS") or "local"
    with _own_signals():
        try:
            if place == "local":
                ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            else:
                ray.init(place, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises plain Exception, too
            with contextlib.suppress(Exception):
                ray.shutdown()
            what = "Ray does not start on this machine" if place == "local" else f"no Ray at {place}"
            said = f"--executor ray: {what}: {first_line(error)}; try again, or give --executor local"
            raise UserError(said) from None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this program does at SIGTERM, which Ray would change."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
