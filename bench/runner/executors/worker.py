"""A worker: it is given its setting, then recipes and tasks, and answers each; it ends when its driver does.

`python -m bench.runner.executors.worker FD` is a worker of `local`, which speaks over the connection with that file
descriptor; an actor of Ray holds the same `Worker`. Messages are pickles between processes of one run, and nothing
else ever writes them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import plugins
from bench.errors import BenchError, UserError, masked
from bench.runner.executors.base import Bench, Recipe

REST = b"rest"
"""A message: close the station."""


@dataclass(frozen=True)
class Setting:
    """What a worker has to have before it can open stations. Plain data, for nothing of a plugin is known before."""

    plugins: tuple[tuple[str, bytes], ...] = ()
    """The files that `--plugin` names, with their content."""
    suite: dict[str, Any] | None = None
    """The suite whose settings of models and scorers hold."""
    threads: int | None = None
    """CPU threads of torch; None: as many as it takes."""
    code: str = ""
    """Digest of the code that every image goes through, which a worker has to share; empty: it is not asked."""


class Failure(Exception):
    """An error of a worker's code that is no BenchError: its words are the worker's traceback."""

    of_plugin: str | None = None
    """What `bench.runner.faults.of_plugin` says of it in the worker, which has the frames."""


class Worker:
    """The worker's side: one message after the other."""

    def __init__(self, setting: bytes) -> None:
        self.bench = Bench()
        self.left = contextlib.ExitStack()
        self.recipe: tuple[bytes, Recipe] | None = None
        self.problem: bytes | None = None
        try:
            self._settle(pickle.loads(setting))
        except BaseException as error:
            self.problem = failed(error)

    def _settle(self, setting: Setting) -> None:
        from bench import identity
        from bench.suite import Suite

        if setting.code and setting.code != identity.loop().digest:
            raise UserError(
                f"a worker on {platform.node()} has other code than this process; install the same version on all "
                "machines"
            )
        if setting.threads:
            import torch

            torch.set_num_threads(setting.threads)
        for file, content in setting.plugins:
            plugins.load(self._placed(Path(file), content))
        if setting.suite is not None:
            self.left.enter_context(Suite.model_validate(setting.suite).configured())

    def _placed(self, file: Path, content: bytes) -> Path:
        """A plugin's file where it lies, or a copy of it on a machine where it does not."""
        with contextlib.suppress(OSError):
            if file.read_bytes() == content:
                return file
        copy = Path(self.left.enter_context(TemporaryDirectory(prefix="bench-plugin-"))) / file.name
        copy.write_bytes(content)
        return copy

    def answer(self, message: bytes) -> Callable[[], bytes]:
        """Do what a message asks for; returns what finishes the answer, beside the next message where that is safe."""
        if self.problem is not None:
            return lambda: self.problem or b""
        try:
            if message == REST:
                self.bench.clear()
                return lambda: packed(None)
            packed_recipe, task = pickle.loads(message)
            if self.recipe is None or self.recipe[0] != packed_recipe:
                self.recipe = packed_recipe, pickle.loads(packed_recipe)
            finish = self.bench.at(self.recipe[1]).do(pickle.loads(task))
        except BaseException as error:
            return partial(bytes, failed(error))
        return lambda: _finished(finish)

    def beside(self) -> bool:
        """Whether answers are finished beside the next message, as on a GPU."""
        return self.recipe is not None and self.recipe[1].device.startswith("cuda")


def _finished(finish: Callable[[], Any]) -> bytes:
    try:
        return packed(finish())
    except BaseException as error:
        return failed(error)


def packed(result: Any) -> bytes:
    """A result as an answer."""
    return pickle.dumps((True, result), protocol=pickle.HIGHEST_PROTOCOL)


def failed(error: BaseException) -> bytes:
    """An error as an answer: a BenchError as it is, any other as its traceback."""
    if not isinstance(error, BenchError):
        from bench.runner.faults import of_plugin

        found = Failure(masked("".join(traceback.format_exception(error))))
        found.of_plugin = of_plugin(error)
        error = found
    error.__traceback__ = error.__cause__ = error.__context__ = None
    answer = pickle.dumps((False, error), protocol=pickle.HIGHEST_PROTOCOL)
    try:
        pickle.loads(answer)
    except Exception:  # it is made of more than its words
        kind = UserError if getattr(error, "exit_code", None) == UserError.exit_code else BenchError
        answer = pickle.dumps((False, kind(str(error))), protocol=pickle.HIGHEST_PROTOCOL)
    return answer


# The process of `local` ----------------------------------------------------------------------------------------------


def main(descriptor: int) -> int:
    """Answer the messages of a connection until it says `b""`; ended at once where its other end is gone."""
    connection = Connection(descriptor)
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, inbox), daemon=True).start()
    worker = Worker(inbox.get())
    connection.send_bytes(worker.problem or packed("ready"))
    with worker.left, ThreadPoolExecutor(1) as pool:
        while message := inbox.get():
            finish = worker.answer(message)
            # One thread sends, so that answers keep the order of their messages.
            sent = pool.submit(_answer, connection, finish)
            if not worker.beside():
                sent.result()
        worker.bench.clear()
    return 0


def _answer(connection: Connection, finish: Callable[[], bytes]) -> None:
    connection.send_bytes(finish())


def _receive(connection: Connection, inbox: queue.SimpleQueue[bytes]) -> None:
    """Take messages in, also while a task is done: the driver never waits for that, and its end is noticed."""
    while True:
        try:
            inbox.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
