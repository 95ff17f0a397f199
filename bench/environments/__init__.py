"""Environments of their own for packages that pin old libraries: one lock file each, beside this file.

A lock file is a list of exact versions that pip installs without asking for dependencies, so it is complete, and so a
package's own pins, which clash with one another, are not asked for either. Its head says for which Pythons it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from bench.errors import UserError, nearest

LOCKS = Path(__file__).parent
_PYTHONS = re.compile(r"^# python: (.+)$", re.MULTILINE)
_FOUND = re.compile(r"^(Collecting|Requirement already satisfied:|Processing) (\S+)")
"""The lines by which pip says that it has come to a package."""
_INSTALLING = "Installing collected packages"
"""What pip says once it has them all, and the last that it says before it is done."""
_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Environment:
    """A named environment in a folder; it may not be made yet."""

    name: str
    folder: Path
    """Of this environment alone: its name has the lock file's digest, so another lock file is another folder."""

    @property
    def lock(self) -> Path:
        return LOCKS / f"{self.name}.txt"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def mark(self) -> Path:
        """The file that is written last: an environment with it is whole."""
        return self.folder / "environment.json"

    @property
    def made(self) -> bool:
        """Whether it is whole."""
        return self.mark.is_file() and self.python.exists()

    def check(self) -> None:
        """UserError unless it is whole."""
        if not self.made:
            state = "incomplete" if self.folder.exists() else "not made"
            raise UserError(
                f"environment {self.name!r} is {state} ({self.folder}): python -m bench env make {self.name}; "
                "BENCH_ENVIRONMENTS names another place for all of them"
            )


def default_folder() -> Path:
    """`BENCH_ENVIRONMENTS`, else `~/.cache/noisebench/environments`."""
    given = os.environ.get("BENCH_ENVIRONMENTS")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "noisebench" / "environments"


def names() -> list[str]:
    """Sorted names of the environments that there are lock files for."""
    return sorted(path.stem for path in LOCKS.glob("*.txt"))


def lock_digest(name: str) -> str:
    """16 hex digits of what a lock file asks for: neither comments nor the order of lines count."""
    return _digest("\n".join(sorted(requirements(name))))


@cache
def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def requirements(name: str) -> list[str]:
    """The lines of a lock file that ask for something."""
    lines = (line.strip() for line in _lock(name).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def pinned(name: str) -> dict[str, str]:
    """Versions by package, names in lower case with hyphens, that a lock file asks for."""
    lines = (line.partition(";")[0].partition("==") for line in requirements(name))
    return {package.strip().lower().replace("_", "-"): version.strip() for package, _, version in lines}


def _lock(name: str) -> str:
    if name not in names():
        raise UserError(f"unknown environment {name!r}{nearest(name, names())}")
    return (LOCKS / f"{name}.txt").read_text(encoding="utf-8")


def find(name: str, folder: Path | None = None) -> Environment:
    """An environment by name, below a folder; UserError for a name without a lock file."""
    digest = lock_digest(name)
    return Environment(name, (folder or default_folder()).resolve() / f"{name}-{digest[:12]}")


def listed(folder: Path | None = None) -> Iterator[str]:
    """A line an environment: its name, whether it is made, how large it is, where."""
    for name in names():
        one = find(name, folder)
        state = "made" if one.made else "incomplete" if one.folder.exists() else "not made"
        size = f", {_size(one.folder) / 1e6:.0f} MB" if one.folder.exists() else ""
        yield f"{name:14} {state}{size}; {len(requirements(name))} packages, lock {lock_digest(name)}; {one.folder}"


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


# Making --------------------------------------------------------------------------------------------------------------

Advance = Callable[[Literal["found", "installed"], int], None]
"""Called with how many more packages were found, downloads included, or installed."""


def make(name: str, folder: Path | None, *, python: str | None, advance: Advance) -> Environment:
    """Make an environment, or finish one that was started.

    uv does it where it is installed, else this Python's own venv and pip. UserError where it fails; what was
    installed stays, and the same command resumes from there.
    """
    one = find(name, folder)
    if one.made:
        return one
    interpreter = python or sys.executable
    _check_python(name, interpreter)
    try:
        one.folder.mkdir(parents=True, exist_ok=True)
        _install(one, interpreter, advance)
        about = {"name": name, "lock": lock_digest(name), "python": _version(str(one.python))}
        part = one.mark.with_suffix(".part")
        part.write_text(json.dumps(about, indent=1) + "\n")
        part.replace(one.mark)
    except OSError as error:
        raise UserError(f"{error.filename or one.folder}: {error.strerror}; give another --dir") from error
    return one


def _install(one: Environment, interpreter: str, advance: Advance) -> None:
    # Line by line, so that a make that is cut off leaves what was said.
    with (one.folder / "install.log").open("a", encoding="utf-8", buffering=1) as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"environment {one.name!r} is being made by another process; wait for it") from error
        log.truncate(0)
        for command in _commands(one, interpreter):
            watch = _Watch(one, advance)
            try:
                code, said = _followed(command, log.write, advance, watch.begin)
            finally:
                watch.end()
            if code:
                raise UserError(
                    f"environment {one.name!r} could not be made: {said}; see {log.name}; run it again to resume"
                )


def _check_python(name: str, interpreter: str) -> None:
    found = _PYTHONS.search(_lock(name))
    wanted = found.group(1).split() if found else []
    have = _version(interpreter)
    if wanted and have.rpartition(".")[0] not in wanted:
        raise UserError(
            f"environment {name!r} is for Python {' or '.join(wanted)}, and {interpreter} is {have}; give --python PATH"
        )


def _version(interpreter: str) -> str:
    """An interpreter's version, as 3.11.7."""
    ask = [interpreter, "-c", "import platform; print(platform.python_version())"]
    try:
        return subprocess.run(ask, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"{interpreter}: no Python that can be run ({type(error).__name__})") from error


def _commands(one: Environment, interpreter: str) -> Iterator[list[str]]:
    """What makes it; each command finds done what it did before."""
    uv = shutil.which("uv")
    if uv:
        yield [uv, "venv", "--allow-existing", "--python", interpreter, str(one.folder)]
        yield [uv, "pip", "install", "--python", str(one.python), "--no-deps", "-r", str(one.lock)]
        return
    yield [interpreter, "-m", "venv", str(one.folder)]
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    yield [str(one.python), "-m", "pip", "install", *quiet, "--no-deps", "-r", str(one.lock)]


class _Watch:
    """Counts what is installed, from `begin` to `end`: pip says nothing while it unpacks gigabytes."""

    def __init__(self, one: Environment, advance: Advance) -> None:
        self.one, self.advance, self.seen = one, advance, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        self.thread.start()

    def end(self) -> None:
        """Count once more and stop; nothing where it was never started."""
        self.over.set()
        if self.thread.ident is not None:
            self.thread.join()
            self._look()

    def _run(self) -> None:
        while not self.over.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        now = _installed(self.one)
        if now > self.seen:
            self.advance("installed", now - self.seen)
            self.seen = now


def _installed(one: Environment) -> int:
    """How many of the lock file's packages are there: the list of its files is what pip writes last of a package."""
    wanted = pinned(one.name)
    found = 0
    for record in one.folder.glob("lib/python*/site-packages/*.dist-info/RECORD"):
        package, _, version = record.parent.stem.rpartition("-")
        found += wanted.get(package.lower().replace("_", "-")) == version
    return found


def _followed(
    command: list[str], keep: Callable[[str], object], advance: Advance, installing: Callable[[], None]
) -> tuple[int, str]:
    """Run a command, keep what it says, and return its code with the line that says best why it failed."""
    last, errors = "", []
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
        text=True, encoding="utf-8", errors="replace",
    ) as running:  # fmt: skip
        assert running.stdout is not None
        for line in running.stdout:
            keep(line)
            last = line.strip() or last
            if line.startswith(("ERROR:", "error:")) or "╰─▶" in line:
                errors.append(line.strip(" ╰─▶\n"))
            if _FOUND.match(line):
                advance("found", 1)
            if line.startswith(_INSTALLING):
                installing()
            if line.startswith(" + "):  # uv, once it has installed them all
                advance("installed", 1)
    # uv explains below its first line, pip sums up below its own.
    said = next((one for one in errors if not one.startswith("error: No solution")), last)
    return running.returncode, said[:300]
