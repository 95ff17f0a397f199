"""Time and memory of a stage, on the device that the work runs on."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
        started = time.perf_counter()
        try:
            yield
        finally:
            drain(self.device)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def reset_peak(device: str) -> None:
    """Start a new peak where the allocator can (CUDA); a process's own peak only ever rises."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


PROCESS = "process peak (CPU)"
"""A process's largest memory since its start: whatever ran before is in it, so it compares no two methods."""


APART = "above the loaded model, in a process of its own (CPU)"
"""A stage's own largest resident memory (`Resident`), which compares methods."""


def peak(device: str) -> tuple[int, str]:
    """Peak bytes and what they measure: the CUDA allocator's since `reset_peak`, or the process's since its start."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device)), "CUDA allocator"
    import resource

    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo, PROCESS


# A stage's own resident memory ---------------------------------------------------------------------------------------

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
"""Environment in which glibc gives back what is freed: otherwise what warming up left behind hides a stage's need."""


class Resident:
    """The largest resident memory of each stage, in bytes above what the process used when this was made.

    Linux resets a process's peak (`VmHWM`, proc(5): 5 into clear_refs), so that a stage has its own. Elsewhere the peak
    of the whole process is a stage's own only where the stage raised it; otherwise it is unknown, None.
    """

    def __init__(self, *, resets: bool = True) -> None:
        """With `resets` False the process's peak is left as it is, as where it cannot be reset."""
        gc.collect()
        self.resets = resets and _reset()
        self.level = resident()
        """What was in use then."""
        self.peaks: dict[str, int | None] = {}
        """By stage."""
        self._before = 0

    def start(self) -> None:
        """A stage starts."""
        self._before = 0 if self.resets and _reset() else _largest()

    def stop(self, name: str) -> None:
        """It has ended; of several stages of one name the largest counts."""
        now = _status("VmHWM") if self.resets else _largest()
        found = max(now - self.level, 0) if now > self._before else None
        known = [one for one in (found, self.peaks.get(name)) if one is not None]
        self.peaks[name] = max(known, default=None)


def resident() -> int:
    """Resident memory of this process now, in bytes."""
    if _STATUS.exists():
        return _status("VmRSS")
    import os

    said = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True)
    return int(said.stdout) * 1024


def _status(name: str) -> int:
    """A number of the process's status, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _reset() -> bool:
    """Let the peak start from what is resident now; False where the system does not."""
    with suppress(OSError):
        _CLEAR.write_text("5")
        return True
    return False


def _largest() -> int:
    """The process's largest resident memory since its start, in bytes."""
    return peak("cpu")[0]
