"""The identity of code: which modules decide pixels or scores, and their digest for a plugin. Imports no plugin.

A method, an adapter, a sampler, a metric and a prompt reader have the digest of the module that defines them and of
those that it imports from its own package, as far as they count. For code of this project DECIDES and ASIDE say what
counts; of another package every module does, and of a file that no package brings those that it imports beside it.
What a notebook defines counts by its definition (`interactive`). What all images go through has a digest of its own,
`loop`.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from bench.identity import interactive
from bench.identity.deciding import ALONE, ASIDE, CATALOGUES, DECIDES, LOOP, counts
from bench.identity.files import (
    LIBRARIES,
    Place,
    distribution_of,
    file_name,
    is_loose,
    is_own,
    kept,
    module_of,
    named,
    owner,
    packages_of,
    parts_of,
    place_now,
    source_of,
    stat,
    top_of,
    version_of,
)
from bench.identity.source import OWN, Part
from bench.registry import NOTEBOOK

__all__ = [
    "ALONE",
    "ASIDE",
    "CATALOGUES",
    "DECIDES",
    "LOOP",
    "Code",
    "counts",
    "imported",
    "is_own",
    "joined",
    "loop",
    "named",
    "of",
    "owner",
    "without_code",
]

PROJECT = "noisebench"
_MARK = "+code:"

_defined: dict[str, Part] = {}
"""What a notebook defines, by the root that stands for it."""
_codes: dict[tuple[Any, ...], tuple[dict[str, Place | None], Code]] = {}
"""What was found by what was asked, with the files as they were then."""


@dataclass(frozen=True)
class Code:
    """What pins the code of a plugin."""

    digest: str
    """16 hex digits; of the distribution's version where there is no source."""
    modules: tuple[str, ...] = ()
    """All that count, by name."""
    distribution: str | None = None
    """The package that brings it; the file's name where none does."""
    version: str | None = None
    unread: tuple[str, ...] = ()
    """Modules without source, such as compiled ones: the version stands for them."""

    def record(self) -> dict[str, Any]:
        """As the provenance has it."""
        found: dict[str, Any] = {"digest": self.digest, "distribution": self.distribution, "version": self.version}
        return found | ({"without_source": list(self.unread)} if self.unread else {})


def loop() -> Code:
    """The code that every image goes through."""
    return _code(LOOP, skip=())


def of(thing: Any) -> Code | None:
    """The code of a class, a function, a record that holds some, or several; None where there is none, as in data."""
    roots = tuple(dict.fromkeys(_roots(thing)))
    return _code(roots, skip=loop().modules) if roots else None


def joined(identity: str, code: Code | None) -> str:
    """An identity with the digest of code, as scorers have it."""
    return identity if code is None else f"{identity}{_MARK}{code.digest}"


def without_code(digest: str) -> str:
    """The part of a scorer's digest that says weights, settings and version."""
    return digest.rpartition(_MARK)[0] or digest


# Which modules -------------------------------------------------------------------------------------------------------


def _roots(thing: Any, depth: int = 4) -> Iterator[str]:
    """Where the code of a thing stands, as `module` or `module:definition`."""
    if depth == 0 or thing is None:
        return
    if isinstance(thing, tuple):
        for one in thing:
            yield from _roots(one, depth)
    elif isinstance(thing, type):
        yield from (_place_of(c) for c in thing.__mro__ if _is_code(c.__module__))
    elif isinstance(thing, functools.partial):
        for one in (thing.func, *thing.args, *thing.keywords.values()):
            yield from _roots(one, depth - 1)
    elif callable(getattr(thing, "__func__", None)):
        yield from _roots(thing.__func__, depth - 1)
        yield from _roots(thing.__self__ if isinstance(thing.__self__, type) else type(thing.__self__), depth - 1)
    elif hasattr(thing, "__code__"):
        if _is_code(thing.__module__):
            yield _place_of(thing)
        for cell in thing.__closure__ or ():
            content = cell.cell_contents if _is_filled(cell) else None
            if isinstance(content, type | functools.partial) or hasattr(content, "__code__"):
                yield from _roots(content, depth - 1)
    elif is_dataclass(thing):
        yield from _roots(type(thing), depth - 1)
        for name in (f.name for f in fields(thing)):
            if callable(value := getattr(thing, name)):
                yield from _roots(value, depth - 1)
    elif callable(thing):
        yield from _roots(type(thing), depth - 1)


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _is_code(module: str) -> bool:
    """Whether a module is a plugin's, and neither a library's nor one of ours that decides nothing."""
    top = module.partition(".")[0]
    if top in OWN:
        return counts(module) or any(module == n or module.startswith(f"{n}.") for n in ALONE)
    return top not in LIBRARIES and top not in sys.stdlib_module_names


def _place_of(thing: Any) -> str:
    module, name = str(thing.__module__), str(thing.__qualname__)
    if module == NOTEBOOK:
        part = interactive.part(thing)
        root = f"{NOTEBOOK}:{name} {part.digest}"
        _defined[root] = part
        return root
    return f"{module}:{name}" if module in CATALOGUES and "<" not in name else module


# Their digest --------------------------------------------------------------------------------------------------------


def _code(roots: tuple[str, ...], *, skip: tuple[str, ...]) -> Code:
    """The digest of roots and of all that counts among what they import, each once."""
    tops = {name.partition(":")[0].partition(".")[0] for name in roots} - {*OWN}
    key = (roots, skip, tuple(top_of(name)[0] for name in sorted(tops)))
    before = _codes.get(key)
    if before is None or any(stat(path) != place for path, place in before[0].items()):
        before = _codes[key] = _read(roots, skip)
    return before[1]


def _read(roots: tuple[str, ...], skip: tuple[str, ...]) -> tuple[dict[str, Place | None], Code]:
    """(the files that were read, what they are)."""
    theirs = {name.partition(":")[0].partition(".")[0] for name in roots} - {*OWN}
    distribution = distribution_of(min(theirs)) if theirs else PROJECT
    version = version_of(distribution)
    beside = theirs | (packages_of(distribution) if theirs and distribution else set())
    digests: dict[str, str] = {}
    files: dict[str, Place | None] = {}
    unread: list[str] = []
    todo = list(roots)
    while todo:
        name = todo.pop()
        module, _, definition = name.partition(":")
        if name in digests or module in digests or (name not in roots and module in skip):
            continue
        if name in _defined:
            digests[name] = _defined[name].digest
            todo += _followed(_defined[name], beside, loose=distribution is None)
            continue
        parts = parts_of(module)
        if parts is None:
            digests[name] = f"{distribution} {version}"
            unread.append(module)
            continue
        path = (source_of(module) or ("",))[0]
        files[path] = stat(path)
        part: Part = parts.get(definition) or parts[""]
        digests[name] = " ".join([part.digest, *imported(part)])
        todo += _followed(part, beside, loose=distribution is None)
    kept.save()
    # Without names: code that moves within this project is the same code.
    whole = hashlib.sha256("\n".join(sorted(digests.values())).encode()).hexdigest()[:16]
    brought_by = distribution or file_name(min(theirs))
    return files, Code(whole, tuple(sorted(digests)), brought_by, version, tuple(unread))


def imported(part: Part) -> Iterator[str]:
    """The digests of what a part imports of this project and what counts: another thing of the same name is not it."""
    for one in map(place_now, part.imports):
        module = module_of(one)
        if module and module.partition(".")[0] in OWN and counts(module):
            parts = parts_of(module) or {}
            found = parts.get(one.removeprefix(module).lstrip(".")) or parts.get("")
            yield found.digest if found else ""


def _followed(part: Part, beside: set[str], *, loose: bool) -> Iterator[str]:
    """The modules that a part imports and that count; `loose` ones too: those that no package has installed."""
    for one in map(place_now, part.imports):
        module = module_of(one)
        top = (module or "").partition(".")[0]
        if module and (counts(module) if top in OWN else top in beside or (loose and is_loose(top))):
            yield module
