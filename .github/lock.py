"""Prints the lock file of CI: one exact version of each package that the tests' environment has.

    python .github/lock.py [EXTRA ...] > .github/constraints.txt

Run it in the environment in which the tests passed. What is locked follows from the requirements of
`noisebench[test,docs]`, or of the extras that are given, and theirs, as installed; what else lies in the environment is
left out. The file that is committed is of both. No place is named, so any index serves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "noisebench"
EXTRAS = ("test", "docs")
HEAD = (
    "# Written by `python .github/lock.py`: exact versions for CI, which pip takes from PIP_CONSTRAINT.\n"
    "# Users are not bound by them: pyproject.toml says what the package needs.\n"
    "# python: {python}"
)


def locked(extras: Sequence[str] = EXTRAS) -> dict[str, str]:
    """Versions by name of all that the project and its extras need; ends with one line for what is not installed."""
    known = distribution(PROJECT).metadata.get_all("Provides-Extra") or []
    for extra in extras:
        if extra not in known:
            sys.exit(f"{PROJECT} has no extra {extra!r}; it has {', '.join(known)}")
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(PROJECT, extra) for extra in ("", *extras)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{name} is needed and not installed; pip install -e '.[{','.join(extras)}]'")
        if name != PROJECT:
            # A build's own label, as in 2.6.0+cpu, is of one index alone.
            found[name] = package.version.partition("+")[0]
        for line in package.requires or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(need.name), one) for one in ("", *need.extras)]
    return dict(sorted(found.items()))


if __name__ == "__main__":
    versions = locked(sys.argv[1:] or EXTRAS)
    print(HEAD.format(python=".".join(map(str, sys.version_info[:2]))))
    for name, version in versions.items():
        print(f"{name}=={version}")
