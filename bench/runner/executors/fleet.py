"""Workers of any kind, and the tasks among them: handed out in order, given back by workers that are lost.

A worker has at most two tasks, the one in work and, on a GPU, the next one; so what waits is bounded by the number of
workers. What a lost worker had goes to others. A task that loses its third worker is given up, and given out as `Lost`.
"""

from __future__ import annotations

import pickle
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from bench.errors import UserError
from bench.runner.executors.base import Executor, Lost, Recipe
from bench.runner.executors.worker import REST, Setting

if TYPE_CHECKING:
    from bench.runner.executors import Wanted

T = TypeVar("T")

TRIES = 3
"""Workers that a task may cost."""
MOST_LOST = 9
"""Workers lost one after the other, without a task done in between, before the run is stopped."""
WAIT_SECONDS = 1.0
SLOW_START_SECONDS = 60.0
"""After so long without a worker that is ready it is said what is waited for."""


@dataclass(eq=False)
class Sent:
    """A task on its way, and how many workers it has cost."""

    task: Any
    lost: int = 0


@dataclass(eq=False)
class Hand(ABC):
    """The driver's side of one worker. A kind of worker says how it is asked, heard and ended."""

    number: int
    place: int = 0
    """Its place among the workers at one time, for a kind that gives out something by it."""
    ready: bool = False
    """Whether it has answered its setting."""
    waiting: deque[Sent] = field(default_factory=deque)
    """What it was given and has not answered; the first is in work."""

    @abstractmethod
    def send(self, message: bytes) -> None:
        """Give it a message, without waiting for an answer; a worker that is gone is noticed when it is heard."""

    @abstractmethod
    def receive(self) -> bytes | None:
        """Its next answer, which is there; None where it is lost."""

    @abstractmethod
    def end(self) -> str:
        """End it, whatever it does; how it had ended where it was lost, in words."""


class Fleet(Executor):
    """Workers of one kind. A kind gives `start` and `heard`."""

    def __init__(self, workers: int, setting: Setting):
        self._workers, self.setting, self.threads = workers, setting, setting.threads
        self.hands: list[Hand] = []
        self.started = 0
        """Workers started so far."""
        self.lost = 0
        """Workers lost since a task was done."""

    @property
    def workers(self) -> int:
        return self._workers

    @classmethod
    @abstractmethod
    def opened(cls, wanted: Wanted, setting: Setting, *, device: str) -> Fleet:
        """The executor for what is wanted; UserError for what cannot be had. `device` is `cpu` or `cuda`."""

    @abstractmethod
    def start(self, number: int, setting: bytes) -> Hand:
        """A new worker with this setting, the number-th of all; its first answer is to the setting."""

    @abstractmethod
    def heard(self, hands: Sequence[Hand], seconds: float) -> list[Hand]:
        """Those that have an answer, or are lost; none after so many seconds."""

    # Running tasks ---------------------------------------------------------------------------------------------------

    def run(self, recipe: Recipe, tasks: Iterable[T], *, price: float = 0.0) -> Iterator[tuple[T, Any]]:
        given = pickle.dumps(recipe, protocol=pickle.HIGHEST_PROTOCOL)
        most = 2 if recipe.device.startswith("cuda") else 1
        rest, back = iter(tasks), deque[Sent]()
        whole = False
        try:
            while True:
                self._hand_out(given, rest, back, most)
                if not back and not any(hand.waiting for hand in self.hands):
                    break
                for hand in self._heard():
                    yield from self._done(hand, back)
            whole = True
        finally:
            if not whole:  # results of what is in work are not wanted
                self._let_go([hand for hand in self.hands if hand.waiting])

    def _hand_out(self, recipe: bytes, rest: Iterator[Any], back: deque[Sent], most: int) -> None:
        """Give tasks to workers that have room, first to those that have none; start workers while there are tasks."""
        for room in range(most):
            for hand in [one for one in self.hands if one.ready and len(one.waiting) <= room]:
                sent = back.popleft() if back else _next(rest)
                if sent is None:
                    return
                self._give(hand, recipe, sent)
        while len(self.hands) < self.workers:
            starting = sum(not hand.ready for hand in self.hands)
            while len(back) <= starting and (sent := _next(rest)):
                back.append(sent)
            if len(back) <= starting:
                return
            self._start()

    def _give(self, hand: Hand, recipe: bytes, sent: Sent) -> None:
        hand.send(pickle.dumps((recipe, pickle.dumps(sent.task, protocol=pickle.HIGHEST_PROTOCOL))))
        hand.waiting.append(sent)

    def _start(self) -> None:
        self.started += 1
        self.hands.append(self.start(self.started, pickle.dumps(self.setting)))

    def _heard(self) -> list[Hand]:
        """Workers that have something to say, waited for; a word where none of them gets ready."""
        started, said = time.monotonic(), False
        ready = any(hand.ready for hand in self.hands)
        while True:
            busy = [hand for hand in self.hands if hand.waiting or not hand.ready]
            found = self.heard(busy, WAIT_SECONDS)
            if found:
                self.start_seconds += 0.0 if ready else time.monotonic() - started
                return found
            if not said and not any(hand.ready for hand in busy) and time.monotonic() - started > SLOW_START_SECONDS:
                said = True
                print(f"waiting for {self.workers} workers: {self.what_is_waited_for()}", file=sys.stderr)

    def what_is_waited_for(self) -> str:
        """Why a worker may take long to start."""
        return "they load the libraries"

    def _done(self, hand: Hand, back: deque[Sent]) -> Iterator[tuple[Any, Any]]:
        """What a worker has to say: a result, an error, which is raised, or nothing any more."""
        answer = hand.receive()
        if answer is None:
            yield from self._lost(hand, back)
            return
        fine, result = pickle.loads(answer)
        if not fine:
            raise result
        if not hand.ready:
            hand.ready = True
            return
        self.lost = 0
        yield hand.waiting.popleft().task, result

    def _lost(self, hand: Hand, back: deque[Sent]) -> Iterator[tuple[Any, Any]]:
        """Take back what a lost worker had; another is started when there is something for it to do."""
        how = hand.end()
        self.hands.remove(hand)
        self.lost += 1
        self._check_lost(hand, how)
        in_work = hand.waiting.popleft() if hand.waiting else None
        back.extendleft(reversed(hand.waiting))
        if in_work is None:
            return
        in_work.lost += 1
        if in_work.lost < TRIES:
            print(f"worker {hand.number} was lost ({how}); its batch goes to another", file=sys.stderr)
            back.appendleft(in_work)
            return
        yield in_work.task, Lost(f"{TRIES} workers were lost in its batch, the last one so: {how}")

    def _check_lost(self, hand: Hand, how: str) -> None:
        """UserError where workers do nothing but end."""
        if not hand.ready and self.lost >= TRIES:
            raise UserError(f"workers do not start: {how}; try fewer (--workers), or --workers 1 for none")
        if self.lost >= MOST_LOST:
            raise UserError(
                f"{self.lost} workers were lost one after the other, the last one so: {how}; memory may not suffice "
                "for so many: try fewer (--workers), or --workers 1 for none; what is finished is kept"
            )

    # Ending workers --------------------------------------------------------------------------------------------------

    def rest(self) -> None:
        for hand in self.hands:
            if hand.ready:
                hand.send(REST)
                hand.waiting.append(Sent(None))
        while any(hand.waiting for hand in self.hands):
            for hand in self.heard([hand for hand in self.hands if hand.waiting], WAIT_SECONDS):
                if hand.receive() is None:
                    self._let_go([hand])
                else:
                    hand.waiting.clear()

    def close(self) -> None:
        self._let_go(list(self.hands))

    def _let_go(self, hands: Sequence[Hand]) -> None:
        for hand in hands:
            hand.end()
            self.hands.remove(hand)


def _next(rest: Iterator[Any]) -> Sent | None:
    for task in rest:
        return Sent(task)
    return None
