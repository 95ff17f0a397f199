"""Source files as what decides their behaviour: a digest of the syntax tree, and the modules that they import.

Two files that differ in white space, comments, docstrings, type-checking imports, the words of an error, or a plugin's
description have one digest. So do two files of this project that import the same things of it, wherever those lie:
`bench.identity` counts what is imported by its content. The digest is of our own writing of the tree, not of
`ast.dump`'s, which other versions of Python write otherwise. A tree takes 50 ms a thousand lines, so what was found is
kept beside the image cache by the file's sha256.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.store import write_atomically
from bench.store.cache import default_folder

OWN = ("bench", "npnet")
"""The packages of this project."""
FORMAT = 3
"""Raised where the digest of the same file becomes another one."""
DESCRIBING = frozenset({"about", "source", "cost", "title"})
"""Class attributes that are words for people where they are set to a plain string."""
ROWS = frozenset(
    {"ModelEntry", "MetricEntry", "Sampler", "NamedWeights", "PromptSet", "add_plugin", "entry", "set_entry"}
)
"""Calls that make a row of a catalogue: what decides in a row is in the ids that it is asked for."""
REPORTING = frozenset({"metadata_key", "categories", "category", "overall"})
"""Of such a call, what says which prompts a metric judges and how its scores are summed up, and decides none."""


class Part(NamedTuple):
    """A file, or one definition in it."""

    digest: str
    imports: tuple[str, ...]
    """Absolute names as they are written: of modules, or of things in them."""


Parts = dict[str, Part]
"""The whole file under "", and its functions and classes by qualified name."""


def parse(data: bytes, module: str, *, package: bool, rows: bool) -> Parts:
    """A file's parts; SyntaxError where it is no Python. `rows`: catalogue rows at its top do not count."""
    tree = ast.parse(data)
    base = module if package else module.rpartition(".")[0]
    body = [one for one in tree.body if not (rows and _is_row(one))]
    found = {"": _part(body, base)}
    for one in tree.body:
        if isinstance(one, ast.FunctionDef | ast.ClassDef):
            found[one.name] = _part([one], base)
        for inner in one.body if isinstance(one, ast.ClassDef) else ():
            if isinstance(inner, ast.FunctionDef):
                found[f"{one.name}.{inner.name}"] = _part([inner], base)  # type: ignore[attr-defined]
    return found


def _part(body: Iterable[ast.stmt], base: str) -> Part:
    words: list[str] = []
    imports: dict[str, str] = {}
    for one in body:
        _write(one, words, imports, base)
    if own := sorted(bound for name, bound in imports.items() if _is_own(name) and _is_own(base)):
        words += ["imports", *own]
    # By the names in the file: neither the order of imports nor where things lie decides anything.
    found = sorted(imports, key=lambda name: (imports[name], name))
    return Part(hashlib.sha256("\0".join(words).encode()).hexdigest()[:16], tuple(found))


def _write(node: ast.AST, words: list[str], imports: dict[str, str], base: str) -> None:
    """The node as words, without what decides nothing; imports are noted on the way."""
    if _is_words(node):
        return
    if isinstance(node, ast.If) and _is_type_checking(node.test):
        for one in node.orelse:
            _write(one, words, imports, base)
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        found = dict(_imported(node, base))
        imports.update(found)
        if isinstance(node, ast.ImportFrom) and _is_own(base) and all(map(_is_own, found)):
            return
    words.append(type(node).__name__)
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        # What an error says decides nothing; which one it is, and when it is raised, may.
        _write(node.exc.func, words, imports, base)
        return
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(node, ast.Call) and name == "keywords":
            value = [given for given in node.keywords if not _is_reporting(node, given)]
        if value is None or value == [] or name in ("ctx", "type_comment"):
            continue
        words.append(name)
        if isinstance(node, ast.JoinedStr):
            value = _merged(value)
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, ast.AST):
                _write(one, words, imports, base)
            else:
                words.append(repr(one))
        words.append(";")


def _merged(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string with neighbouring texts as one: Python 3.12 cuts them at escapes, 3.11 does not."""
    found: list[ast.expr] = []
    for one in values:
        before = found[-1] if found else None
        if isinstance(one, ast.Constant) and isinstance(before, ast.Constant):
            found[-1] = ast.Constant(str(before.value) + str(one.value))
        else:
            found.append(one)
    return [one for one in found if not (isinstance(one, ast.Constant) and one.value == "")]


def _is_words(node: ast.AST) -> bool:
    """A docstring, or a class's words about itself."""
    if isinstance(node, ast.Expr):
        return _is_text(node.value)
    if (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and "ClassVar" in ast.dump(node.annotation)
    ):
        return node.target.id in DESCRIBING and _is_text(node.value)
    return False


def _is_text(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_type_checking(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id == "TYPE_CHECKING") or (
        isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING"
    )


def _is_row(one: ast.stmt) -> bool:
    """Whether a statement at a file's top makes rows of a catalogue, or registers them."""
    if not isinstance(one, ast.Assign | ast.AnnAssign | ast.Expr | ast.For):
        return False
    return any(isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in ROWS for n in ast.walk(one))


def _is_reporting(call: ast.Call, given: ast.keyword) -> bool:
    """Whether an argument of a row of the catalogue is about reports."""
    return isinstance(call.func, ast.Name) and call.func.id in ROWS and given.arg in REPORTING


def _is_own(name: str) -> bool:
    """Whether a module, or a thing in one, is of this project."""
    return name.partition(".")[0] in OWN


def _imported(node: ast.Import | ast.ImportFrom, base: str) -> Iterator[tuple[str, str]]:
    """(what, its name in the file): `from a import b` is a.b, which may be a module or a thing in a."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, alias.asname or alias.name) for alias in node.names)
        return
    above = base.split(".")[: len(base.split(".")) - node.level + 1] if node.level else []
    place = ".".join([*above, *([node.module] if node.module else [])])
    for alias in node.names:
        yield (place if alias.name == "*" else f"{place}.{alias.name}"), alias.asname or alias.name


# Kept between processes ----------------------------------------------------------------------------------------------


class Kept:
    """Parts by the sha256 of a file's content, in one file beside the image cache; a lost one is made again."""

    def __init__(self) -> None:
        self._known: dict[str, Parts] | None = None
        self._fresh = False

    def parts(self, data: bytes, module: str, *, package: bool, rows: bool) -> Parts:
        """As `parse`, which is asked only for a content that is not known."""
        key = hashlib.sha256(data).hexdigest()[:32] + f":{module}:{int(package)}{int(rows)}"
        known = self._read()
        if key not in known:
            known[key] = parse(data, module, package=package, rows=rows)
            self._fresh = True
        return known[key]

    def save(self) -> None:
        """Keep what was parsed; a place that cannot be written costs time and nothing else."""
        if not self._fresh:
            return
        self._fresh = False
        text = json.dumps({"format": FORMAT, "files": dict(list(self._read().items())[-2000:])})
        try:
            self._place().parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._place(), text.encode())
        except OSError:
            pass

    def _place(self) -> Path:
        return default_folder() / "code.json"

    def _read(self) -> dict[str, Parts]:
        if self._known is None:
            self._known = {}
            try:
                found: Any = json.loads(self._place().read_bytes())
                if found["format"] == FORMAT:
                    for key, parts in found["files"].items():
                        self._known[key] = {name: Part(str(d), tuple(i)) for name, (d, i) in parts.items()}
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                pass
        return self._known
