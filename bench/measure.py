"""Time and memory of a stage, on the device that the work runs on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def drain(device: str) -> None:
    """Wait until a GPU has done what it was given, so that a stage owns its work."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


class Stopwatch:
    """Seconds by stage; on a GPU the device is drained at both ends of a stage."""

    def __init__(self, device: str):
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        drain(self.device)
        begun = time.perf_counter()
        try:
            yield
        finally:
            drain(self.device)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun


def reset_peak(device: str) -> None:
    """Start a new peak where the allocator can (CUDA); a process's own peak only ever rises."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


PROCESS = "process peak (CPU)"
"""A process's largest memory since its start: whatever ran before is in it, so it compares no two methods."""


def peak(device: str) -> tuple[int, str]:
    """Peak bytes and what they measure: the CUDA allocator's since `reset_peak`, or the process's since its start."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device)), "CUDA allocator"
    import resource

    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo, PROCESS
