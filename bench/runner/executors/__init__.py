"""Who makes images and scores: this process, worker processes, or actors of Ray; and which of them a run takes.

`base` has the protocol, `fleet` hands tasks to workers, `worker` is the worker. A kind of worker is one file with a
class that `executor` names. Imports neither torch nor Ray.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from bench import identity, plugins, registry
from bench.errors import UserError, nearest

if TYPE_CHECKING:
    from bench.runner.executors.base import Executor
    from bench.runner.executors.fleet import Fleet
    from bench.runner.executors.worker import Setting
    from bench.suite import Suite

K = TypeVar("K", bound="type[Fleet]")

AUTO: Literal["auto"] = "auto"


@dataclass(frozen=True)
class Wanted:
    """What the user asks for, as the options of `run` have it."""

    executor: str | None = None
    """None: `local`."""
    workers: int | Literal["auto"] | None = None
    """None: none on a GPU, `auto` on a CPU and with Ray."""
    gpus_per_worker: float | None = None
    ray_address: str | None = None


_kinds: dict[str, type[Fleet]] = {}


def executor(name: str) -> Callable[[K], K]:
    """Class decorator that gives a kind of worker its name for `--executor`."""
    file = str(sys._getframe(1).f_globals.get("__file__"))

    def add(kind: K) -> K:
        known = _kinds.get(name)
        if known is not None and known.__module__ != kind.__module__:
            raise UserError(f"two executors are named {name!r} (of {known.__module__} and {file}); rename one")
        _kinds[name] = kind
        registry.beside.add(file)
        return kind

    return add


def get(name: str) -> type[Fleet]:
    """The kind of worker of that name; an unknown name is a UserError with the nearest known one."""
    _discover()
    if name not in _kinds:
        raise UserError(f"--executor: unknown executor {name!r}{nearest(name, _kinds)}")
    return _kinds[name]


@cache
def _discover() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def opened(
    wanted: Wanted,
    *,
    device: str,
    threads: int | None = None,
    suite: Suite | None = None,
    models: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> Executor:
    """The executor for what is wanted on a device; UserError for what cannot be had.

    `suite` is the one whose settings hold; `models` and `metrics` are those that work. On a CPU a worker has one thread
    unless `threads` says otherwise. Without any wish on a CPU it is `Thrifty` where models are small; otherwise this
    process, as it is on a GPU.
    """
    from bench.runner.executors import thrifty
    from bench.runner.executors.base import InProcess

    kind = get(wanted.executor or "local")
    _check(wanted, device)
    here = None if suite is None else next(of_session(suite), None)
    if wanted.executor in (None, "local"):
        if device == "cpu" and wanted.workers in (None, AUTO):
            return thrifty.chosen(models, metrics, suite, threads, kind, alone=here is not None)
        if wanted.workers == AUTO:
            wanted = replace(wanted, workers=_gpus(wanted.gpus_per_worker or 1.0))
        if wanted.workers in (None, 0, 1):
            return InProcess(threads=threads or (1 if device == "cpu" and wanted.workers == 1 else None))
    if here is not None:
        raise UserError(
            f"{here} is defined in this session, and workers cannot load it; put it into a file and name that as a "
            "plugin, or give --workers 1 without --executor"
        )
    return kind.opened(wanted, setting(suite, threads or (1 if device == "cpu" else None)), device=device)


def _check(wanted: Wanted, device: str) -> None:
    spread = wanted.executor not in (None, "local") or wanted.workers not in (None, 0, 1)
    if ":" in device and spread:
        raise UserError(f"--device {device} is one GPU, and workers need one each; give --device cuda")
    if wanted.gpus_per_worker is not None and (device == "cpu" or wanted.gpus_per_worker <= 0):
        raise UserError(f"--gpus-per-worker {wanted.gpus_per_worker:g}: expected a number above 0, with --device cuda")
    if wanted.ray_address is not None and wanted.executor != "ray":
        raise UserError("--ray-address is for --executor ray; give that too")


def _gpus(each: float) -> int:
    """Workers that this machine has GPUs for."""
    import torch

    return max(1, int(torch.cuda.device_count() / each))


def setting(suite: Suite | None, threads: int | None) -> Setting:
    """What workers of a run have to have."""
    from pathlib import Path

    from bench.runner.executors.worker import Setting

    files = tuple((file, Path(file).read_bytes()) for file in plugins.files())
    kept = None if suite is None else suite.model_dump(mode="json")
    return Setting(files, kept, threads, identity.loop().digest)


def of_session(suite: Suite) -> Iterator[str]:
    """What a suite uses that only this process has, such as a notebook's method, in words."""
    used: list[tuple[str, str]] = [("models", name) for name in suite.models]
    used += [("samplers", name) for name in suite.samplers]
    used += [("methods", link.use) for spec in suite.methods for link in spec.chain]
    used += [("metrics", name) for name in suite.metrics]
    for kind, name in used:
        if is_of_session(kind, name):
            yield f"{kind.rstrip('s')} {name!r}"


def is_of_session(kind: str, name: str) -> bool:
    """Whether a plugin is neither of a package nor of a file that another process can load."""
    source = registry.of_this_process(kind, name)
    return source is not None and source not in plugins.files()


def described(executor: Any) -> str:
    """An executor in words, for a session's record."""
    n = executor.workers
    return f"{executor.name}, {n} worker{'s' * (n != 1)}" if n else "in this process"
