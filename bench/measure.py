"""Time, memory and denoiser calls of a batch, stage by stage."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopwatch:
    """Seconds by stage; on a GPU the device is drained at both ends of a stage, so a stage owns its work."""

    def __init__(self, device: str):
        self.device = device
        self.seconds: dict[str, float] = {}

    def _drain(self) -> None:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._drain()
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._drain()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun


class ModelTime:
    """Seconds and calls inside a model's networks (denoiser, text encoders, VAE), by forward hooks.

    On a GPU a forward call returns before its work is done, so the seconds mean something on a CPU only.
    """

    def __init__(self, modules: dict[str, Any]):
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._begun: dict[str, float] = {}
        self._handles: list[Any] = []
        for role, module in modules.items():
            if role == "vae":
                self._wrap(role, module, "decode")
                continue
            self._handles.append(module.register_forward_pre_hook(lambda m, a, r=role: self._start(r)))
            self._handles.append(module.register_forward_hook(lambda m, a, o, r=role: self._stop(r)))

    def _wrap(self, role: str, module: Any, name: str) -> None:
        """`vae.decode` is a method, not a forward call; hooks do not see it."""
        inner = getattr(module, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._start(role)
            try:
                return inner(*args, **kwargs)
            finally:
                self._stop(role)

        setattr(module, name, timed)
        self._handles.append(_Unwrap(module, name))

    def _start(self, role: str) -> None:
        self._begun[role] = time.perf_counter()

    def _stop(self, role: str) -> None:
        self.seconds[role] = self.seconds.get(role, 0.0) + time.perf_counter() - self._begun[role]
        self.calls[role] = self.calls.get(role, 0) + 1

    def close(self) -> None:
        """Take the hooks off again."""
        for handle in self._handles:
            handle.remove()


class _Unwrap:
    def __init__(self, module: Any, name: str):
        self.module, self.name = module, name

    def remove(self) -> None:
        delattr(self.module, self.name)


def reset_peak(device: str) -> None:
    """Start a new peak where the allocator can (CUDA); a process's own peak only ever rises."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> tuple[int, str]:
    """Peak bytes and what they measure: the CUDA allocator's since `reset_peak`, or the process's since its start."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated()), "CUDA allocator"
    import resource

    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo, "process peak (CPU)"
