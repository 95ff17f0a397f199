"""What a result was made with: code, versions, hardware, weights, command line."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import __version__
from bench.errors import masked, masked_word

PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "numpy", "scipy", "pillow", "pydantic")


_call: ContextVar[str | None] = ContextVar("call", default=None)

UNCOMMITTED = " with uncommitted changes"


def packages() -> dict[str, str | None]:
    """Installed versions of what can move a result; None where a package is absent."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def commit() -> dict[str, Any]:
    """Commit and dirty flag of the checkout that the package runs from; None for an installed wheel."""
    found = _git("rev-parse", "HEAD")
    tracked = found and _git("ls-files", "--error-unmatch", Path(__file__).name)
    if not tracked:
        return {"commit": None, "dirty": None}
    return {"commit": found, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


@cache
def cpu() -> str:
    """The processor's model name and core count."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"


def hardware(device: str) -> str:
    """One line that latencies are only comparable within: device, and threads on a CPU."""
    import torch

    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    return f"{cpu()}, {torch.get_num_threads()} threads"


@cache
def origin() -> str:
    """What makes images now: the commit, and whether its code is changed; or the version of an installed package."""
    found = commit()["commit"]
    if not found:
        return f"version {__version__}"
    return f"commit {found[:12]}{UNCOMMITTED if _code_is_changed() else ''}"


def trusted() -> str:
    """The origin whose images a gate takes from the cache; none where code is not committed: no image has this one."""
    return "nothing cached" if origin().endswith(UNCOMMITTED) else origin()


def _code_is_changed() -> bool:
    """Whether the checkout's packages differ from their commit, new files included; also where git cannot say."""
    return _git("status", "--porcelain", "--untracked-files=all", "--", ".", "../npnet") != ""


@contextmanager
def called(call: str) -> Iterator[None]:
    """Within, this call of the Python API is the command that is recorded."""
    token = _call.set(call)
    try:
        yield
    finally:
        _call.reset(token)


def command() -> str:
    """The command line, or the call of the Python API, that this process was asked by, its secrets masked."""
    call = _call.get()
    return masked(call) if call else shlex.join(["python", "-m", "bench", *map(masked_word, sys.argv[1:])])


def collect(device: str, weights: dict[str, str], code: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything, for a session row and the report; `code` is what each plugin's code is, by its kind and name."""
    return {
        "version": __version__,
        **commit(),
        "command": command(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages(),
        "hardware": hardware(device),
        "cpu": cpu(),
        "device": device,
        "weights": weights,
        **({"code": dict(code)} if code else {}),
    }
