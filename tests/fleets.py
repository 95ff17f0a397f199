"""Workers in the tests' own process, which are lost at the tasks that a test says."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.runner.executors import Wanted
from bench.runner.executors.fleet import Fleet, Hand
from bench.runner.executors.worker import REST, Setting, Worker


@dataclass(eq=False)
class Here(Hand):
    """A worker in this process, which is lost at some tasks."""

    fatal: Callable[[int], bool] = lambda _: False
    worker: Worker | None = None
    answers: list[bytes | None] = field(default_factory=list)
    most: int = 0
    ended: bool = False

    def send(self, message: bytes) -> None:
        if self.worker is None:
            self.worker = Worker(message)
            self.answers.append(self.worker.problem or pickle.dumps((True, "ready")))
            return
        if message != REST and self.fatal(pickle.loads(pickle.loads(message)[1])):
            self.answers.append(None)
        else:
            self.answers.append(self.worker.answer(message)())
        self.most = max(self.most, len(self.answers))

    def receive(self) -> bytes | None:
        return self.answers.pop(0)

    def end(self) -> str:
        self.ended = True
        return "it was unplugged"


class FleetHere(Fleet):
    name = "here"

    def __init__(self, workers: int, fatal: Callable[[int], bool] = lambda _: False, *, starts: bool = True):
        super().__init__(workers, Setting())
        self.fatal, self.starts = fatal, starts
        self.all: list[Here] = []

    @classmethod
    def opened(cls, wanted: Wanted, setting: Setting, *, device: str) -> FleetHere:
        return cls(1)

    def start(self, number: int, setting: bytes) -> Hand:
        hand = Here(number, fatal=self.fatal)
        if self.starts:
            hand.send(setting)
        else:
            hand.answers.append(None)
        self.all.append(hand)
        return hand

    def heard(self, hands: Sequence[Hand], seconds: float) -> list[Hand]:
        return [hand for hand in hands if isinstance(hand, Here) and hand.answers][:1]
