"""A YAML text as plain data that remembers where each value was written, so that every error can name its line.

Only the node tree is used, never YAML's constructors for objects: a suite is text, numbers, lists and mappings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import yaml  # type: ignore[import-untyped,unused-ignore]
from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from bench.errors import UserError, nearest

Path = tuple[str | int, ...]
Fault = tuple[Path, str]

_TAG = "tag:yaml.org,2002:"
_NUMBERS = frozenset(_TAG + kind for kind in ("int", "float", "bool", "null"))
# A bare date, `=` or `<<` is text to us: no field of a suite is a date, and nothing is merged.
_TEXTS = frozenset(_TAG + kind for kind in ("str", "timestamp", "value", "merge"))
_MAX_DEPTH = 20
_MAX_WHOLE = 2**63 - 1
_SHOWN_CHARACTERS = 60
_EXPECTED = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "path_type": "a path",
}


class Place(NamedTuple):
    """Where a value was written; places sort by line, those of the command line first."""

    line: int
    shown: str


@dataclass
class Document:
    """The data of one file after `--set`, and the place of each key and list entry."""

    data: dict[str, Any]
    places: dict[Path, Place]
    twice: list[tuple[Place, str]] = field(default_factory=list)
    overridden: set[str] = field(default_factory=set)

    def known(self, path: Path) -> Path:
        """The longest beginning of `path` that somebody wrote; validation may look deeper than the text goes."""
        while path not in self.places:
            path = path[:-1]
        return path

    def place(self, path: Path) -> Place:
        """The place of a value, or of the nearest value around it."""
        return self.places[self.known(path)]

    def refuse(self, faults: Iterable[Fault]) -> None:
        """Raise a UserError for the first fault by line, counting the others; do nothing without any."""
        found = sorted([*self.twice, *((self.place(path), text) for path, text in faults)], key=lambda one: one[0].line)
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise _error(found[0][0], found[0][1] + more)

    def override(self, setting: str) -> None:
        """Apply one `key.path=value` of the command line; keys it adds are judged with all the others."""
        place = Place(0, f"--set {setting}")
        dotted, equals, text = setting.partition("=")
        path = tuple(part.strip() for part in dotted.split("."))
        if not equals or not all(path):
            raise _error(place, "expected key=value, such as steps=20 or methods.2.n=8")
        walk = _Walk(text, at=lambda _line: place)
        target, reached = self._descend(path, place)
        for old in [old for old in self.places if old[: len(reached)] == reached]:
            del self.places[old]
        target[reached[-1]] = walk.value(reached)
        self.places |= walk.places
        if walk.twice:
            raise _error(*walk.twice[0])
        self.overridden.add(path[0])

    def _descend(self, path: tuple[str, ...], place: Place) -> tuple[Any, Path]:
        """The container that holds the last key of `path`, and the path with list positions as numbers."""
        container: Any = self.data
        reached: Path = ()
        for part in path:
            if reached:
                inner = container[reached[-1]]
                if inner is None:
                    inner = container[reached[-1]] = {}
                container = inner
            reached = (*reached, _key(container, part, reached=reached, place=place))
            if isinstance(container, dict) and reached not in self.places:
                container[part] = None
                self.places[reached] = place
        return container, reached


def read(text: str, *, file: str) -> Document:
    """Parse one YAML text whose top is a mapping; UserError with `file:line` for all that is not plain data."""
    walk = _Walk(text, at=lambda line: Place(line, f"{file}:{line}"))
    data = walk.value(())
    if not isinstance(data, dict):
        raise _error(walk.places[()], f"expected a mapping of keys to values, got {shown(data)}")
    return Document(data=data, places=walk.places, twice=walk.twice)


def shown(value: Any) -> str:
    """A value as a reader of YAML would name it, cut to fit on a line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def faults(found: Iterable[Fault]) -> None:
    """Inside a validator: raise messages of our own, which pydantic collects with its own; nothing without any."""
    lines = [
        InitErrorDetails(type=PydanticCustomError("fault", "{said}", {"said": said}), loc=path, input=None)
        for path, said in found
    ]
    if lines:
        raise ValidationError.from_exception_data("suite", lines)


def fault(said: str, *path: str | int) -> NoReturn:
    """Inside a validator: raise one message, at a path below the value under validation."""
    faults([(path, said)])
    raise AssertionError("one fault always raises")


def phrase(error: Mapping[str, Any], *, subject: str, known: Iterable[str] = (), noun: str = "key") -> str:
    """One pydantic error in this project's words; `known` are the keys that an unknown one may have meant."""
    kind, said = error["type"], error["msg"]
    if kind == "fault":
        return str(said)
    if kind == "extra_forbidden":
        return f"unknown {noun} {str(error['loc'][-1])!r}{nearest(str(error['loc'][-1]), known)}"
    if kind == "missing":
        return f"missing {noun} {str(error['loc'][-1])!r}"
    if kind == "too_short" and not error["input"]:
        return f"{subject} is empty; expected at least one entry"
    if kind in _EXPECTED:
        return f"{subject} should be {_EXPECTED[kind]}, got {shown(error['input'])}"
    if kind == "value_error":
        return f"{subject}: {error['ctx']['error']}"
    return f"{subject} {re.sub(r'^[A-Z][a-z]+ should', 'should', said)}, got {shown(error['input'])}"


def _error(place: Place, text: str) -> UserError:
    # The one line of an error stays one line, whatever a file's name or a parser's message holds.
    return UserError(" ".join(f"{place.shown}: {text}".splitlines()))


def _key(container: Any, part: str, *, reached: Path, place: Place) -> str | int:
    """`part` as a key of a mapping or a position in a list."""
    if isinstance(container, dict):
        return part
    name = ".".join(map(str, reached))
    if not isinstance(container, list):
        raise _error(place, f"{name!r} is {shown(container)}, which has no keys to set")
    if not (part.isascii() and part.isdigit() and len(part) < 10 and int(part) < len(container)):
        raise _error(place, f"{name!r} has {len(container)} entries, counted from 0; there is no {part!r}")
    return int(part)


class _Loader(yaml.SafeLoader):  # type: ignore[misc,unused-ignore]
    """Composes nodes without aliases and without deep nesting, the two ways for a small file to become a large one."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call,unused-ignore]
        if self.check_event(yaml.AliasEvent):  # type: ignore[no-untyped-call,unused-ignore]
            raise _Refused(None, None, f"alias {'*' + event.anchor!r}: write the value out instead", event.start_mark)
        if self.depth >= _MAX_DEPTH:
            raise _Refused(None, None, f"nested more than {_MAX_DEPTH} levels deep", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)  # type: ignore[arg-type,unused-ignore]
        self.depth -= 1
        return node


# YAML 1.1, which PyYAML reads, wants a point in 1e-4 and takes it for text without one; YAML 1.2 does not.
_Loader.add_implicit_resolver(  # type: ignore[no-untyped-call,unused-ignore]
    _TAG + "float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class _Refused(yaml.MarkedYAMLError):  # type: ignore[misc,unused-ignore]
    """Valid YAML that a suite may not hold."""


class _Walk:
    """One text's node tree turned into data; `at` gives the place of a line."""

    def __init__(self, text: str, *, at: Callable[[int], Place]) -> None:
        self.at = at
        self.places: dict[Path, Place] = {}
        self.twice: list[tuple[Place, str]] = []
        try:
            self.loader = _Loader(text)
            self.root = self.loader.get_single_node()
        except _Refused as error:
            raise _error(self._mark(error.problem_mark), str(error.problem)) from None
        except yaml.MarkedYAMLError as error:
            said = ", ".join(part for part in (error.context, error.problem) if part)
            raise _error(self._mark(error.problem_mark or error.context_mark), f"not valid YAML: {said}") from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise _error(at(line), f"not valid YAML: character {text[error.position]!r} is not allowed") from None
        except (ValueError, OverflowError):
            # PyYAML hands the code of an escape such as "\UFFFFFFFF" to chr() unchecked, and tells no place.
            raise _error(at(1), "not valid YAML: an escape names no character") from None

    def value(self, path: Path) -> Any:
        """The text's data, with its places recorded under `path`."""
        self.places[path] = self._mark(self.root.start_mark) if self.root else self.at(1)
        return self._value(self.root, path) if self.root else None

    def _mark(self, mark: Any) -> Place:
        return self.at(mark.line + 1 if mark else 1)

    def _value(self, node: yaml.Node, path: Path) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            for index, item in enumerate(node.value):
                self.places[*path, index] = self._mark(item.start_mark)
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _TEXTS:
            return node.value
        if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS:
            return self._number(node)
        tag = repr(node.tag.replace(_TAG, "!!"))
        raise self._refused(node, f"tag {tag} is not allowed; a suite is text, numbers, lists and mappings")

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.value:
            # A key is its text: `on: 1` and `2: x` have the keys "on" and "2".
            if not isinstance(key, yaml.ScalarNode):
                raise self._refused(key, "a key should be text, got a list or a mapping")
            place = self._mark(key.start_mark)
            if key.value in data:
                first = self.places[*path, key.value].line
                before = f" (first on line {first})" if first else ""
                self.twice.append((place, f"duplicate key {key.value!r}{before}"))
                continue
            self.places[*path, key.value] = place
            data[key.value] = self._value(value, (*path, key.value))
        return data

    def _number(self, node: yaml.ScalarNode) -> Any:
        try:
            value = self.loader.construct_object(node)  # type: ignore[no-untyped-call,unused-ignore]
        except (ValueError, LookupError):
            raise self._refused(node, f"{shown(node.value)} is not {node.tag.removeprefix(_TAG)}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refused(node, f"{node.value!r} is not a finite number")
        if isinstance(value, int) and abs(value) > _MAX_WHOLE:
            raise self._refused(node, f"{shown(node.value)} is too large a number")
        return value

    def _refused(self, node: yaml.Node, text: str) -> UserError:
        return _error(self._mark(node.start_mark), text)
